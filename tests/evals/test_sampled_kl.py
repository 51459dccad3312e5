"""Sampling draws what the model says, whoever shares the batch; KL is the one that can be summed by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from prefzoo.data.tokens import TokenAnswer
from prefzoo.evals.generation.generate import generate, sample_tokens
from prefzoo.evals.metrics.sampled_kl import kl, sampled

PROMPT = [1, 5, 9]
PROMPTS = ["Say one", "Tell me a much longer story of two", "Go", "What is the time, and where?"]


@torch.no_grad()
def next_logp(model: Any) -> torch.Tensor:
    return model.eval()(torch.tensor([PROMPT])).logits[0, -1].double().log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_model(tiny_model: Any, tiny_tokenizer: Any, temperature: float) -> None:
    n = 4000
    rows = sample_tokens(
        tiny_model, tiny_tokenizer, [PROMPT], max_new_tokens=1, n=n, temperature=temperature, batch_size=1, seed=3
    )[0]
    seen = torch.bincount(torch.tensor([row[0] for row in rows]), minlength=tiny_model.config.vocab_size).double()
    expected = n * (next_logp(tiny_model) / temperature).softmax(-1)
    often = expected > 5  # what a chi-square test can be trusted with; the rest together
    both = [torch.cat([v[often], v[~often].sum()[None]]).numpy() for v in (seen, expected)]
    both = [v[both[1] > 0] for v in both]
    assert chisquare(*both).pvalue > 0.001


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_neither_the_batch_nor_the_order_changes_an_answer(
    tiny_model: Any, tiny_tokenizer: Any, temperature: float
) -> None:
    def answers(prompts: list[str], batch_size: int) -> dict[str, Any]:
        generated = generate(
            tiny_model, tiny_tokenizer, prompts, max_new_tokens=12, n=2 if temperature else 1,
            temperature=temperature, batch_size=batch_size,
        )  # fmt: skip
        return dict(zip(prompts, generated, strict=True))

    together = answers(PROMPTS, 50)
    assert answers(PROMPTS, 1) == together == answers(PROMPTS[::-1], 3)
    if temperature:
        assert together[PROMPTS[0]][0] != together[PROMPTS[0]][1]
        other = generate(tiny_model, tiny_tokenizer, PROMPTS, max_new_tokens=12, n=2, temperature=1.0, seed=1)
        assert other != list(together.values())


def test_kl_of_one_token_is_the_exact_one(tiny_model: Any, tiny_tokenizer: Any) -> None:
    policy = copy.deepcopy(tiny_model)
    with torch.no_grad():
        policy.lm_head.weight += 0.5 * torch.randn(
            policy.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    p, q = next_logp(policy), next_logp(tiny_model)
    exact = float((p.exp() * (p - q)).sum())
    rows = sample_tokens(policy, tiny_tokenizer, [PROMPT], max_new_tokens=1, n=3000, temperature=1.0)[0]
    pairs = [TokenAnswer(PROMPT, row, True, i) for i, row in enumerate(rows)]
    result = torch.tensor(kl(policy, tiny_model, pairs, "rows", bf16=False))
    assert exact > 0.01
    assert float(result.mean()) == pytest.approx(exact, abs=4 * float(result.std()) / 3000**0.5)


def test_a_model_is_at_no_distance_from_itself(tiny_model: Any, tiny_tokenizer: Any) -> None:
    built = sampled(tiny_model, tiny_tokenizer, PROMPTS, 6, seed=0)
    assert [len(s.completion) <= 6 for s in built] == [True] * 4 and all(s.completion for s in built)
    assert kl(tiny_model, tiny_model, built, "rows", bf16=False) == [0.0] * 4
