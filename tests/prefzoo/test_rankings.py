"""Pairs of several rated answers to a prompt: the best against the worst, or every two that are rated differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefzoo.data.audit import read_and_audit
from prefzoo.data.examples import Pair
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.schemas import read_examples
from prefzoo.errors import UserError
from prefzoo.evals.report.data_page import page
from prefzoo.experiment.data import read_data
from prefzoo.recipe.load import load

FEEDBACK = {
    "instruction": "is it?",
    "completions": [
        {"response": text, "overall_score": score} for text, score in (("no", 2), ("yes", 9), ("hm", 5), ("well", 5))
    ],
}
RANKS = {
    "prompt": "is it?",
    "answers": [{"answer": text, "rank": rank} for text, rank in (("no", 3), ("yes", 1), ("hm", 2))],
}
STACK = {
    "qid": 3, "question": "is it?",
    "answers": [{"text": "no", "pm_score": 0, "selected": False}, {"text": "yes", "pm_score": 4, "selected": True}],
}  # fmt: skip
RECIPE = """
name: r
model: m
data: {{train: d.jsonl, pairs: {pairs}}}
variants: {{dpo: {{}}}}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pairs_of(row: dict[str, Any], pairs: Any) -> list[tuple[Any, ...]]:
    read = read_examples([row], "d", pairs=pairs)
    return [(e.chosen, e.rejected, e.scores) for e in read.examples if isinstance(e, Pair)]


def test_the_best_against_the_worst() -> None:
    assert pairs_of(FEEDBACK, "best_worst") == [("yes", "no", (9.0, 2.0))]
    assert pairs_of(RANKS, "best_worst") == [("yes", "no", None)]
    assert pairs_of(STACK, "best_worst") == pairs_of(STACK, "ranked") == [("yes", "no", (4.0, 0.0))]


def test_ranked_pairs_are_of_every_two_with_different_ratings() -> None:
    assert pairs_of(FEEDBACK, "ranked") == [
        ("yes", "hm", (9.0, 5.0)), ("yes", "well", (9.0, 5.0)), ("yes", "no", (9.0, 2.0)),
        ("hm", "no", (5.0, 2.0)), ("well", "no", (5.0, 2.0)),
    ]  # fmt: skip
    assert pairs_of(RANKS, "ranked") == [("yes", "hm", None), ("yes", "no", None), ("hm", "no", None)]


def test_the_ranks_of_several_rows_are_read_together() -> None:
    rows = [{"prompt": "p", "response": text, "helpfulness": n} for text, n in (("a", 1), ("b", 4), ("c", 2))]
    examples = read_examples(rows, "d", pairs="ranked").examples
    assert [(e.chosen, e.rejected) for e in examples if isinstance(e, Pair)] == [
        ("b", "c"), ("b", "a"), ("c", "a"),
    ]  # fmt: skip


def test_ranked_pairs_of_a_prompt_contradict_nothing_and_are_counted(tmp_path: Path, tiny_tokenizer: Any) -> None:
    write(tmp_path / "d.jsonl", RANKS, {"prompt": "q", "answers": FEEDBACK["completions"]})
    source = DataSource("d.jsonl", pairs="ranked")
    data = read_and_audit(source, tmp_path, tiny_tokenizer, 200, "drop")
    assert (data.audit.rows, data.audit.kept) == (2, 8) and [e.row for e in data.tokens.examples] == [0] * 3 + [1] * 5
    assert not any(one.drop == "contradictions" for one in data.audit.findings)
    assert data.audit.counts["made of two of several answers that are rated differently"] == 8


def test_each_pair_is_shown_with_its_own_roles(tmp_path: Path, tiny_tokenizer: Any) -> None:
    from prefzoo.data.tokenising import ALL_TURNS

    write(tmp_path / "d.jsonl", RANKS)
    data = read_and_audit(DataSource("d.jsonl", pairs="ranked"), tmp_path, tiny_tokenizer, 200, "drop")
    shown = page("r", {"train": data}, tiny_tokenizer, ALL_TURNS)
    assert shown.count("Row 1") == 3


def test_ranked_is_refused_for_plain_pairs(tmp_path: Path, tiny_tokenizer: Any) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.format(pairs="ranked"))
    write(tmp_path / "d.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    with pytest.raises(UserError, match=r"data.pairs: ranked is for rows with several rated answers .*; remove it"):
        read_data(load(tmp_path / "r.yaml"), tiny_tokenizer)
    write(tmp_path / "d.jsonl", RANKS)
    assert len(read_data(load(tmp_path / "r.yaml"), tiny_tokenizer)["train"].tokens.examples) == 3


def test_a_mixture_may_have_both(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    write(tmp_path / "b.jsonl", RANKS)
    data, _ = read_source(Mixture(tuple(DataSource(f"{n}.jsonl", name=n, pairs="ranked") for n in "ab")), tmp_path)
    assert data.rated and [e.row for e in data.examples] == [0, 1, 1, 1]
