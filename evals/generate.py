"""Answers of a model, in batches: chat template applied once, left padding, reproducible sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from evals.judges.protocol import Answer
from prefzoo.data.tokens import encode_prompt

Progress = Callable[[int, int], None]


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    n: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 50,
    progress: Progress | None = None,
) -> list[list[Answer]]:
    """`n` answers per prompt, in the prompts' order; greedy at temperature 0.

    The model's mode and torch's random state are left as they were; each batch draws from its own seed.
    """
    ids = [encode_prompt(tokenizer, p) for p in prompts]
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    answers: list[list[Answer]] = [[] for _ in ids]
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        for start in range(0, len(by_length), batch_size):
            part = by_length[start : start + batch_size]
            torch.manual_seed(seed * 1_000_003 + start)
            made = _batch(model, tokenizer, [ids[i] for i in part], max_new_tokens, n, temperature)
            for i, found in zip(part, made, strict=True):
                answers[i] = found
            if progress:
                progress(min(start + batch_size, len(ids)), len(ids))
    model.train(was_training)
    return answers


def _batch(
    model: Any, tokenizer: Any, ids: list[list[int]], max_new_tokens: int, n: int, temperature: float
) -> list[list[Answer]]:
    width = max(map(len, ids))
    pad = tokenizer.pad_token_id
    tokens = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=model.device)
    ends = _ends(model, tokenizer)
    how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    out = model.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, num_return_sequences=n,
        pad_token_id=pad, eos_token_id=sorted(ends), **how,
    )  # fmt: skip
    made = [_answer(tokenizer, row, ends) for row in out[:, width:].tolist()]
    return [made[i : i + n] for i in range(0, len(made), n)]


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends an answer: the tokenizer's, and those of the model's own settings (an end of turn)."""
    named = model.generation_config.eos_token_id
    own = named if isinstance(named, list) else [named]
    return {i for i in [tokenizer.eos_token_id, *own] if i is not None}


def _answer(tokenizer: Any, row: list[int], ends: set[int]) -> Answer:
    length = next((at for at, token in enumerate(row) if token in ends), None)
    kept = row[:length]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), length is not None, len(kept))
