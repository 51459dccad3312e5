"""Several data sets in one recipe: how they are written, drawn, told apart in metrics, and shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from called import prefzoo as called

from prefzoo.data.batches import mixed_order, order
from prefzoo.data.mixtures import Origins, Part, quotas
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.evals.metrics.estimates import estimates
from prefzoo.evals.metrics.measure import Measured
from prefzoo.recipe.load import dump, load
from prefzoo.recipe.sources import names_of
from prefzoo.training.loss_inputs import Inputs, flags_of
from prefzoo.training.step_metrics import row_metrics
from prefzoo.training.step_values import PassValues
from prefzoo.types import Answers, LogProbs

RECIPE = """\
name: mixed
model: model
data:
  train: {train}
  eval: {eval}
train: {{batch: 4, steps: 2, precision: fp32}}
variants: {{dpo: }}
"""
MIX = "[{path: helpful.jsonl, weight: 3}, {path: safe.jsonl, name: harmless, weight: 1}]"


def recipe_file(folder: Path, train: str, held_out: str = "null") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(train=train, eval=held_out))
    return path


def write(path: Path, answers: list[tuple[str, str]]) -> None:
    rows = [{"prompt": f"{path.stem} {i}?", "chosen": good, "rejected": bad} for i, (good, bad) in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- in a recipe


@pytest.mark.parametrize(
    ("train", "paths"),
    [
        ("a.jsonl", ["a.jsonl"]),
        ("{path: org/pairs, split: test, revision: abc, streaming: true, rows: 9}", ["org/pairs"]),
        ("[a.jsonl]", ["a.jsonl"]),
        ("[a.jsonl, {path: b.jsonl, rows: 3, format: orca, columns: {question: q}}]", ["a.jsonl", "b.jsonl"]),
        (MIX, ["helpful.jsonl", "safe.jsonl"]),
    ],
)
def test_a_data_set_is_a_name_a_mapping_or_a_list_and_is_read_back_as_written(
    tmp_path: Path, train: str, paths: list[str]
) -> None:
    recipe = load(recipe_file(tmp_path, train))
    assert recipe.data.train_spec == ", ".join(paths)
    again = tmp_path / "again.yaml"
    again.write_text(dump(recipe))
    assert load(again).resolved() == recipe.resolved()


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ("[]", "data.train: is an empty list; name at least one data set, like [{path: pairs.jsonl}]"),
        ("[{pth: a}]", "data.train.0.path: is missing; add `path: pairs.jsonl (a file, a folder or a hub id)`"),
        ("[a, {path: b, weigth: 2}]", "data.train.1.weigth: no such field; did you mean 'weight'?"),
        ("[{path: a, weight: 0}]", "data.train.0.weight: must be greater than 0 (is 0)"),
        ("[{path: a, weight: -1}]", "data.train.0.weight: must be greater than 0 (is -1)"),
        ("[{path: a, weight: .inf}]", "data.train.0.weight: must be a finite number (is inf)"),
        ("[{path: a, rows: 0}]", "data.train.0.rows: must be greater than 0 (is 0)"),
        ("{path: a, weight: '1'}", "data.train.weight: must be a number (is '1'); write it without quotes: 1"),
        ("{path: a, columns: {promt: q}}", "data.train.columns.promt: no such field; did you mean 'prompt'?"),
        ("[a.jsonl, {path: a.jsonl, rows: 4}]",
         "data.train: a.jsonl is given twice, as 0 and as 1; keep one, and give it the larger weight"),
        ("[{path: a, name: x}, {path: b, name: x}]", "data.train: two sources are named 'x'; give them differe"),
        ("[{path: a, name: x y}]", "letters, digits, _ . - only, at most 64; like 'x-y'"),
        ("[{path: a, weight: 1}, b]", "data.train: some sources have a weight, and 1 has none; give one to all or to"),
        ("[3]", "data.train.0: must be a mapping of fields (is 3)"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_one_line_with_its_cure(tmp_path: Path, train: str, says: str) -> None:
    with pytest.raises(UserError) as e:
        load(recipe_file(tmp_path, train))
    assert any(says in line for line in e.value.lines), e.value.lines
    assert all("recipe.yaml:4: " in line for line in e.value.lines)


def test_an_override_names_a_source_by_its_number(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, MIX)
    assert load(path, ["data.train.1.weight=2"]).data.train[1].weight == 2  # type: ignore[index, union-attr]
    with pytest.raises(UserError, match=r"--set data\.train\.2\.weight=2: data\.train\.2: no such item .* 0 to 1"):
        load(path, ["data.train.2.weight=2"])


def test_held_out_sources_have_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.eval: a weight sets how often training sees a source"):
        load(recipe_file(tmp_path, "a.jsonl", "[{path: b, weight: 2}]"))


def test_sources_are_called_by_their_files_unless_two_are_called_alike(tmp_path: Path) -> None:
    recipe = load(recipe_file(tmp_path, "[x/a.jsonl, y/a.jsonl, {path: c.parquet, name: d}, org/set]"))
    assert names_of(recipe.data.train) == ["x-a.jsonl", "y-a.jsonl", "d", "set"]  # type: ignore[arg-type]


# --- read


def test_rows_are_numbered_through_and_know_their_source(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [("yes", "no")] * 3)
    (tmp_path / "b.jsonl").write_text(json.dumps({"q": "b?", "chosen": "yes", "rejected": "no"}) + "\n")
    b = DataSource("b.jsonl", {"prompt": "q"}, name="second")
    data, _ = read_source(Mixture((DataSource("a.jsonl", name="first", rows=2), b)), tmp_path)
    assert [e.row for e in data.examples] == [0, 1, 2] and data.examples[2].prompt == "b?"
    assert data.rows[2]["q"] == "b?" and data.place("", 2) == "b.jsonl: row 1"
    assert data.origins is not None and [data.origins.number(row) for row in range(3)] == [0, 0, 1]


def test_faults_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [("yes", "no")] * 2)
    sources = [DataSource("a.jsonl", rows=5), DataSource("gone.jsonl"), DataSource("a.jsonl", streaming=True)]
    with pytest.raises(UserError) as e:
        read_source(Mixture(tuple(sources)), tmp_path)
    assert e.value.lines[0] == "a.jsonl: rows is 5, but the data set has only 2; lower or remove it"
    assert "gone.jsonl: no such file" in e.value.lines[1]
    assert "streaming is for data sets on the hub and in folders, and this is a file" in e.value.lines[2]


def test_pairs_and_single_answers_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [("yes", "no")])
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "p", "completion": "c", "label": True}))
    with pytest.raises(UserError, match=r"^a\.jsonl has pairs, and b\.jsonl has single labelled answers"):
        read_source(Mixture((DataSource("a.jsonl"), DataSource("b.jsonl"))), tmp_path)


# --- drawn


def test_an_epoch_is_shared_out_by_weights() -> None:
    assert quotas([1, 1], 10) == [5, 5] and quotas([3, 1], 40) == [30, 10] and quotas([1, 1, 1], 10) == [4, 3, 3]
    assert quotas([1e-9, 1], 10) == [1, 9]  # no source goes empty
    assert sum(quotas([0.2, 0.5, 7], 101)) == 101


def test_every_row_of_a_source_comes_once_before_any_comes_again() -> None:
    small, large = list(range(10)), list(range(10, 40))
    steps = mixed_order([small, large], [3, 1], 8, 30, seed=1)  # 240 rows: six epochs of 40
    rows = [row for step in steps for row in step]
    for start in range(0, 240, 40):
        epoch = Counter(rows[start : start + 40])
        assert [epoch[row] for row in small] == [3] * 10 and sum(epoch[row] for row in large) == 10
    assert Counter(rows[:120])[15] == 1 and {Counter(rows[:120])[row] for row in large} == {1}
    assert rows == [row for step in mixed_order([small, large], [3, 1], 8, 30, seed=1) for row in step]
    assert mixed_order([small, large], [3, 1], 8, 5, seed=1) == steps[:5]  # a resumed run sees the same rows
    assert steps != mixed_order([small, large], [3, 1], 8, 30, seed=2)


def test_what_training_sees_of_each_source_is_told() -> None:
    parts = [Part("a", "a.jsonl", "s", 0, 4, 3.0), Part("b", "b.jsonl", "s", 4, 12, 1.0)]
    pairs = [TokenPair([1], [2, 3], [4], row) for row in (*range(3), *range(4, 16))]
    a, b = Origins(parts).counts(pairs)
    assert (a.kept, a.drawn, a.tokens, a.words) == (3, 11, 12, "repeated: each row 3 or 4 times")
    assert (b.kept, b.drawn, b.words) == (12, 4, "4 of its rows, the others in later epochs")
    with pytest.raises(UserError, match=r"^a\.jsonl: none of its 4 rows can be used; remove the source"):
        Origins(parts).counts(pairs[3:])


def test_without_weights_the_order_is_that_of_one_data_set() -> None:
    from dataclasses import replace

    from prefzoo import losses
    from prefzoo.recipe.sections import Train
    from prefzoo.training.job import Job

    pairs = [TokenPair([1], [2], [3], row) for row in range(9)]
    dpo = losses.get("dpo")
    job = Job(dpo, dpo.Params(), Train(batch=4, steps=6), 3, pairs, "shared", bf16=False)
    parts = [Part("a", "a", "s", 0, 4), Part("b", "b", "s", 4, 5)]
    assert replace(job, origins=Origins(parts)).steps == job.steps == order(9, 4, 6, 3)
    weighted = [replace(part, weight=weight) for part, weight in zip(parts, (4.0, 1.0), strict=True)]
    assert sum(row < 4 for step in replace(job, origins=Origins(weighted)).steps[:2] for row in step) > 4


# --- told apart


def test_metrics_of_a_step_are_split_by_source() -> None:
    pairs = [TokenPair([1], [2], [3], row) for row in (0, 5, 1, 6)]
    origins = Origins([Part("a", "a", "s", 0, 5), Part("b", "b", "s", 5, 5), Part("c", "c", "s", 10, 5)])
    flags = flags_of(origins, pairs)
    policy = LogProbs(
        torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.0, 3, 1, 2]), *[torch.ones(4, dtype=torch.long)] * 2
    )
    loss = torch.tensor([0.1, 0.2, 0.3, 0.4])
    values = row_metrics(PassValues(Inputs(policy, sources=flags), loss), ())
    assert values["sources/a/loss"].tolist() == pytest.approx([0.1, 0.3])
    assert values["sources/b/rewards/accuracies"].tolist() == [0.0, 1.0]
    assert values["sources/c/loss"].tolist() == []  # there in every process, so that all have the same names
    both = row_metrics(
        PassValues(Inputs(policy, sources=flags), torch.cat([loss, 1 + loss])), ()
    )  # two answers of each pair
    assert both["sources/b/loss"].tolist() == pytest.approx([0.2, 0.4, 1.2, 1.4])


def test_metrics_of_single_answers_are_split_by_source() -> None:
    flags = {"a": torch.tensor([True, False, True]), "b": torch.tensor([False, True, False])}
    answers = Answers(torch.tensor([-1.0, -2, -3]), torch.ones(3), torch.tensor([True, True, False]))
    values = row_metrics(PassValues(Inputs(answers, sources=flags), torch.tensor([1.0, 2, 3])), ())
    assert values["sources/a/rewards/chosen"].tolist() == [-1] and values["sources/b/rewards/chosen"].tolist() == [-2]
    assert values["sources/a/rewards/rejected"].tolist() == [-3] and values["sources/a/loss"].tolist() == [1, 3]


def test_held_out_accuracy_by_source() -> None:
    base = Measured([], [], [], [], [], [], {})
    model = Measured([1.0, -1, 2, 3], [], [], [], [], [], {}, sources=["x", "x", "y", "y"])
    numbers, faults = estimates({"base": base, "dpo": model}, "base")
    assert not faults and (
        numbers["dpo"]["accuracy_on_x"].estimate.value,
        numbers["dpo"]["accuracy_on_x"].estimate.n,
    ) == (0.5, 2)
    assert numbers["dpo"]["accuracy_on_y"].estimate.value == 1.0 and "accuracy_on_x" not in numbers["base"]


# --- in a run


@pytest.fixture
def place(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    write(tmp_path / "helpful.jsonl", [(f"yes {i}", f"no {i}") for i in range(4)])
    write(tmp_path / "safe.jsonl", [(f"surely not {i}", f"of course {i}") for i in range(12)])
    write(tmp_path / "test_a.jsonl", [(f"yes {i}", f"nope {i}") for i in range(3)])
    write(tmp_path / "test_b.jsonl", [(f"surely {i}", f"maybe {i}") for i in range(4)])
    recipe_file(tmp_path, MIX, "[test_a.jsonl, {path: test_b.jsonl, name: harmless}]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_and_data_show_the_sources(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for command in ("check", "data"):
        assert called(monkeypatch, command, "recipe.yaml") == 0
        out = capsys.readouterr().out
        (line,) = [line for line in out.splitlines() if "│ helpful " in line]
        assert "75.0%" in line and "repeated: each row 3 times" in line, command


def test_a_missing_source_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    recipe_file(place, "[helpful.jsonl, gone.jsonl]")
    assert called(monkeypatch, "check", "recipe.yaml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.train.1.path: no such file" in line and "gone.jsonl" in line


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "seeds", "sweep"])
def test_a_run_tells_its_sources_apart(place: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    sets = {"plain": [], "seeds": ["seeds=[1, 2]"], "sweep": ["variants.dpo.beta=[0.1, 0.2]", "sweep.validation=0.2"]}
    words = [word for text in sets[kind] for word in ("--set", text)]
    assert called(monkeypatch, "run", "recipe.yaml", *words) == 0
    folder = place / "results" / "mixed"
    logs = [json.loads(path.read_text().splitlines()[-1]) for path in sorted(folder.glob("*/metrics.jsonl"))]
    assert logs and all(
        "sources/harmless/rewards/accuracies" in line or "sources/helpful/loss" in line for line in logs
    )
    assert "accuracy_on_test_a" in (folder / "leaderboard.md").read_text()
    audit = json.loads((folder / "data_audit.json").read_text())
    assert [one["name"] for one in audit["train"]["sources"]] == ["helpful", "harmless"]
    page = (folder / "report.html").read_text()
    assert "helpful.jsonl, safe.jsonl" in page and "Training by source" in page
    capsys.readouterr()
    assert called(monkeypatch, "run", "recipe.yaml", *words) == 0
    again = [json.loads(path.read_text().splitlines()[-1]) for path in sorted(folder.glob("*/metrics.jsonl"))]
    assert again == logs  # kept, not trained again


@pytest.mark.slow
def test_a_mixture_is_trained_on_ray_as_in_order(place: Path) -> None:
    pytest.importorskip("ray")
    recipe_file(place, MIX, "[test_a.jsonl, {path: test_b.jsonl, name: harmless}]")
    words = [sys.executable, "-m", "prefzoo", "run", "recipe.yaml", "--set", "variants.dpo.beta=[0.1, 0.2]"]
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    more = {"PREFZOO_CACHE": str(place / "cache"), "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 2})}
    folders = {}
    for name, on in (("ray", ["--on", "ray"]), ("order", [])):
        done = subprocess.run(
            [*words, "--set", "sweep.validation=0.2", "--results", name, *on], env={**os.environ, **threads, **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        folder = place / name / "mixed"
        logs = {path.parent.name: path.read_text() for path in folder.glob("*/metrics.jsonl")}
        assert len(logs) == 2 and all("sources/harmless/" in log for log in logs.values())
        assert "accuracy_on_test_a" in (folder / "leaderboard.md").read_text()
        card = json.loads((folder / "data_card.json").read_text())["sets"]["train"]
        assert [(one["name"], one["weight"]) for one in card["sources"]] == [("helpful", 3.0), ("harmless", 1.0)]
        folders[name] = logs, card, json.loads((folder / "sweep.json").read_text())
    assert folders["ray"] == folders["order"]


@pytest.mark.slow
def test_other_weights_are_another_training(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert called(monkeypatch, "run", "recipe.yaml") == 0
    recipe_file(place, MIX.replace("weight: 3", "weight: 2"), "[test_a.jsonl]")
    capsys.readouterr()
    assert called(monkeypatch, "check", "recipe.yaml") == 0
    assert "trained again: dpo" in capsys.readouterr().out
