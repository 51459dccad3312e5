"""Answers of a model, in batches: chat template applied once, left padding, EOS kept apart, sampling by prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.encoding import encode_prompt
from prefzoo.evals.judges.protocol import Answer
from prefzoo.runtime.memory import retry_with_smaller_batches

Progress = Callable[[int, int], None]


class Draws:
    """Sampling as an argmax: scores over the temperature, and Gumbel noise from each row's own generator.

    What a row draws depends on its seed alone, not on who shares its batch (Gumbel-max trick; Maddison 2014,
    arXiv:1411.0030). A logits processor of transformers.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """(rows, vocabulary) scores whose largest is the token drawn."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self.temperature - noise.log()


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
    """`n` answers per prompt, in the prompts' order; greedy at temperature 0. See `drawn`."""
    ids = [encode_prompt(tokenizer, p) for p in prompts]
    rows = drawn(
        model, tokenizer, ids, max_new_tokens=max_new_tokens, n=n, temperature=temperature, seed=seed,
        batch_size=batch_size, progress=progress,
    )  # fmt: skip
    return [answers_of(model, tokenizer, several) for several in rows]


def answers_of(model: Any, tokenizer: Any, rows: Sequence[list[int]]) -> list[Answer]:
    """Of token ids, as `drawn` gives them."""
    ends = _ends(model, tokenizer)
    return [_answer(tokenizer, row, ends) for row in rows]


@torch.no_grad()
def drawn(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    n: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 50,
    progress: Progress | None = None,
) -> list[list[list[int]]]:
    """Token ids of `n` answers to each prompt's ids, up to and with the token that ends one.

    The model's mode and torch's random state are left as they were. Each answer draws from a seed of its own, made of
    `seed`, the prompt and its number, so that neither the batch nor the order of the prompts changes it.
    """

    def answered(some: Sequence[tuple[list[int], int]]) -> list[list[int]]:
        ids, own = zip(*some, strict=True)
        return _batch(model, tokenizer, list(ids), list(own), max_new_tokens, temperature)

    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    made: list[list[list[int]]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()
    for start in range(0, len(by_length), batch_size):
        part = by_length[start : start + batch_size]
        rows = [prompts[i] for i in part for _ in range(n)]
        seeds = [_seed(seed, prompts[i], k) for i in part for k in range(n)]
        found = retry_with_smaller_batches(answered, list(zip(rows, seeds, strict=True)))
        for place, i in enumerate(part):
            made[i] = found[place * n : (place + 1) * n]
        if progress:
            progress(min(start + batch_size, len(prompts)), len(prompts))
    model.train(was_training)
    return made


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _batch(
    model: Any, tokenizer: Any, ids: list[list[int]], seeds: list[int], max_new_tokens: int, temperature: float
) -> list[list[int]]:
    width = max(map(len, ids))
    pad = tokenizer.pad_token_id
    tokens = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=model.device)
    ends = _ends(model, tokenizer)
    out = model.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad,
        eos_token_id=sorted(ends), logits_processor=[Draws(seeds, temperature, model.device)] if temperature else [],
    )  # fmt: skip
    return [_cut(row, ends) for row in out[:, width:].tolist()]


def _cut(row: list[int], ends: set[int]) -> list[int]:
    return row[: next((at + 1 for at, token in enumerate(row) if token in ends), len(row))]


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends an answer: the tokenizer's, and those of the model's own settings (an end of turn)."""
    named = model.generation_config.eos_token_id
    own = named if isinstance(named, list) else [named]
    return {i for i in [tokenizer.eos_token_id, *own] if i is not None}


def _answer(tokenizer: Any, row: list[int], ends: set[int]) -> Answer:
    ended = bool(row) and row[-1] in ends
    kept = row[:-1] if ended else row
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), ended, len(kept))
