"""KL from the reference on a policy's own samples: how far training has moved it where it speaks for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.batches import Layout
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.tokens import TokenAnswer
from prefzoo.engine import reference_logprobs
from prefzoo.evals.generation.generate import sample_tokens
from prefzoo.evals.judges.protocol import Progress

TEMPERATURE = 1.0  # the policy itself, not a sharper one


def sampled(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int, seed: int, progress: Progress | None = None
) -> list[TokenAnswer]:
    """One answer of the model to each prompt, drawn at temperature 1, as token ids."""
    ids = [encode_prompt(tokenizer, p) for p in prompts]
    rows = sample_tokens(
        model, tokenizer, ids, max_new_tokens=max_new_tokens, temperature=TEMPERATURE, seed=seed, progress=progress
    )
    return [TokenAnswer(p, row[0], label=True, row=i) for i, (p, row) in enumerate(zip(ids, rows, strict=True))]


def kl(model: Any, base: Any, samples: Sequence[TokenAnswer], layout: Layout, *, bf16: bool) -> list[float]:
    r"""Per sample, an unbiased estimate in nats of the sequence's KL, up to the limit on its tokens.

    $$ KL(\pi \| \pi_0) = E_{y \sim \pi} \sum_t \log \pi(y_t | y_{<t}) - \log \pi_0(y_t | y_{<t}) $$

    One value may be negative; their mean is not, but for noise.
    """
    ours, theirs = (reference_logprobs.logprobs(m, samples, layout, bf16=bf16) for m in (model, base))
    return [float(v) for v in ours.chosen - theirs.chosen]
