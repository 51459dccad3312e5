"""Equal within a margin, different, or undecided: the error rates, the plan, and what users read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from called import prefzoo
from click.testing import CliRunner
from rich.console import Console
from sample_runs import make_run, pairs_run, share
from scipy.stats import t as student

from prefzoo.cli import cli
from prefzoo.errors import UserError
from prefzoo.evals.boards.comparison import compare
from prefzoo.evals.boards.equivalence import Equivalence
from prefzoo.evals.boards.leaderboard import build
from prefzoo.evals.boards.multi_seed import over_seeds
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.boards.tables import render
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.report.page import page
from prefzoo.evals.stats.equivalence import equality, plan_to_decide
from prefzoo.evals.stats.intervals import Values

MARGIN = 0.05


def two(
    rng: np.random.Generator, n: int, difference: float, apart: float, seeds: int = 1, spread: float = 0.0
) -> tuple[Values, Values]:
    """Wins of two variants that disagree on a share of the prompts, the first being better by a difference."""
    shift = rng.normal(0, spread, (2, seeds, 1)) if spread else np.zeros((2, seeds, 1))
    side = rng.random((1, n))
    base = (rng.random((1, n)) < 0.5).astype(float)
    a = np.where(side < (apart + difference) / 2 + shift[0], 1.0, np.where(side < apart, 0.0, base))
    b = np.where(side < (apart + difference) / 2 + shift[1], 0.0, np.where(side < apart, 1.0, base))
    return a, b


def claimed(n: int, difference: float, apart: float, times: int, seed: int = 0) -> float:
    """How often two variants are called equal within MARGIN."""
    rng = np.random.default_rng(seed)
    return float(np.mean([equality(*two(rng, n, difference, apart), MARGIN).p <= 0.05 for _ in range(times)]))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "apart"), [(300, 0.1), (300, 0.3), (1000, 0.3)])
def test_variants_that_differ_by_the_margin_are_called_equal_once_in_twenty_at_most(n: int, apart: float) -> None:
    assert claimed(n, MARGIN, apart, 800) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 800)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize("apart", [0.06, 0.2, 0.4])
def test_the_error_rate_over_many_draws(n: int, apart: float) -> None:
    assert claimed(n, MARGIN, apart, 8000, seed=1) <= 0.0575


def test_variants_without_a_difference_are_called_equal_with_enough_prompts() -> None:
    assert claimed(1000, 0.0, 0.2, 200) > 0.9 and claimed(50, 0.0, 0.4, 200) == 0


def test_it_is_two_one_sided_tests_over_the_paired_differences() -> None:
    a, b = two(np.random.default_rng(3), 5000, 0.01, 0.3)
    test, gap = equality(a, b, MARGIN), (a - b)[0]
    stderr = gap.std(ddof=1) / np.sqrt(5000)
    assert test.value == pytest.approx(gap.mean())
    assert test.p == pytest.approx(student.sf((MARGIN - abs(gap.mean())) / stderr, 4999), rel=0.05)
    inside = test.low > -MARGIN and test.high < MARGIN
    assert inside == (test.p < 0.05)
    assert test.high - test.value == pytest.approx(student.isf(0.05, 4999) * stderr, rel=0.01)


def test_variants_that_never_differ_are_equal_only_if_there_are_enough_prompts() -> None:
    alike = np.ones((1, 1000))
    few = alike[:, :30]
    assert equality(few, few, MARGIN).p > 0.05 > equality(alike, alike, MARGIN).p
    assert equality(few[:, :1], few[:, :1], MARGIN).p == 1
    planned = plan_to_decide(few, few, MARGIN)
    assert planned is not None and 30 < planned.prompts <= 200


@pytest.mark.slow
def test_seeds_that_vary_are_part_of_the_error() -> None:
    rng = np.random.default_rng(5)
    equal = [equality(*two(rng, 400, MARGIN, 0.4, seeds=4, spread=0.05), MARGIN).p <= 0.05 for _ in range(400)]
    assert np.mean(equal) <= 0.07
    a, b = two(rng, 400, 0.0, 0.4, seeds=3, spread=0.05)
    planned = plan_to_decide(a, b, MARGIN)
    assert planned is None or (planned.seeds_known and planned.seeds >= 3)
    assert plan_to_decide(a, b, 0.001) is None  # no number of prompts makes up for seeds that vary by more


@pytest.mark.parametrize("difference", [0.0, MARGIN / 2, MARGIN, 2 * MARGIN])
def test_with_as_many_prompts_as_planned_little_is_left_undecided_whatever_the_truth_is(difference: float) -> None:
    rng = np.random.default_rng(7)
    pilot = two(rng, 200, difference, 0.4)
    planned = plan_to_decide(*pilot, MARGIN)
    assert planned is not None and planned.prompts > 200
    undecided = 0
    for _ in range(100):
        a, b = two(rng, planned.prompts, difference, 0.4)
        gap = (a - b)[0]
        differs = abs(gap.mean()) / (gap.std(ddof=1) / np.sqrt(len(gap))) > 1.96
        undecided += not differs and equality(a, b, MARGIN).p > 0.05
    assert undecided <= 20


def of(folder: Path, n: int = 300, equivalence: float | None = 3) -> Path:
    """A run of which dpo and ipo are the same but for a few prompts, and simpo is far below."""
    rng = np.random.default_rng(0)
    wins = np.array(share(int(0.6 * n), n))
    other = wins.copy()
    other[rng.choice(n, n // 50, replace=False)] = 0.5
    wins_far = np.array(share(int(0.3 * n), n))
    variants = {"dpo": wins.tolist(), "ipo": other.tolist(), "simpo": wins_far.tolist()}
    return make_run(folder, variants, equivalence=equivalence)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of(tmp_path_factory.mktemp("runs") / "mine")


def test_the_board_says_equal_and_different(run: Path) -> None:
    written = json.loads((run / "verdict.json").read_text())
    assert written["equality"] == (
        "dpo against ipo: equal within 3 points; against simpo and the base: different. "
        "ipo against simpo and the base: different. simpo against the base: different. "
        "One seed does not show how much seeds vary."
    )
    assert written["equality"] in (run / "leaderboard.md").read_text()
    pairs = {(p["one"], p["other"]): p for p in written["equivalence"]["pairs"]}
    assert written["equivalence"]["points"] == 3 and len(pairs) == 6
    one = pairs["dpo", "ipo"]
    assert one["outcome"] == "equal" and -3 < one["low"] < one["difference"] < one["high"] < 3
    assert pairs["ipo", "simpo"]["outcome"] == "different" and pairs["simpo", "the base"]["outcome"] == "different"


@pytest.mark.slow
def test_compare_says_the_same_and_so_does_the_page(run: Path) -> None:
    written, compared = json.loads((run / "verdict.json").read_text()), compare([run])
    assert compared.verdict.equality == written["equality"]
    printed = CliRunner().invoke(cli, ["compare", str(run), "--format", "json"])
    shown = json.loads(printed.stdout)
    assert shown["equivalence"] == written["equivalence"] and shown["verdict"]["equality"] == written["equality"]
    console = Console(file=io.StringIO(), width=300)
    render(compared, console)
    assert written["equality"] in console.file.getvalue()  # type: ignore[attr-defined]
    html = page(read_run(run))
    assert "Equal within 3 points?" in html and html.count("equal within 3 points") >= 2 and written["equality"] in html


@pytest.mark.slow
def test_few_prompts_leave_it_undecided_and_the_verdict_says_what_it_takes(tmp_path: Path) -> None:
    run = of(tmp_path / "small", n=60)
    words = json.loads((run / "verdict.json").read_text())["equality"]
    assert words.startswith("ipo against dpo: undecided: needs about ") and " prompts and 3 seeds" in words
    tied = make_run(tmp_path / "tied", {"a": share(20), "b": share(21)}, equivalence=3)
    answer = compare([tied]).verdict
    assert "undecided" in answer.equality and not answer.advice  # one plan, of the asker's own margin


@pytest.mark.slow
def test_a_difference_that_is_real_and_smaller_than_the_margin_is_called_both(tmp_path: Path) -> None:
    n = 600
    better = np.array(share(360, n))
    worse = better.copy()
    worse[:8] = 0.0  # 1.3 points, always in the same direction
    run = make_run(tmp_path / "both", {"a": better.tolist(), "b": worse.tolist()}, equivalence=3)
    equal = compare([run]).equivalence
    assert isinstance(equal, Equivalence)
    first = equal.pairs[0]
    assert (
        first.outcome == "equal"
        and first.differs
        and equal.words(first) == "equal within 3 points, though significantly different"
    )


@pytest.mark.slow
def test_no_margin_no_test(tmp_path: Path) -> None:
    run = of(tmp_path / "none", n=60, equivalence=None)
    written = json.loads((run / "verdict.json").read_text())
    assert written["equality"] == "" and "equivalence" not in written and compare([run]).equivalence is None
    assert "Equal within" not in page(read_run(run))
    asked = CliRunner().invoke(cli, ["compare", str(run), "--equivalence", "8", "--format", "json"])
    assert json.loads(asked.stdout)["equivalence"]["points"] == 8


@pytest.mark.slow
def test_runs_with_different_margins_are_told_apart(tmp_path: Path) -> None:
    one, other = of(tmp_path / "one", 60, 3), of(tmp_path / "other", 60, 5)
    compared = compare([one, other])
    assert compared.equivalence is None
    assert any("different margins of equality (3 points and 5 points)" in note for note in compared.notes)
    assert compare([one, other], equivalence=4).equivalence is not None


@pytest.mark.parametrize(
    ("points", "says"),
    [(0.0, "--equivalence: must be above 0 and at most 50 points (is 0); like 3"), (60.0, "at most 50 points (is 60)")],
)
def test_a_margin_that_is_none(run: Path, points: float, says: str) -> None:
    with pytest.raises(UserError, match="equivalence") as caught:
        compare([run], equivalence=points)
    assert says in caught.value.lines[0]


@pytest.mark.slow
def test_what_is_no_share_has_no_points(run: Path, tmp_path: Path) -> None:
    pairs = pairs_run(tmp_path / "pairs")
    with pytest.raises(UserError, match="applies only to shares, and preference_margin is not one"):
        compare([pairs], sort="preference_margin", equivalence=3)
    with pytest.raises(UserError, match="nothing is ranked"):
        compare([run], sort="words", equivalence=3)
    assert compare([pairs], sort="preference_margin").equivalence is None


@pytest.mark.slow
def test_a_board_over_seeds_tests_over_seeds() -> None:
    rng = np.random.default_rng(1)
    models = {"base": scored([0.5] * 300)}
    for name, rate in (("a", 0.6), ("b", 0.6), ("c", 0.2)):
        won = rng.random(300) < rate
        models |= {f"{name}-s{i}": scored(np.where(rng.random(300) < 0.01, 0.5, won).tolist()) for i in (0, 1)}
    seeds = {name: [f"{name}-s0", f"{name}-s1"] for name in "abc"}
    equal = over_seeds(build(models, {}, points=3), models, seeds).equivalence
    assert equal is not None and equal.seeds_known and {p.one for p in equal.pairs} == {"a", "b", "c"}
    assert "One seed" not in equal.sentence and {p.outcome for p in equal.pairs} >= {"different", "undecided"}


def scored(scores: list[float]) -> Measured:
    n = len(scores)
    return Measured([], scores, [50] * n, [True] * n, [0.1] * n, [""] * n, {})


def test_of_many_variants_the_sentence_is_about_the_leader() -> None:
    models = {"base": scored([0.5] * 40)} | {name: scored(share(20 + i)) for i, name in enumerate("abcde")}
    equal = build(models, {}, points=3).equivalence
    assert equal is not None and len(equal.pairs) == 15
    assert equal.sentence.startswith("e against d") and "All 15 pairs are in the JSON" in equal.sentence
    assert "d against" not in equal.sentence.removeprefix("e against d")


@pytest.mark.parametrize("points", ["0", "-1", "51", "nan", "3 points"])
@pytest.mark.parametrize("command", [("compare", "run"), ("eval", "run", "--suite", "prompts.jsonl")])
def test_a_margin_that_is_none_is_one_line(
    command: tuple[str, ...], points: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, *command, "--equivalence", points) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"error: --equivalence: must be above 0 and at most 50 points (is {points}); like 3"]
