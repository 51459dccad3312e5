"""Measuring on a GPU: large batches of answers and a cache that is allocated once, large passes; emulated here."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prefzoo.data.tokens import TokenPair
from prefzoo.engine import reference_logprobs
from prefzoo.evals.generation import batches, pairs
from prefzoo.evals.generation.generate import sample_tokens
from prefzoo.evals.judges import causal
from prefzoo.evals.judges.judge_prompt import JudgePrompt
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.evals.suites import benchmarks

PROMPTS = [[1, *range(5, 5 + n)] for n in (9, 2, 5, 3, 7, 4, 6)]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """No type of device has fixed batches here; the free memory is what `free` says."""
    memory = {"free": 1e12}
    monkeypatch.setattr(batches, "PROMPTS", {})
    monkeypatch.setattr(batches, "ROWS", {})
    monkeypatch.setattr(batches, "free_gpu_bytes", lambda device: memory["free"])
    return memory


def calls_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Rows and cache of each call of `generate`."""
    calls: list[tuple[int, str]] = []
    real = model.generate

    def generate(**words: Any) -> Any:
        assert words.get("disable_compile", False) == ("cache_implementation" in words)
        calls.append((len(words["input_ids"]), words.get("cache_implementation", "grows")))
        return real(**words)

    monkeypatch.setattr(model, "generate", generate)
    return calls


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_one_call_answers_what_fits_and_gives_the_tokens_of_small_batches(
    tiny_model: Any, tiny_tokenizer: Any, as_on_a_gpu: dict[str, float], monkeypatch: pytest.MonkeyPatch,
    temperature: float,
) -> None:  # fmt: skip
    n = 2 if temperature else 1
    asked: dict[str, Any] = {"max_new_tokens": 6, "temperature": temperature, "n": n}
    with monkeypatch.context() as on_cpu:
        on_cpu.setattr(batches, "ROWS", {"cpu": 2})
        calls = calls_of(tiny_model, on_cpu)
        expected = sample_tokens(tiny_model, tiny_tokenizer, PROMPTS, **asked)
        assert calls == [(2, "grows")] * 3 + [(1, "grows")] if n == 1 else [(2, "grows")] * 7
    calls = calls_of(tiny_model, monkeypatch)
    assert sample_tokens(tiny_model, tiny_tokenizer, PROMPTS, **asked) == expected
    assert calls == [(7 * n, "static")]
    as_on_a_gpu["free"] = 4.5 * batches.row_bytes(tiny_model, 10, 6) / batches.SHARE
    calls.clear()
    assert sample_tokens(tiny_model, tiny_tokenizer, PROMPTS, **asked) == expected
    assert calls == ([(4, "static"), (3, "static")] if n == 1 else [(4, "static")] * 3 + [(2, "static")])


def test_noise_of_several_tokens_is_drawn_at_once_and_a_sample_depends_on_its_seed_alone(
    tiny_model: Any, tiny_tokenizer: Any, as_on_a_gpu: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.0}
    alone = batches.prompts_in_batch(tiny_model, 10, 12, sampled=True)
    as_on_a_gpu["free"] = 4 * batches.row_bytes(tiny_model, 10, 12) / batches.SHARE
    assert batches.prompts_in_batch(tiny_model, 10, 12, sampled=True) == 4
    monkeypatch.setattr(batches, "DRAWN", {})
    assert batches.prompts_in_batch(tiny_model, 10, 12, sampled=True) < 4
    as_on_a_gpu["free"] = 1e12
    assert batches.prompts_in_batch(tiny_model, 10, 12, sampled=True) == alone
    draws: list[tuple[int, ...]] = []
    real = torch.Tensor.exponential_

    def exponential_(tensor: torch.Tensor, *args: Any, **words: Any) -> torch.Tensor:
        draws.append(tuple(tensor.shape))
        return real(tensor, *args, **words)

    monkeypatch.setattr(torch.Tensor, "exponential_", exponential_)
    together = sample_tokens(tiny_model, tiny_tokenizer, PROMPTS, **asked)
    assert len(draws) <= 2 * len(PROMPTS) and set(draws) == {(batches.MOST_DRAWN, 340)}
    assert sample_tokens(tiny_model, tiny_tokenizer, PROMPTS, batch_size=2, **asked) == together
    assert sample_tokens(tiny_model, tiny_tokenizer, PROMPTS, **asked, seed=1) != together


def test_a_row_takes_its_keys_and_values(tiny_model: Any) -> None:
    from transformers import Cache

    with torch.no_grad():
        output = tiny_model(input_ids=torch.ones(3, 11, dtype=torch.long), use_cache=True)
    cache = next(value for value in output.values() if isinstance(value, Cache))
    held = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    assert batches.cache_bytes(tiny_model) * 3 * 11 == held
    half = copy.deepcopy(tiny_model).to(torch.bfloat16)
    assert 2 * batches.cache_bytes(half) == batches.cache_bytes(tiny_model)
    longer = batches.row_bytes(tiny_model, 10, 90) - batches.row_bytes(tiny_model, 10, 20)
    assert longer == 70 * (batches.cache_bytes(tiny_model) + 10 * batches.MASK)


