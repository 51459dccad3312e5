"""Compute the reference's log-probs once per model and data set, and cache them on disk for all variants and runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pad

from prefzoo.data.batches import Layout, collate, split
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.logprobs import score
from prefzoo.engine.sharded_model import ShardedModel, read
from prefzoo.errors import UserError
from prefzoo.runtime import atomic_files
from prefzoo.runtime.distributed import all_gather
from prefzoo.runtime.memory import is_out_of_memory, retry_with_smaller_batches
from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.progress import Report
from prefzoo.types import LogProbs, to_device

ENGINE = 4  # increment when the engine's numbers change, so that older cached log-probs are not read
TOKENS = {"cpu": 4096}  # tokens per forward pass, without gradients
DEFAULT_TOKENS = 32_768  # on other devices, which only large matrix products keep busy
SHARDED_TOKENS = 8192  # for sharded models, which leave little memory on each device
CHECKSUM = "sha256"  # key in the file's metadata


def rows_key(pairs: Sequence[TokenExample]) -> str:
    """Return a hash of the rows' token ids, and of which tokens are scored, in order."""
    digest, before = hashlib.sha256(), "["
    for example in pairs:  # the text that json.dumps writes for the whole list, piece by piece
        digest.update(f"{before}{json.dumps(_content(example))}".encode())
        before = ", "
    digest.update(b"[]" if before == "[" else b"]")
    return digest.hexdigest()[:16]


def _content(example: TokenExample) -> tuple[object, ...]:
    ids = (example.prompt, *example.answers, [])[:3]  # [] for a second answer keeps the keys of older caches
    return ids if example.scored is None else (*ids, example.scored)


def cache_file(
    weights: str, pairs: Sequence[TokenExample], kind: type[LogProbs], layout: Layout, *, bf16: bool,
    passes: Sequence[object] = (),
) -> Path:  # fmt: skip
    """Return the path under which log-probs are cached.

    Args:
        weights: Fingerprint of the model.
        pairs: The rows that are scored.
        kind: Which log-probs are computed.
        layout: How rows are laid out in a forward pass.
        bf16: Whether they are scored under bf16 autocast.
        passes: The passes in which the rows are scored; empty for the default ones.

    Returns:
        A file in the user's cache, which may not exist yet.
    """
    precision = "bf16" if bf16 else "fp32"
    own = f"-{hashlib.sha256(json.dumps(passes).encode()).hexdigest()[:16]}" if passes else ""
    name = f"{weights}-{rows_key(pairs)}{own}-{kind.__name__}-{layout}-{precision}-v{ENGINE}"
    return cache_dir("reference") / f"{name}.safetensors"


@torch.no_grad()
def logprobs(
    model: Any, pairs: Sequence[TokenExample], layout: Layout, kind: type[LogProbs] = LogProbs, *, bf16: bool,
    report: Report | None = None, passes: Sequence[Sequence[int]] | None = None,
) -> LogProbs:  # fmt: skip
    """Score every pair under a model, in passes sized for its device, or smaller ones if memory runs out.

    Args:
        model: A causal language model; it stays on its device. If it is sharded, all processes must call this, each
            with at least one pair of its own.
        pairs: The rows to score.
        layout: How pairs are laid out in a forward pass.
        kind: Which log-probs to return.
        bf16: Whether to score under bf16 autocast.
        report: Called with the number of pairs done, the number of all pairs and an empty note.
        passes: Indices of the pairs of each pass, to score them in other passes. If a pair is in several passes, the
            log-probs of the first one are returned.

    Returns:
        The log-probs of all pairs, in order, on the CPU.
    """
    parts: list[LogProbs] = []
    sharded = isinstance(model, ShardedModel)
    device = model.device if sharded else next(model.parameters()).device
    padding = model.config.pad_token_id or 0

    def scored(part: Sequence[int]) -> list[LogProbs]:
        batch = collate([pairs[i] for i in part], layout, pad=padding).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return [read(model, lambda whole: score(whole, batch, kind))]

    first: dict[int, int] = {}  # index of a pair's log-probs in the order of scoring
    done = 0
    tokens = SHARDED_TOKENS if sharded else TOKENS.get(device.type, DEFAULT_TOKENS)
    own = split(pairs, range(len(pairs)), tokens, None) if passes is None else passes
    idle = max(all_gather(len(own))) - len(own) if sharded else 0
    for part in own:
        parts += _in_lockstep(scored, part) if sharded else retry_with_smaller_batches(scored, part)
        for i in part:
            first.setdefault(i, done)
            done += 1
        if report:
            report(len(first), len(pairs), "")
    for _ in range(idle):
        _in_lockstep(scored, own[0])  # other processes have passes left, in which all must take part
    values = concatenate(parts)
    return values if passes is None else select_rows(values, [first[i] for i in range(len(pairs))], torch.device("cpu"))


