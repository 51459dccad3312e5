"""The cache of verdicts and answers: written as they come, read again, never asked twice, whatever was cut short."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.causal import ModelSettings
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.evals.judges.reward import RewardSettings
from prefzoo.evals.judges.verdict_cache import Batch, cached_outcomes
from prefzoo.runtime.cache import Cache, cached_by_prompt


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_each_question_once_and_no_reason_is_cached(tmp_path: Path) -> None:
    asked: list[str] = []
    questions = ["x", "y", "x", "broken"]

    def ask(todo: Sequence[int]) -> Iterator[Batch]:
        for i in todo:
            asked.append(questions[i])
            yield {i: "no reply" if questions[i] == "broken" else float(len(asked))}

    outcomes = cached_outcomes(Cache(tmp_path / "s.jsonl"), questions, ask)
    assert outcomes == [1.0, 2.0, 1.0, "no reply"] and asked == ["x", "y", "broken"]
    assert cached_outcomes(Cache(tmp_path / "s.jsonl"), questions, ask) == [1.0, 2.0, 1.0, "no reply"]
    assert asked == ["x", "y", "broken", "broken"]
    assert cached_outcomes(None, ["x"], ask) == [5.0]


COUNTED = "from pathlib import Path\n" + (
    "def better(instruction, output_1, output_2):\n"
    "    with Path(__file__).with_name('log').open('a') as f:\n"
    "        f.write('asked\\n')\n"
    "    return 1 + float(len(output_2) > len(output_1))\n"
)


def asked(n: int) -> list[Comparison]:
    return [Comparison(PromptRow(str(i), f"p{i}"), Answer("a", True, 1), Answer("bb", True, 1)) for i in range(n)]


def test_a_function_is_asked_again_when_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # which would take the change within a second for none
    (tmp_path / "own.py").write_text(COUNTED)
    log = tmp_path / "log"
    first = load_judge("own.py:better", tmp_path).compare(asked(3))
    assert load_judge("own.py:better", tmp_path).compare(asked(3)) == first and len(log.read_text().split()) == 6
    (tmp_path / "own.py").write_text(COUNTED.replace("1 + float", "2 - float"))
    changed = load_judge("own.py:better", tmp_path).compare(asked(3))
    assert [v.preference for v in first] == [2.0] * 3 and [v.preference for v in changed] == [1.0] * 3
    assert len(log.read_text().split()) == 12
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reward", "model"])
def test_a_local_model_goes_on_where_it_was_stopped(
    tmp_path: Path, kind: str, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    from transformers import LlamaForSequenceClassification

    tiny_model.config.max_position_embeddings = 2048
    config = copy.deepcopy(tiny_model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = tiny_model if kind == "model" else LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "judge")
    tiny_tokenizer.save_pretrained(tmp_path / "judge")
    settings = (
        ModelSettings(kind="model", model="judge") if kind == "model" else RewardSettings(kind="reward", model="judge")
    )
    whole = load_judge(settings, tmp_path)
    whole.cache = None  # type: ignore[attr-defined]
    expected = whole.compare(asked(24))
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_judge(settings, tmp_path).compare(asked(24), stop)
    before = told[-1]
    told.clear()
    outcomes = load_judge(settings, tmp_path).compare(asked(24), lambda *x: told.append(x))
    assert outcomes == expected and told[-1] == (before[1] - before[0],) * 2
    told.clear()
    again = load_judge(settings, tmp_path).compare(asked(24), lambda *x: told.append(x))
    assert again == expected and not told


def test_answers_are_cached_batch_by_batch() -> None:
    calls: list[list[str]] = []

    def make(texts: list[str]) -> list[str]:
        calls.append(texts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [t.upper() for t in texts]

    prompts = ["aaa", "b", "cc", "dddd", "e"]
    with pytest.raises(KeyboardInterrupt):
        cached_by_prompt("answers", {"model": "m"}, prompts, make, together=2)
    told: list[tuple[int, int]] = []
    answers = cached_by_prompt("answers", {"model": "m"}, prompts, make, lambda *x: told.append(x), together=2)
    assert answers == ["AAA", "B", "CC", "DDDD", "E"] and told == [(2, 5), (4, 5), (5, 5)]
    assert calls == [["b", "e"], ["cc", "aaa"], ["dddd"], ["dddd"]]
    assert cached_by_prompt("answers", {"model": "other"}, prompts[:1], make, together=2) == ["AAA"] and len(calls) == 5
