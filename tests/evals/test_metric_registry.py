"""The registry of metrics: laws that hold for all of them, and a new one that is a single file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sample_runs import make_run, share

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.comparison import compare
from prefzoo.evals.boards.judged_files import rebuilt
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.boards.tables import difference, number, text
from prefzoo.evals.metrics import registry
from prefzoo.evals.metrics.held_out import has_all_metrics, on_pairs
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Metrics, all_metrics, benchmark_metric, register
from prefzoo.evals.report import page
from prefzoo.runtime import plugins
from prefzoo.runtime.run_folders import write_json
from prefzoo.types import LogProbs, VocabLogProbs

ROOT = Path(__file__).parents[2]


def model(sign: float = 1.0, **more: object) -> Measured:
    """A model with a number for every metric."""
    measured = Measured(
        [sign, 2.0, -1.0], [1.0, 0.5, 0.0], [3, 4, 5], [True, False, True], [0.1, 0.0, 0.2], ["a", "b!", "c"], {},
        [2.0, 1.0, 1.5], "own", "", 0,
        {"length_normalised_accuracy": [1.0, 0.0, 1.0], "chosen_displacement": [-0.1, 0.2, 0.1], "entropy": [1, 2, 3]},
        [5, 6, 7], [0.5, 0.25, -0.1], 0.1, games=[[2.0, 1.75], [1.0, 1.25], [1.5, 1.5]],
        drawn=[2.0, 1.0, 1.5],
    )  # fmt: skip
    return replace(measured, **more)  # type: ignore[arg-type]


BASE = Measured([], [0.5] * 3, [3] * 3, [True] * 3, [0.0] * 3, ["x", "y", "z"], {}, tokens=[5, 5, 5])


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    all_metrics()
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(registry, "_loaded", set())
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])


@pytest.mark.parametrize("metric", all_metrics(), ids=lambda m: m.name)
def test_what_holds_for_every_metric(metric: Metric) -> None:
    assert metric.label and metric.description and metric.digits >= 0
    assert not (metric.percent and metric.unit), "a share is shown in percent and has no unit"
    if metric.needs_baseline and not metric.judged:
        assert metric.estimate(BASE, None) is None, "the base has no number against itself"
    if metric.base_value is not None:
        assert metric.needs_baseline
    if metric.measured_on == "training" or metric.pooled is not None:
        return
    estimate = metric.estimate(model(), BASE)
    assert estimate is not None and estimate.low <= estimate.value <= estimate.high and estimate.n == 3
    assert estimate.value >= 0 or not metric.percent
    rows = metric.values(model(), BASE)
    if rows is not None:
        assert rows.shape == (3,) and estimate.value == pytest.approx(np.nanmean(rows))
    empty = Measured([], [], [], [], [], [], {})
    assert metric.values(empty, empty) is None and metric.estimate(empty, empty) is None


def test_names_and_positions_are_unique() -> None:
    metrics = all_metrics()
    assert len({m.name for m in metrics}) == len({m.position for m in metrics}) == len({m.label for m in metrics})


def test_displacement_is_per_token_and_has_one_unit_everywhere() -> None:
    """A change of 2 nats over 4 tokens is half a nat per token, and every page and table names that unit."""
    metric = Metrics()["chosen_displacement"]
    assert metric.title == "chosen log-prob, change, nats per token" and metric.difference_unit == "nats per token"
    assert number(metric, -0.1234, -0.2, 0.0) == "-0.123 [-0.200, 0.000]"
    tensors = {f.name: torch.zeros(1, 4) for f in fields(VocabLogProbs)}
    of_pair = {"chosen": torch.tensor([-8.0]), "rejected": torch.zeros(1)}
    lengths = {"chosen_len": torch.tensor([4]), "rejected_len": torch.tensor([4])}
    policy = VocabLogProbs(**tensors | of_pair | lengths)
    reference = replace(policy, chosen=torch.tensor([-6.0]))
    assert on_pairs(policy, reference, None).pairs["chosen_displacement"] == [-0.5]


@pytest.mark.slow
def test_kl_and_values_of_held_out_pairs_are_paired_in_compare(tmp_path: Path) -> None:
    """As they are over seeds: by the same rows, the base's KL from itself being zero."""
    run = make_run(tmp_path / "a", {"dpo": share(30), "ipo": share(20)})
    models = {name: v.measured for name, v in read_run(run).variants.items() if v.measured is not None}
    rng = np.random.default_rng(0)
    for name in ("dpo", "ipo"):
        values = {"entropy": rng.normal(2, 0.1, 40).tolist(), "chosen_displacement": rng.normal(1, 0.1, 40).tolist()}
        models[name] = replace(models[name], margins=[1.0] * 40, pairs=values, kl=rng.normal(3, 0.1, 8).tolist())
        rewrite(run / name, models[name])
    leaderboard.build(models, {}).write(run)
    differences = compare([run]).differences.set_index(["metric", "variant"])
    assert bool(differences.paired["kl", "dpo"]) and differences.n["kl", "dpo"] == 8
    assert differences.value["kl", "dpo"] == pytest.approx(np.mean(models["dpo"].kl))
    assert bool(differences.paired["chosen_displacement", "ipo"])
    between = compare([run], baseline="dpo").differences.set_index(["metric", "variant"])
    assert bool(between.paired["entropy", "ipo"]) and between.n["entropy", "ipo"] == 40


