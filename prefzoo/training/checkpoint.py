"""Checkpoints of a training, so that a killed one goes on: the same steps, bit for bit.

One safetensors file per checkpoint: the trained weights, the optimizer's moments, a loss's state, a live reference, and
in its metadata, as JSON, the rest. Its name ends in the hash of its content. The state of the random number generators
is not needed: each step seeds them again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prefzoo.runtime import atomic_files
from prefzoo.runtime.sharding import gather_full_tensor, shard_like
from prefzoo.training.moving_reference import MovingReference
from prefzoo.types import to_device

FORMAT = 1  # raise it when the content of a checkpoint changes: other versions are not read


@dataclass(frozen=True)
class Point:
    """The state of a training between two steps, besides the tensors that it changes in place.

    Attributes:
        step: steps done.
        seconds: time that they took.
        logged: bytes of metrics.jsonl that belong to them.
        metrics: the last step's.
        state: the loss's.
        halvings: how often a pass did not fit into memory, and all after it were made half as large.
    """

    step: int = 0
    seconds: float = 0.0
    logged: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    state: Any = None
    halvings: int = 0


@dataclass(frozen=True)
class Parts:
    """All that a training changes in place."""

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    moving: MovingReference | None = None

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every tensor that lasts from step to step, except the optimizer's."""
        for name, p in self.policy.named_parameters():
            if p.requires_grad:
                yield f"policy.{name}", p
        if self.moving is not None:
            yield from self.moving.tensors()

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """Return a name and the parameter for each state of the optimizer."""
        return ((f"optimizer.{name}", p) for name, p in self.policy.named_parameters() if p.requires_grad)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every tensor that a checkpoint holds."""
        yield from self.weights()
        for name, p in self.moments():
            for field_name, value in self.optimizer.state[p].items():
                # bitsandbytes counts steps in a plain integer
                yield f"{name}.{field_name}", torch.tensor(value) if isinstance(value, int) else value


@dataclass
class Checkpoints:
    """The checkpoints of one training, in their own folder; the newest intact one counts.

    Attributes:
        key: hash of all that decides the training's outcome; a checkpoint of another key is not read.
        every: seconds between two of them; 0 means after every step.
        report_line: receives each line for the user.
        written: when the last one was written, by the monotonic clock.
    """

    folder: Path
    key: str
    every: float
    report_line: Callable[[str], None]
    written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Return whether it is time for the next one."""
        return time.monotonic() - self.written >= self.every

    def write(self, parts: Parts, point: Point, *, main: bool = True) -> None:
        """Write a checkpoint; the one before it stays until `prune` is called. All processes call this.

        Args:
            parts: the tensors that training changes.
            point: where it stands.
            main: whether this is the main process, which writes.
        """
        tensors, plain = _flatten_state(point.state)
        places: set[int] = set()
        for name, value in parts.tensors():
            full = gather_full_tensor(value)
            if main:
                own = full.cpu().contiguous()
                # bitsandbytes' parameters share their tables of levels, which safetensors does not write
                tensors[name] = own.clone() if own.data_ptr() in places else own
                places.add(own.data_ptr())
        if main:
            self._write(tensors, {"format": FORMAT, "key": self.key, "point": asdict(replace(point, state=plain))})
        self.written = time.monotonic()

    def _write(self, tensors: dict[str, Tensor], head: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_files.flush_to_disk(self.folder.parent)  # where the names of this folder and of the log stand
        atomic_files.remove_partial_files(self.folder)
        with atomic_files.partial_file(self.folder / f"step-{head['point']['step']:08}") as partial:
            save_file(tensors, partial, {"prefzoo": json.dumps(head)})
            target = self.folder / f"step-{head['point']['step']:08}-{_hash(partial)}.safetensors"
            atomic_files.move_into_place(partial, target)

    def newest(self) -> tuple[int, bool] | None:
        """Return the number of steps after which the newest was written, and whether it is of these settings.

        Nothing is removed, and contents are not verified. None if there is no checkpoint.
        """
        for path in self._files():
            try:
                head = _head(path)
                return int(head["point"]["step"]), (head["format"], head["key"]) == (FORMAT, self.key)
            except (OSError, SafetensorError, ValueError, KeyError):
                continue
        return None

    def prune(self) -> None:
        """Remove all checkpoints but the newest."""
        for old in self._files()[1:]:
            old.unlink()

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, whose metrics are cut off when training goes on from this one."""
        for later in self._files():
            if _step(later) > step:
                later.unlink()

    def usable(self, log: Path) -> dict[int, Path]:
        """Return the readable checkpoints, by the number of steps done; report why others cannot be read.

        If there is none, everything else in the folder is removed: a checkpoint of other settings would outlive the
            metrics that it needs.

        Args:
            log: the file of metrics, which must hold what was logged until then.
        """
        readable: dict[int, Path] = {}
        for path in self._files():
            reason = self._why_unusable(path, log)
            if reason:
                self.report_line(f"{path}: {reason}; not read")
            else:
                readable.setdefault(_step(path), path)
        if not readable:
            self.remove()
        return readable

    def remove(self) -> None:
        """Remove all checkpoints, as of a finished training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _why_unusable(self, path: Path, log: Path) -> str:
        """Return why a checkpoint cannot be used; an empty string if it can."""
        if _hash(path) != path.stem.rpartition("-")[2]:
            return "damaged (its checksum is wrong)"
        try:
            head = _head(path)
        except (SafetensorError, ValueError, KeyError):
            return "not a checkpoint of prefzoo"
        if head["format"] != FORMAT or head["key"] != self.key:
            return "a checkpoint of other settings"
        if not log.is_file() or log.stat().st_size < head["point"]["logged"]:
            return f"{log.name} beside it lacks the steps before it"
        return ""


def load(path: Path, parts: Parts, start: Any, device: torch.device) -> Point:
    """Copy a checkpoint's tensors into those of a training.

    Args:
        path: the checkpoint.
        parts: the tensors of the training.
        start: the loss's state at the start of a training, which has the same structure.
        device: where the loss's state is put.

    Returns:
        the point that the training stood at.
    """
    point = _head(path)["point"]
    with safe_open(path, "pt") as file:
        _copy_into(parts, file)
        return Point(**{**point, "state": _build_state(start, "state", file, point["state"], device)})


def _head(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        head: dict[str, Any] = json.loads((file.metadata() or {})["prefzoo"])
    return head


def _step(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _hash(path: Path) -> str:
    return atomic_files.sha256_of_file(path)[:16]


def _flatten_state(state: Any, at: str = "state") -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of a loss's state by name, and its other values in the same structure, for JSON."""
    if isinstance(state, Tensor):
        return {at: state}, None
    if not isinstance(state, tuple | list) and not is_dataclass(state):
        return {}, state
    tensors: dict[str, Tensor] = {}
    plain = {}
    for name, value in _fields(state):
        inside, plain[name] = _flatten_state(value, f"{at}.{name}")
        tensors |= inside
    return tensors, plain


def _build_state(start: Any, at: str, file: Any, plain: Any, device: torch.device) -> Any:
    """Return a loss's state, of the structure that it has at the start."""
    if isinstance(start, Tensor):
        return file.get_tensor(at).clone().to(device)
    if not isinstance(start, tuple | list) and not is_dataclass(start):
        return plain
    values = {name: _build_state(value, f"{at}.{name}", file, plain[name], device) for name, value in _fields(start)}
    return replace(start, **values) if is_dataclass(start) else type(start)(values.values())  # type: ignore[type-var]


def on_device(state: Any, device: torch.device) -> Any:
    """Return a loss's state with its tensors on a device: a loss computes with them and with log-probs from there."""
    if isinstance(state, Tensor):
        return to_device([state], device)[0]
    if not isinstance(state, tuple | list) and not is_dataclass(state):
        return state
    values = {name: on_device(value, device) for name, value in _fields(state)}
    return replace(state, **values) if is_dataclass(state) else type(state)(values.values())  # type: ignore[type-var]


def _fields(state: Any) -> list[tuple[str, Any]]:
    if is_dataclass(state):
        return [(f.name, getattr(state, f.name)) for f in fields(state)]
    return [(str(i), value) for i, value in enumerate(state)]


@torch.no_grad()
def _copy_into(parts: Parts, file: Any) -> None:
    """Copy into the tensors that are there, so that their memory, and with it the order of every sum, stays."""
    for name, target in parts.weights():
        target.copy_(shard_like(file.get_tensor(name), target))
    names = set(file.keys())
    for name, p in parts.moments():
        values = {n.removeprefix(f"{name}."): file.get_tensor(n).clone() for n in names if n.startswith(f"{name}.")}
        parts.optimizer.state[p] = {key: _restored(value, p) for key, value in values.items()}


def _restored(value: Tensor, parameter: Tensor) -> Tensor | int:
    if value.ndim == 0 and value.dtype == torch.int64:
        return int(value)
    return value.to(parameter.device) if value.ndim == 0 else shard_like(value, parameter)
