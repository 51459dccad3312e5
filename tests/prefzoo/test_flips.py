"""A share of the labels is flipped: the same rows at every larger share, whatever their order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefzoo.data.examples import LabelledAnswer, Pair
from prefzoo.data.flips import FLIPPED, flip_labels
from prefzoo.experiment.data import read_data
from prefzoo.recipe.load import load

PAIRS = [Pair(f"p{i}", "good", "bad", i, (2.0, 1.0), quantiles=(0.9, 0.1)) for i in range(2_000)]
RECIPE = "name: r\nmodel: m\ndata: {train: d.jsonl, eval: d.jsonl, flip_labels: 0.3}\nvariants: {dpo: }\n"


def rows_flipped(share: float, pairs: list[Pair] = PAIRS) -> set[int]:
    return {one.row for one in flip_labels(pairs, share)[0] if isinstance(one, Pair) and one.chosen == "bad"}


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_about_the_share_is_flipped_and_counted(share: float) -> None:
    flipped, counts = flip_labels(PAIRS, share)
    assert counts[FLIPPED] == len(rows_flipped(share)) and abs(counts[FLIPPED] / len(PAIRS) - share) < 0.03
    assert [one.row for one in flipped] == [one.row for one in PAIRS]


def test_smaller_shares_are_parts_of_larger_ones_in_any_order() -> None:
    assert rows_flipped(0.1) < rows_flipped(0.2) == rows_flipped(0.2, PAIRS[::-1])
    assert not rows_flipped(0.0)


def test_scores_go_with_their_answers() -> None:
    one = next(p for p in flip_labels(PAIRS, 0.5)[0] if isinstance(p, Pair) and p.chosen == "bad")
    assert one == replace(PAIRS[one.row], chosen="bad", rejected="good", scores=(1.0, 2.0), quantiles=(0.1, 0.9))


def test_labels_of_single_answers_are_turned() -> None:
    answers = [LabelledAnswer(f"p{i}", "text", i % 2 == 0, i) for i in range(100)]
    turned = [one.row for one in flip_labels(answers, 0.5)[0] if one.label != answers[one.row].label]  # type: ignore[union-attr]
    assert 30 < len(turned) < 70


def test_only_the_training_data_of_a_recipe_are_flipped(tmp_path: Path, tiny_tokenizer: Any) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    rows = [{"prompt": f"p{i}", "chosen": "good", "rejected": "bad"} for i in range(60)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read_data(load(tmp_path / "r.yaml"), tiny_tokenizer)
    chosen = {use: [list(one.answers[0]) for one in data[use].tokens.examples] for use in ("train", "eval")}
    assert len(set(map(tuple, chosen["eval"]))) == 1
    changed = sum(one != chosen["eval"][0] for one in chosen["train"])
    assert 8 < changed < 30 and data["train"].audit.counts[FLIPPED] == changed