@pytest.mark.parametrize(
    ("lm_eval_metric", "value", "shown", "gap"),
    [
        ("acc", 0.5, "50.0%", "+1.0 p=.040 *"),
        ("bits_per_byte", 0.95, "0.950", "+0.010 p=.040 *"),  # below 1, and yet no share
        ("word_perplexity", 23.4567, "23.46", "+0.01 p=.040 *"),
        ("some_new_score", 12.0, "12.000", "+0.010 p=.040 *"),
    ],
)
def test_a_benchmark_has_the_unit_of_its_metric(lm_eval_metric: str, value: float, shown: str, gap: str) -> None:
    metric = benchmark_metric("mine", [{"metric": lm_eval_metric, "value": value, "higher_is_better": False}])
    assert number(metric, value) == shown and difference(metric, 0.01, 0.04) == gap
    assert metric.higher_is_better is False and metric.measured_on == "benchmark"
    delta = Metrics({"mine": metric})["mine_delta"]
    assert (delta.unit, delta.percent, delta.digits) == (metric.unit, metric.percent, metric.digits)


def test_a_value_and_its_interval_have_one_unit() -> None:
    """An interval by standard errors may reach above 1; it is in percent like its value."""
    assert number(benchmark_metric("m", [{"metric": "acc", "value": 0.99}]), 0.99, 0.95, 1.03) == "99.0% [95.0, 103.0]"


def test_an_unknown_name_is_a_plain_number() -> None:
    assert number(Metrics()["of_a_package_that_is_gone"], 0.5) == "0.500"


@pytest.mark.parametrize("name", ["", "Upper", "with space", "x_delta"])
def test_bad_names_are_refused(name: str, own_registry: None) -> None:
    with pytest.raises(ValueError, match="use only lower case letters"):
        register(Metric(name, "label", "prompts"))


def test_a_taken_name_is_refused(own_registry: None) -> None:
    with pytest.raises(ValueError, match="metric 'kl': the name is taken by 'KL'; choose another"):
        register(Metric("kl", "mine", "prompts"))


def test_a_broken_package_is_reported_and_the_rest_works(
    own_registry: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint("gone", "no_such_module:METRIC", "prefzoo.metrics")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    assert "win_rate" in {m.name for m in all_metrics()}
    assert "entry point gone = no_such_module:METRIC fails: ModuleNotFoundError" in capsys.readouterr().err


def failing(measured: Measured, base: Measured | None) -> np.ndarray:
    return np.array([1 / len(measured.pairs)])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            failing,
            f"test_metric_registry.py:{failing.__code__.co_firstlineno + 1}: ZeroDivisionError: division by zero",
        ),
        (lambda m, base: np.ones((2, 2)), "ValueError: rows of shape (2, 2); return one value per prompt or pair"),
    ],
)
def test_a_metric_that_fails_is_named_and_takes_no_other_with_it(
    rows: registry.RowsFunction, says: str, own_registry: None
) -> None:
    register(Metric("mine", "mine", "prompts", rows=rows))
    board = leaderboard.build({"base": BASE, "a": replace(BASE, scores=[1.0] * 3)}, {})
    assert says in board.faults["mine"] and "score" in set(board.long.metric) and "mine" not in set(board.long.metric)
    (caution,) = [line for line in board.verdict().cautions if "mine" in line]
    assert caution.startswith("The metric mine could not be measured: ") and says in caution


