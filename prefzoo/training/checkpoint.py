"""Where a training stands, on disk, so that a killed one goes on: the same steps, bit for bit.

One safetensors file per checkpoint: the trained weights, the optimizer's moments, a loss's state, a live reference, and
in its metadata, as JSON, the rest. Its name ends in the hash of its content. Random numbers need no keeping: each step
seeds them anew.
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

FORMAT = 1  # raise when what a checkpoint holds changes: others are not read


@dataclass(frozen=True)
class Point:
    """Between two steps: how many are done, in how many seconds, and what the next one needs besides tensors in place.

    Attributes:
        logged: bytes of metrics.jsonl that belong to the steps done.
        state: the loss's.
        halvings: how often a pass was too large for the memory, and all after it were made half as large.
    """

    step: int = 0
    seconds: float = 0.0
    logged: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    state: Any = None
    halvings: int = 0


@dataclass(frozen=True)
class Parts:
    """What a training changes in place."""

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    live: nn.Module | None = None

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that lasts from step to step, the optimizer's aside."""
        for name, p in self.policy.named_parameters():
            if p.requires_grad:
                yield f"policy.{name}", p
        if self.live is not None:
            for name, p in self.live.named_parameters():
                yield f"live.{name}", p

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """A name and a parameter for each state that the optimizer keeps."""
        return ((f"optimizer.{name}", p) for name, p in self.policy.named_parameters() if p.requires_grad)

    def kept(self) -> Iterator[tuple[str, Tensor]]:
        """All that a checkpoint holds of them."""
        yield from self.weights()
        for name, p in self.moments():
            for what, value in self.optimizer.state[p].items():
                yield f"{name}.{what}", value


@dataclass
class Checkpoints:
    """Those of one training, in a folder of its own; the newest whole one counts.

    Attributes:
        key: hash of all that decides the training's outcome; a checkpoint of another key is not read.
        every: seconds between two of them; 0 means after every step.
        say: takes a line for the user.
    """

    folder: Path
    key: str
    every: float
    say: Callable[[str], None]
    written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        return time.monotonic() - self.written >= self.every

    def write(self, parts: Parts, point: Point, *, main: bool = True, prune: bool = True) -> None:
        """Keep a point; the checkpoint before goes only when this one is safely on disk. All processes call this.

        Without `prune` it stays until `prune` is called.
        """
        tensors, plain = _flat(point.state)
        for name, value in parts.kept():
            full = gather_full_tensor(value)
            if main:
                tensors[name] = full.cpu().contiguous()
        if main:
            self._write(tensors, {"format": FORMAT, "key": self.key, "point": asdict(replace(point, state=plain))})
            if prune:
                self.prune()
        self.written = time.monotonic()

    def _write(self, tensors: dict[str, Tensor], head: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_files.flush_to_disk(self.folder.parent)  # where the names of this folder and of the log stand
        atomic_files.remove_partial_files(self.folder)
        with atomic_files.partial_file(self.folder / f"step-{head['point']['step']:08}") as partial:
            save_file(tensors, partial, {"prefzoo": json.dumps(head)})
            target = self.folder / f"step-{head['point']['step']:08}-{_hash(partial)}.safetensors"
            atomic_files.move_into_place(partial, target)

    def prune(self) -> None:
        """All checkpoints but the newest go."""
        for old in self._files()[1:]:
            old.unlink()

    def newest(self, log: Path) -> Path | None:
        """The last checkpoint that can be read; where there is none, whatever else is there goes.

        Args:
            log: the file of metrics, which must hold what was logged until then.
        """
        found = self.usable(log)
        if found:
            return found[max(found)]
        self.remove()  # else one of other settings would outlive the log that it counts on
        return None

    def usable(self, log: Path) -> dict[int, Path]:
        """The checkpoints that can be read, by the steps done; of the others it is said why not."""
        found: dict[int, Path] = {}
        for path in self._files():
            why = self._refused(path, log)
            if why:
                self.say(f"{path}: {why}; not read")
            else:
                found.setdefault(int(path.stem.split("-")[1]), path)
        return found

    def remove(self) -> None:
        """Of a finished training, none is needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _refused(self, path: Path, log: Path) -> str:
        """Why a checkpoint cannot be used, or nothing."""
        if _hash(path) != path.stem.rpartition("-")[2]:
            return "broken (its content is not what its name says)"
        try:
            head = _head(path)
        except (SafetensorError, ValueError, KeyError):
            return "no checkpoint of prefzoo's"
        if head["format"] != FORMAT or head["key"] != self.key:
            return "a checkpoint of other settings"
        if not log.is_file() or log.stat().st_size < head["point"]["logged"]:
            return f"{log.name} beside it lacks the steps before it"
        return ""


def load(path: Path, parts: Parts, start: Any, device: torch.device) -> Point:
    """Put a checkpoint's tensors in place and return its point. `start` is the shape of the loss's state."""
    point = _head(path)["point"]
    with safe_open(path, "pt") as kept:
        _put(kept, parts)
        return Point(**{**point, "state": _built(start, "state", kept, point["state"], device)})


def _head(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as kept:
        found: dict[str, Any] = json.loads((kept.metadata() or {})["prefzoo"])
    return found


def _hash(path: Path) -> str:
    return atomic_files.sha256_of_file(path)[:16]


def _flat(state: Any, at: str = "state") -> tuple[dict[str, Tensor], Any]:
    """The tensors of a loss's state by name, and what else it holds in the same shape, for JSON."""
    if isinstance(state, Tensor):
        return {at: state}, None
    if not isinstance(state, tuple | list) and not is_dataclass(state):
        return {}, state
    tensors: dict[str, Tensor] = {}
    plain = {}
    for name, value in _members(state):
        inside, plain[name] = _flat(value, f"{at}.{name}")
        tensors |= inside
    return tensors, plain


def _built(start: Any, at: str, kept: Any, plain: Any, device: torch.device) -> Any:
    """A loss's state, of the shape it has at the start."""
    if isinstance(start, Tensor):
        return kept.get_tensor(at).clone().to(device)
    if not isinstance(start, tuple | list) and not is_dataclass(start):
        return plain
    made = {name: _built(value, f"{at}.{name}", kept, plain[name], device) for name, value in _members(start)}
    return replace(start, **made) if is_dataclass(start) else type(start)(made.values())  # type: ignore[type-var]


def _members(state: Any) -> list[tuple[str, Any]]:
    if is_dataclass(state):
        return [(f.name, getattr(state, f.name)) for f in fields(state)]
    return [(str(i), value) for i, value in enumerate(state)]


@torch.no_grad()
def _put(kept: Any, parts: Parts) -> None:
    """Into the tensors that are there, so that their memory, and with it the order of every sum, stays as it was."""
    for name, target in parts.weights():
        target.copy_(shard_like(kept.get_tensor(name), target))
    names = set(kept.keys())
    for name, p in parts.moments():
        found = {n.removeprefix(f"{name}."): kept.get_tensor(n).clone() for n in names if n.startswith(f"{name}.")}
        parts.optimizer.state[p] = {
            what: value.to(p.device) if value.ndim == 0 else shard_like(value, p) for what, value in found.items()
        }