def _in_lockstep(work: Callable[[Sequence[int]], list[LogProbs]], part: Sequence[int]) -> list[LogProbs]:
    """Return `work(part)` for a pass that all processes make together, so that no process can split it alone.

    Raises:
        UserError: Memory runs out.
    """
    try:
        return work(part)
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        reason = f"a pass of {len(part)} pairs does not fit into memory together with a process's part of the model"
        cure = "share the model among more GPUs, or for passes of training pairs, lower train.tokens"
        raise UserError(f"reference log-probs: {reason}; {cure}") from e


def concatenate(parts: Sequence[LogProbs]) -> LogProbs:
    """Concatenate the log-probs of several batches, on the CPU."""
    kind = type(parts[0])
    return kind(*(_stacked([getattr(p, f.name).cpu() for p in parts]) for f in fields(kind)))


def _stacked(parts: list[Tensor]) -> Tensor:
    """Concatenate (b,) parts to (P,), or (b, t) parts to (P, T) with zeros after the shorter ones."""
    width = max(part.shape[-1] for part in parts)
    return torch.cat([pad(p, (0, width - p.shape[1])) if p.ndim > 1 else p for p in parts])


def read_cached(path: Path, kind: type[LogProbs], warn: Callable[[str], None] = print) -> LogProbs | None:
    """Return cached log-probs, or None if there are none or the file is damaged.

    Args:
        path: The file that `cache_file` names.
        kind: Which log-probs the file holds.
        warn: Called with one message if the file is damaged.

    Returns:
        The log-probs, on the CPU, or None.
    """
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            if (file.metadata() or {})[CHECKSUM] != _checksum(tensors):
                raise ValueError("wrong checksum")
        return kind(*(tensors[f.name] for f in fields(kind)))
    except Exception:  # a damaged file may raise anything
        warn(f"{path}: damaged (its checksum is wrong); computed again")
        return None


def write_cached(path: Path, values: LogProbs) -> None:
    """Cache log-probs in `path`; a reader sees the whole file or none."""
    tensors = {f.name: getattr(values, f.name).contiguous() for f in fields(values)}
    with atomic_files.write_atomically(path) as partial:
        save_file(tensors, partial, {CHECKSUM: _checksum(tensors)})


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def scatter_rows(values: LogProbs, rows: Sequence[int], size: int) -> LogProbs:
    """Expand the log-probs of some rows to all rows; those of other rows are NaN, so that using them shows.

    Args:
        values: Log-probs of `rows`, in their order.
        rows: Row numbers.
        size: Number of all rows.

    Returns:
        Log-probs of `size` rows.
    """
    at = torch.tensor(rows)

    def spread(part: Tensor) -> Tensor:
        blank = math.nan if part.is_floating_point() else 0
        return part.new_full((size, *part.shape[1:]), blank).index_copy(0, at, part)

    return type(values)(*(spread(getattr(values, f.name)) for f in fields(values)))


def select_rows(values: LogProbs, rows: Sequence[int], device: torch.device) -> LogProbs:
    """Return the log-probs of some rows; values of tokens are cut to the longest answer among them.

    Args:
        values: Log-probs of all rows.
        rows: Numbers of the rows to return, in that order.
        device: Device to put them on.

    Returns:
        Log-probs of the selected rows, on `device`.
    """
    at = torch.tensor(rows)
    width = int(torch.maximum(values.chosen_len[at], values.rejected_len[at]).max())
    selected = [getattr(values, f.name)[at] for f in fields(values)]
    return type(values)(*to_device([v[:, :width] if v.ndim > 1 else v for v in selected], device))