@pytest.mark.parametrize(
    ("from_logprobs", "says"),
    [
        (lambda policy, _: policy.nothing, "AttributeError: 'VocabLogProbs' object has no attribute 'nothing'"),
        (lambda policy, _: policy.chosen.mean(), "ValueError: values of shape () for 1 pairs; return one per pair"),
    ],
)
def test_a_metric_of_log_probs_that_fails_is_named(from_logprobs: Any, says: str, own_registry: None) -> None:
    one = torch.ones(1)
    policy = VocabLogProbs(one, one, one, one, *[torch.ones(1, 2)] * 6)
    mine = Metric("mine", "mine", "held-out pairs", from_logprobs=from_logprobs)
    held_out = on_pairs(policy, LogProbs(one, one, one, one), None, [mine])
    assert held_out.margins == [0.0] and held_out.pairs == {} and says in held_out.failed["mine"]
    board = leaderboard.build({"base": BASE, "a": replace(model(), failed=held_out.failed)}, {})
    assert says in board.faults["mine"]


def test_a_metric_of_log_probs_that_is_new_is_measured(own_registry: None) -> None:
    """Numbers on disk that lack it are measured again; what it returns is a row per pair."""
    assert has_all_metrics(model())
    register(Metric("peak", "peak", "held-out pairs", from_logprobs=lambda policy, _: policy.chosen.exp()))
    assert not has_all_metrics(model()) and has_all_metrics(BASE)  # the base has no held-out pairs
    measured = replace(model(), pairs=model().pairs | {"peak": [0.5, 0.25, 0.0]})
    assert has_all_metrics(measured) and Metrics()["peak"].values(measured, BASE).tolist() == [0.5, 0.25, 0.0]  # type: ignore[union-attr]


@pytest.fixture
def contributed(tmp_path: Path, own_registry: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The metric of docs/extending.md, as a file of a package with the entry point that stands there."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = text.split("## Adding a metric\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (group, name, value) = re.findall(r'entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', section)[0]
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "exclamations.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path / "site")
    points = [EntryPoint(name, value, group)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    yield


@pytest.mark.slow
def test_adding_a_metric_is_one_file_as_contributing_says(tmp_path: Path, contributed: None) -> None:
    """It is in the long table, the leaderboard, `compare` and the page, each with the facts that the file says."""
    run = make_run(tmp_path / "run", {"dpo": share(30), "ipo": share(20)})
    for name, marks in (("base", 0), ("dpo", 2), ("ipo", 1)):
        measured = read_run(run).variants[name].measured
        assert measured is not None
        rewrite(run / name, replace(measured, answers=["Oh" + "!" * marks] * 39 + ["Oh"]))
    board = rebuilt(read_run(run))
    board.write(run)
    row = pd.read_csv(run / "leaderboard.csv").set_index(["variant", "metric"]).loc[("dpo", "exclamations")]
    assert row.value == pytest.approx(2 * 39 / 40) and row.n == 40 and row.low < row.value < row.high
    assert str(row.higher_is_better) == "False" and pd.isna(row.baseline)
    assert str(board.wide().set_index("variant").exclamations["dpo"]).startswith("1.95 [")
    comparison = compare([run], sort="exclamations")
    assert list(comparison.table.variant) == ["base", "ipo", "dpo"]  # less is better
    assert comparison.verdict.decision.startswith("No winner: ipo is better than dpo, but does not beat the base.")
    assert comparison.verdict.decision.endswith(" All of them are worse than the base.")
    assert comparison.verdict.statistics.startswith("ipo has 0.97 (")
    gap = comparison.differences.set_index(["metric", "variant"]).loc[("exclamations", "dpo")]
    assert gap.value == pytest.approx(2 * 39 / 40) and bool(gap.paired) and gap.p < 0.01
    assert "; +1.95 p" in text(comparison, "md")
    html = page.page(read_run(run))
    assert "exclamation marks</button>" in html and ">1.95<small>" in html


def rewrite(folder: Path, measured: Measured) -> None:
    """Put the numbers of a model in its folder, as the run does."""
    write_json(folder / "evals.json", asdict(measured))


def test_zero_has_no_sign() -> None:
    metric = Metrics()["win_rate"]
    assert metric.text(-0.0001) == metric.text(0.0001) == "0.0" and metric.text(-0.0001, "+") == "+0.0"
