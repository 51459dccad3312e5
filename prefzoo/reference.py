"""Reference log-probs: once per model and data set, kept on disk by content, shared by all variants and later runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.logprobs import score
from prefzoo.paths import cache_dir
from prefzoo.progress import Report
from prefzoo.types import LogProbs

ENGINE = 1  # raise when the engine's numbers change: cached log-probs of another engine are not read
BATCH = 8


def rows_key(pairs: Sequence[TokenPair]) -> str:
    """Hash of the token ids, in order."""
    rows = [(p.prompt, p.chosen, p.rejected) for p in pairs]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def cache_file(weights: str, pairs: Sequence[TokenPair], *, shared: bool, bf16: bool) -> Path:
    """Where the log-probs of these rows under these weights are kept."""
    name = f"{weights}-{rows_key(pairs)}-{'shared' if shared else 'single'}-{'bf16' if bf16 else 'fp32'}-v{ENGINE}"
    return cache_dir("reference") / f"{name}.safetensors"


@torch.no_grad()
def logprobs(
    model: Any, pairs: Sequence[TokenPair], *, shared: bool, bf16: bool, report: Report | None = None
) -> LogProbs:
    """Log-probs of every pair, in order, on the CPU; the model stays where it is."""
    parts: list[LogProbs] = []
    device = next(model.parameters()).device
    pad = model.config.pad_token_id or 0
    for start in range(0, len(pairs), BATCH):
        batch = collate(pairs[start : start + BATCH], shared=shared, pad=pad).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            parts.append(score(model, batch))
        if report:
            report(min(start + BATCH, len(pairs)), len(pairs), "")
    return LogProbs(
        *(torch.cat([getattr(p, name).cpu() for p in parts]) for name in ("chosen", "rejected")),
        *(torch.cat([getattr(p, name).cpu() for p in parts]) for name in ("chosen_len", "rejected_len")),
    )


def read(path: Path) -> LogProbs | None:
    """What is cached in `path`; None where there is nothing that can be read."""
    if not path.is_file():
        return None
    try:
        found = load_file(path)
        return LogProbs(found["chosen"], found["rejected"], found["chosen_len"], found["rejected_len"])
    except Exception:  # a broken file is made again
        return None


def write(path: Path, values: LogProbs) -> None:
    """Keep log-probs; a reader sees the whole file or none."""
    partial = path.with_suffix(f".partial{torch.initial_seed() % 10_000}")
    fields = ("chosen", "rejected", "chosen_len", "rejected_len")
    save_file({name: getattr(values, name).contiguous() for name in fields}, partial)
    partial.replace(path)


def scatter(values: LogProbs, rows: Sequence[int], size: int) -> LogProbs:
    """The log-probs of `rows` at their places among `size` pairs; all others are NaN, so that none is used unseen."""
    at = torch.tensor(rows)
    sums = [torch.full((size,), math.nan).index_copy(0, at, v) for v in (values.chosen, values.rejected)]
    lengths = [torch.zeros(size, dtype=v.dtype).index_copy(0, at, v) for v in (values.chosen_len, values.rejected_len)]
    return LogProbs(*sums, *lengths)


def take(values: LogProbs, rows: Sequence[int], device: torch.device) -> LogProbs:
    """The log-probs of some pairs, on a device."""
    at = torch.tensor(rows)
    return LogProbs(
        values.chosen[at].to(device),
        values.rejected[at].to(device),
        values.chosen_len[at].to(device),
        values.rejected_len[at].to(device),
    )
