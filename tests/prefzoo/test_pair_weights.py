"""`train.pair_weights`: how rows are weighed in the mean, and where that has no meaning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from called import prefzoo
from test_train import answers, close, job, random_pairs, run

from prefzoo.errors import UserError
from prefzoo.experiment.pair_weights import read_pair_weights
from prefzoo.experiment.search import expand
from prefzoo.recipe.load import load

RECIPE = "name: r\nmodel: m\ndata: {train: a.jsonl}\ntrain: {pair_weights: trust}\nvariants: {dpo: }\n"
WEIGHTS = torch.linspace(0.0, 2.0, 12)


def test_the_loss_is_the_mean_of_the_weighted_losses(tiny_model: Any, tmp_path: Path) -> None:
    """A row's own loss is that of a step in which it alone counts; a step's weights need not add up to its rows."""
    this = job(tiny_model, "simpo", steps=1)
    rows = this.steps[0]
    each = [run(tiny_model, replace(this, pair_weights=torch.eye(12)[i]), tmp_path)[0]["loss"] * 4 for i in rows]
    whole = run(tiny_model, replace(this, pair_weights=WEIGHTS), tmp_path)[0]["loss"]
    expected = sum(float(WEIGHTS[i]) * value for i, value in zip(rows, each, strict=True)) / 4
    assert whole == pytest.approx(expected, rel=1e-4) and expected > 0


@pytest.mark.parametrize("name", ["dpo", "apo_zero_unpaired"])
def test_passes_change_nothing_and_equal_weights_neither(name: str, tiny_model: Any, tmp_path: Path) -> None:
    pairs, weights = (random_pairs(), WEIGHTS) if name == "dpo" else (answers(), torch.linspace(0, 2, 24))
    this = job(tiny_model, name, pairs=pairs, steps=3)
    whole = run(tiny_model, replace(this, pair_weights=weights), tmp_path)
    small = replace(this, pair_weights=weights, train=this.train.model_copy(update={"micro_batch": 1}))
    close(whole, run(tiny_model, small, tmp_path), rel=1e-3)
    plain = run(tiny_model, this, tmp_path)
    assert plain[-1]["loss"] != pytest.approx(whole[-1]["loss"], rel=1e-3)
    close(plain, run(tiny_model, replace(this, pair_weights=torch.ones(len(pairs))), tmp_path), rel=1e-6)


def read(folder: Path, values: list[Any], *overrides: str) -> Any:
    (folder / "r.yaml").write_text(RECIPE)
    (folder / "a.jsonl").write_text("".join(json.dumps({"trust": value}) + "\n" for value in values))
    recipe = load(folder / "r.yaml", overrides)
    pairs = [replace(pair, row=row) for pair, row in zip(random_pairs(3), (2, 0, 1), strict=True)]
    return read_pair_weights(recipe, expand(recipe), pairs)


def test_a_column_is_read_by_row_and_divided_by_its_mean(tmp_path: Path) -> None:
    (values,) = read(tmp_path, [1, 2, 6]).values()
    assert values.tolist() == [2.0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert read(tmp_path, [1, 2, 6], "train.pair_weights=null") == {}


@pytest.mark.parametrize(
    ("values", "overrides", "says"),
    [
        ([1, "x", 1], (), "row 2 of a.jsonl has 'x' in the column 'trust'; a weight is a number of 0 or more"),
        ([1, -1, 1], (), "row 2 of a.jsonl has -1 in the column"),
        ([0, 0, 0], (), "the column 'trust' of a.jsonl is 0 in all rows"),
        ([1, 1, 1], ("train.pair_weights=gone",), "no row of a.jsonl has a column 'gone'; there are trust"),
        ([1, 1, 1], ("train.pair_weights=trusts",), "has a column 'trusts'; did you mean 'trust'?"),
        ([1, None, 1], (), "row 2 of a.jsonl has None in the column 'trust'"),
        ([1, 1, 1], ("variants={dpo: {modifiers: [dr]}}",), "dpo with dr compares the rows of a step with each other"),
        ([1, 1, 1], ("variants={aot: }",), "aot compares the rows of a step with each other"),
        ([1, 1, 1], ("data.train=[a.jsonl, b.jsonl]",), "reads a column of one data set, and data.train has several"),
    ],
)
def test_what_is_no_weight_is_refused(values: list[Any], overrides: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, values, *overrides)
    (line,) = caught.value.lines
    assert says in line and line.startswith("variants.")


@pytest.mark.slow
def test_a_run_with_weights_is_another_training_when_they_change(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    rows = [json.loads(line) for line in (run_folder / "train.jsonl").read_text().splitlines()]
    words = ("run", "r.yaml", "--set", "variants={dpo: {train: {pair_weights: trust, steps: 2}}}", "--set", "evals={}")
    for factor in (1, 2, 3):
        weights = [1 + i * (factor > 2) for i in range(len(rows))]
        lines = [json.dumps(row | {"trust": factor * w}) for row, w in zip(rows, weights, strict=True)]
        (run_folder / "train.jsonl").write_text("\n".join(lines))
        assert prefzoo(monkeypatch, *words) == 0
        out = capsys.readouterr().out
        assert ("training dpo" in out) == (factor != 2), factor  # twice all weights are the same weights