def test_at_least_one_answer_and_at_most_so_many(tiny_model: Any, as_on_a_gpu: dict[str, float]) -> None:
    assert batches.prompts_in_batch(tiny_model, 10, 6) == batches.MOST
    assert batches.prompts_together("cuda") == batches.MOST
    assert batches.prompts_in_batch(tiny_model, 10, 6, n=4) == batches.MOST // 4
    as_on_a_gpu["free"] = 1
    assert batches.prompts_in_batch(tiny_model, 10, 6, n=4) == 1


def test_a_model_whose_cache_must_grow_keeps_it(as_on_a_gpu: dict[str, float]) -> None:
    device = torch.device("cpu")
    assert batches.cache_settings(SimpleNamespace(device=device, _can_compile_fullgraph=True))
    assert not batches.cache_settings(SimpleNamespace(device=device, _can_compile_fullgraph=False))


def test_a_cpu_answers_as_many_as_before(tiny_model: Any) -> None:
    assert batches.prompts_together("cpu") == 50
    assert [batches.prompts_in_batch(tiny_model, 10, 6, n) for n in (1, 4, 100)] == [96, 24, 1]
    assert batches.cache_settings(tiny_model) == {}


def passes_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each forward pass that scores."""
    sizes: list[int] = []
    real = reference_logprobs.score

    def score(model: Any, batch: Any, kind: Any) -> Any:
        sizes.append(len(batch))
        return real(model, batch, kind)

    monkeypatch.setattr(reference_logprobs, "score", score)
    return sizes


def test_held_out_pairs_are_scored_in_large_passes(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [TokenPair([1, 2, i], [3, 4], [5, i], i) for i in range(7)]
    monkeypatch.setattr(reference_logprobs, "TOKENS", {"cpu": 14})
    sizes = passes_of(monkeypatch)
    expected = reference_logprobs.logprobs(tiny_model, rows, "shared", bf16=False)
    assert sizes == [2, 2, 2, 1]
    sizes.clear()
    monkeypatch.setattr(reference_logprobs, "TOKENS", {})
    scored = reference_logprobs.logprobs(tiny_model, rows, "shared", bf16=False)
    torch.testing.assert_close(scored.chosen, expected.chosen)
    assert sizes == [7]


def test_benchmarks_are_scored_in_batches_whose_logits_fit(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert benchmarks.documents_together(tiny_model) == 16
    memory = {"free": 1e12}
    monkeypatch.setattr(benchmarks, "BATCH", {})
    monkeypatch.setattr(benchmarks, "free_gpu_bytes", lambda device: memory["free"])
    assert benchmarks.documents_together(tiny_model) == 128
    memory["free"] = 2 * 5.5 * 256 * 340 * 12  # positions, vocabulary, and bytes of fp32 logits and their copies
    assert benchmarks.documents_together(tiny_model) == 5
    memory["free"] = 1
    assert benchmarks.documents_together(tiny_model) == 1


def test_a_benchmark_does_not_list_the_machines_packages() -> None:
    from lm_eval import evaluator

    results: dict[str, Any] = {}
    with benchmarks._quiet():
        evaluator.add_env_info(results)
    assert results == {}


def test_a_model_judges_in_large_passes(tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model.config.max_position_embeddings = 2048
    judge = causal.CausalJudge(tiny_model, tiny_tokenizer, "tiny", JudgePrompt())
    asked = [Comparison(PromptRow(str(i), f"say {i}"), Answer("a", True, 1), Answer("b", True, 1)) for i in range(20)]
    monkeypatch.setattr(reference_logprobs, "TOKENS", {})
    sizes = passes_of(monkeypatch)
    expected = judge.preferences(asked)
    assert sizes == [16, 4]
    sizes.clear()
    monkeypatch.setattr(causal, "BATCH", {})
    assert judge.preferences(asked) == pytest.approx(expected)
    assert sizes == [20]


def test_pairs_are_sampled_in_large_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    device, sizes = SimpleNamespace(type="cuda"), list[int]()
    monkeypatch.setattr(pairs, "process_state", lambda: SimpleNamespace(device=device))

    def sampler(prompts: Any) -> list[list[Answer]]:
        sizes.append(len(prompts))
        return [[Answer("", True, 0)] for _ in prompts]

    monkeypatch.setattr(pairs, "grade", lambda judge, rows, answers: ([["no"]] * len(rows), []))
    rows = [PromptRow(str(i), "q") for i in range(300)]
    drawn = pairs.Sampling(1, 1.0, 0, 4)
    judge: Any = SimpleNamespace(name="j", prompt_hash="", scores_answers=True)
    pairs.make_pairs(sampler, rows, judge, drawn, pairs.Rule())
    assert sizes == [256, 44]
    device.type = "cpu"
    sizes.clear()
    pairs.make_pairs(sampler, rows, judge, drawn, pairs.Rule())
    assert sizes == [32] * 9 + [12]
