"""Reference log-probs: once per model and data set, kept on disk by content, shared by all variants and later runs."""

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
from prefzoo.runtime import atomic_files
from prefzoo.runtime.memory import retry_with_smaller_batches
from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.progress import Report
from prefzoo.types import LogProbs

ENGINE = 4  # raise when the engine's numbers change: cached log-probs of another engine are not read
TOKENS = 4096  # of a forward pass without gradients
CHECKSUM = "sha256"  # in the file's metadata


def rows_key(pairs: Sequence[TokenExample]) -> str:
    """Return a hash of the token ids, in order."""
    rows = [(e.prompt, *e.answers, [])[:3] for e in pairs]  # [] for a second answer keeps the keys of older caches
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def cache_file(
    weights: str, pairs: Sequence[TokenExample], kind: type[LogProbs], layout: Layout, *, bf16: bool
) -> Path:
    """Where the log-probs of these rows under these weights are kept."""
    precision = "bf16" if bf16 else "fp32"
    name = f"{weights}-{rows_key(pairs)}-{kind.__name__}-{layout}-{precision}-v{ENGINE}"
    return cache_dir("reference") / f"{name}.safetensors"


@torch.no_grad()
def logprobs(
    model: Any, pairs: Sequence[TokenExample], layout: Layout, kind: type[LogProbs] = LogProbs, *, bf16: bool,
    report: Report | None = None,
) -> LogProbs:  # fmt: skip
    """Log-probs of every pair, in order, on the CPU; the model stays where it is."""
    parts: list[LogProbs] = []
    device = next(model.parameters()).device
    padding = model.config.pad_token_id or 0

    def scored(part: Sequence[int]) -> list[LogProbs]:
        batch = collate([pairs[i] for i in part], layout, pad=padding).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return [score(model, batch, kind)]

    for part in split(pairs, range(len(pairs)), TOKENS, None):
        parts += retry_with_smaller_batches(scored, part)
        if report:
            report(part[-1] + 1, len(pairs), "")
    return concatenate(parts)


def concatenate(parts: Sequence[LogProbs]) -> LogProbs:
    """The log-probs of several batches, one behind the other, on the CPU."""
    kind = type(parts[0])
    return kind(*(_stacked([getattr(p, f.name).cpu() for p in parts]) for f in fields(kind)))


def _stacked(parts: list[Tensor]) -> Tensor:
    """(P,) of (b,) parts; (P, T) of (b, t) parts, with zeros behind the shorter ones."""
    width = max(part.shape[-1] for part in parts)
    return torch.cat([pad(p, (0, width - p.shape[1])) if p.ndim > 1 else p for p in parts])


def read_cached(path: Path, kind: type[LogProbs], say: Callable[[str], None] = print) -> LogProbs | None:
    """What is cached in `path`; None where there is nothing, or, which is said, something that is broken."""
    if not path.is_file():
        return None
    try:
        found = load_file(path)
        with safe_open(path, "pt") as kept:
            if (kept.metadata() or {})[CHECKSUM] != _checksum(found):
                raise ValueError("other numbers than were written")
        return kind(*(found[f.name] for f in fields(kind)))
    except Exception:  # whatever reading what is broken may raise
        say(f"{path}: broken (its content is not what was written); computed again")
        return None


def write_cached(path: Path, values: LogProbs) -> None:
    """Keep log-probs; a reader sees the whole file or none."""
    tensors = {f.name: getattr(values, f.name).contiguous() for f in fields(values)}
    with atomic_files.write_atomically(path) as partial:
        save_file(tensors, partial, {CHECKSUM: _checksum(tensors)})


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def scatter_rows(values: LogProbs, rows: Sequence[int], size: int) -> LogProbs:
    """The log-probs of `rows` at their places among `size` pairs; all others are NaN, so that none is used unseen."""
    at = torch.tensor(rows)

    def spread(found: Tensor) -> Tensor:
        nothing = math.nan if found.is_floating_point() else 0
        return found.new_full((size, *found.shape[1:]), nothing).index_copy(0, at, found)

    return type(values)(*(spread(getattr(values, f.name)) for f in fields(values)))


def select_rows(values: LogProbs, rows: Sequence[int], device: torch.device) -> LogProbs:
    """The log-probs of some pairs, on a device; token values are cut to the longest answer among them."""
    at = torch.tensor(rows)
    width = int(torch.maximum(values.chosen_len[at], values.rejected_len[at]).max())
    found = [getattr(values, f.name)[at].to(device) for f in fields(values)]
    return type(values)(*(v[:, :width] if v.ndim > 1 else v for v in found))
