"""KL from the reference, estimated on the policy's own samples: how far training moved the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefzoo.data.batches import Layout
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text
from prefzoo.data.tokens import TokenAnswer
from prefzoo.engine import reference_logprobs
from prefzoo.evals.generation.generate import sample_tokens
from prefzoo.evals.judges.protocol import Progress

TEMPERATURE = 1.0  # the policy itself, not a sharper one


def sampled(
    model: Any, tokenizer: Any, prompts: Sequence[Text], max_new_tokens: int, seed: int,
    progress: Progress | None = None, variables: Mapping[str, Any] | None = None,
) -> list[TokenAnswer]:  # fmt: skip
    """Sample one answer to each prompt, at temperature 1.

    Args:
        model, tokenizer: model that answers, and its tokenizer.
        prompts: text or messages of each prompt.
        max_new_tokens: limit on the tokens of an answer.
        seed: seed of the sampling.
        progress: called with the number of finished answers and the total number.
        variables: variables of the chat template.

    Returns:
        Prompt and answer as token ids, in the order of the prompts.
    """
    ids = [encode_prompt(tokenizer, p, variables) for p in prompts]
    rows = sample_tokens(
        model, tokenizer, ids, max_new_tokens=max_new_tokens, temperature=TEMPERATURE, seed=seed, progress=progress
    )
    return [TokenAnswer(p, row[0], label=True, row=i) for i, (p, row) in enumerate(zip(ids, rows, strict=True))]


def kl(model: Any, base: Any, samples: Sequence[TokenAnswer], layout: Layout, *, bf16: bool) -> list[float]:
    r"""Estimate the KL of the policy from the reference on each sample, cut at the limit on its tokens.

    $$ KL(\pi \| \pi_0) = E_{y \sim \pi} \sum_t \log \pi(y_t | y_{<t}) - \log \pi_0(y_t | y_{<t}) $$

    Args:
        model: the policy that the samples were drawn from.
        base: the reference.
        samples: samples of the policy, as token ids.
        layout: how sequences are batched.
        bf16: whether to compute in bf16; log-probs are fp32.

    Returns:
        An unbiased estimate per sample, in nats. Single values may be negative; the mean is below zero only by noise.
    """
    ours, theirs = (reference_logprobs.logprobs(m, samples, layout, bf16=bf16) for m in (model, base))
    return [float(v) for v in ours.chosen - theirs.chosen]
