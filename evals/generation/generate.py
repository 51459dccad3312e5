"""Generate a model's answers in batches, with left padding and a sampling seed for each answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text
from prefzoo.engine.sharded_model import ShardedModel, read
from prefzoo.evals.generation.batches import cache_settings, prompts_in_batch, tokens_drawn
from prefzoo.evals.judges.protocol import Answer, Progress
from prefzoo.runtime.distributed import all_gather, process_state
from prefzoo.runtime.memory import retry_with_smaller_batches

Row = tuple[list[int], int]  # a prompt's token ids, and the seed of an answer


class GumbelSampler:
    """A logits processor of transformers that samples with a seed for each row.

    It divides the scores by the temperature and adds Gumbel noise from a generator of each row. Greedy decoding of the
    result is sampling (the Gumbel-max trick; Maddison 2014, arXiv:1411.0030). The sample of a row depends on its seed,
    and not on the other rows of the batch. On GPUs each generator draws the noise of several tokens at once, since a
    call of its own for each row and token takes as long as the model.

    Args:
        seeds: the seed of each row.
        temperature: the sampling temperature, above 0.
        device: the device of the scores.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self._drawn: list[Tensor] = []  # noise of the next tokens, the last one's first

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """Return (rows, vocabulary) scores; the largest score of a row is that of its sampled token."""
        if not self._drawn:
            rows, words = scores.shape
            noise = scores.new_empty(rows, tokens_drawn(scores.device.type), words, dtype=torch.float32)
            for row, generator in zip(noise, self.generators, strict=True):
                row.exponential_(generator=generator)
            self._drawn = [*noise.unbind(1)][::-1]
        return scores.float() / self.temperature - self._drawn.pop().log()


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Text],
    *,
    max_new_tokens: int,
    n: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
    variables: Mapping[str, Any] | None = None,
) -> list[list[Answer]]:
    """Generate answers to prompts.

    Args:
        model, tokenizer: a causal language model and its tokenizer, of transformers.
        prompts: the prompts, as texts or messages. The chat template is applied here.
        max_new_tokens: most tokens of an answer.
        n: number of answers per prompt.
        temperature: the sampling temperature; 0 for greedy answers.
        seed: the seed of sampling.
        batch_size: prompts per batch; None to choose it by the device and its memory.
        progress: called with the number of finished prompts and of all prompts.
        variables: variables of the chat template.

    Returns:
        `n` answers for each prompt, in the prompts' order.
    """
    ids = [encode_prompt(tokenizer, p, variables) for p in prompts]
    rows = sample_tokens(
        model, tokenizer, ids, max_new_tokens=max_new_tokens, n=n, temperature=temperature, seed=seed,
        batch_size=batch_size, progress=progress,
    )  # fmt: skip
    return [decode_answers(model, tokenizer, several) for several in rows]


def decode_answers(model: Any, tokenizer: Any, rows: Sequence[list[int]]) -> list[Answer]:
    """Decode the token ids that `sample_tokens` returns.

    Args:
        model, tokenizer: the model and tokenizer that generated them; both define tokens that end an answer.
        rows: the token ids of each answer.

    Returns:
        The answer of each row.
    """
    ends = _end_tokens(model, tokenizer)
    return [_answer(tokenizer, row, ends) for row in rows]


@torch.no_grad()
def sample_tokens(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    n: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[list[list[int]]]:
    """Generate answers as token ids.

    The model's training mode and torch's random state do not change. The seed of an answer is a hash of `seed`, the
    prompt and the answer's number, so that neither batch size nor order of prompts changes a sample. If the model is
    sharded, all processes must call this function, and each generates a share of every batch.

    Args:
        model, tokenizer: a causal language model and its tokenizer, of transformers.
        prompts: the token ids of each prompt.
        max_new_tokens, n, temperature, seed, batch_size, progress: as for `generate`.

    Returns:
        For each prompt the token ids of its `n` answers, each up to and including its end token.
    """

    def generated(batch: Sequence[Row]) -> list[list[int]]:
        ids, seeds = zip(*batch, strict=True)
        return _batch(model, tokenizer, list(ids), list(seeds), max_new_tokens, temperature)

    complete = partial(_in_shares, generated) if isinstance(model, ShardedModel) else (
        partial(retry_with_smaller_batches, generated)
    )  # fmt: skip

    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: list[list[list[int]]] = [[] for _ in prompts]
    if batch_size is None:
        width = max(map(len, prompts), default=0)
        batch_size = prompts_in_batch(model, width, max_new_tokens, n, sampled=bool(temperature))
        batch_size *= process_state().num_processes if isinstance(model, ShardedModel) else 1
    was_training = model.training
    model.eval()
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        rows = [prompts[i] for i in batch for _ in range(n)]
        seeds = [seed_of(seed, prompts[i], k) for i in batch for k in range(n)]
        tokens = complete(list(zip(rows, seeds, strict=True)))
        for position, i in enumerate(batch):
            answers[i] = tokens[position * n : (position + 1) * n]
        if progress:
            progress(min(start + batch_size, len(prompts)), len(prompts))
    model.train(was_training)
    return answers


def _in_shares(generated: Callable[[Sequence[Row]], list[list[int]]], rows: Sequence[Row]) -> list[list[int]]:
    """Generate this process's share of the rows, gather those of all processes, and return all rows in order."""
    state = process_state()
    own = rows[state.process_index :: state.num_processes]
    tokens: list[list[int]] = [[] for _ in rows]
    for rank, share in enumerate(all_gather(generated(own or rows[:1])[: len(own)])):
        tokens[rank :: state.num_processes] = share
    return tokens


def seed_of(seed: int, prompt: Sequence[int], number: int) -> int:
    """Return the seed of one answer.

    Args:
        seed: the seed of the whole sampling.
        prompt: the prompt's token ids.
        number: the number of the answer to this prompt, from 0.

    Returns:
        A non-negative integer of 63 bits.
    """
    parts = (seed, prompt, number)
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _batch(
    model: Any, tokenizer: Any, ids: list[list[int]], seeds: list[int], max_new_tokens: int, temperature: float
) -> list[list[int]]:
    width = max(map(len, ids))
    pad = tokenizer.pad_token_id
    tokens = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=model.device)
    ends = _end_tokens(model, tokenizer)
    sampler = [GumbelSampler(seeds, temperature, model.device)] if temperature else []
    settings = cache_settings(model) | ({"synced_gpus": True} if isinstance(model, ShardedModel) else {})
    out = read(model, lambda whole: whole.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad,
        eos_token_id=sorted(ends), logits_processor=sampler, **settings,
    ))  # fmt: skip
    return [_cut(row, ends) for row in out[:, width:].tolist()]


def _cut(row: list[int], ends: set[int]) -> list[int]:
    return row[: next((at + 1 for at, token in enumerate(row) if token in ends), len(row))]


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Return all tokens that end an answer: the tokenizer's EOS, and those of the model's generation config."""
    named = model.generation_config.eos_token_id
    own = named if isinstance(named, list) else [named]
    return {i for i in [tokenizer.eos_token_id, *own] if i is not None}


def _answer(tokenizer: Any, row: list[int], ends: set[int]) -> Answer:
    finished = bool(row) and row[-1] in ends
    tokens = row[:-1] if finished else row
    return Answer(tokenizer.decode(tokens, skip_special_tokens=True).strip(), finished, len(tokens))
