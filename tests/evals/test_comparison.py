"""Runs and variants side by side: what is ranked, what is refused, and what the numbers are."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from first_fast import first_fast
from rich.console import Console
from sample_runs import make_run, pairs_run, quick_run, seeded_run, share

from prefzoo.errors import UserError
from prefzoo.evals.boards.comparison import compare
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.boards.tables import render, text
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import seeded_difference
from prefzoo.runtime.run_folders import Failure, write_json


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_run(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture(scope="module")
def pairs(quick: Path) -> Path:
    return pairs_run(quick.parent / "zoo")


@pytest.mark.slow
def test_numbers_are_the_boards_and_differences_are_paired(quick: Path) -> None:
    comparison = compare([quick], baseline="dpo")
    board = pd.read_csv(quick / "leaderboard.csv").set_index(["variant", "metric"])
    row = comparison.table.set_index("variant").loc["simpo"]
    for column in ("value", "low", "high", "n"):
        shown = "win_rate" + ("" if column == "value" else f"_{column}")
        assert row[shown] == board.loc[("simpo", "win_rate"), column]
    mine, other = (read_run(quick).variants[v].measured for v in ("simpo", "dpo"))
    assert mine and other
    expected = intervals.paired_difference(np.array(mine.scores), np.array(other.scores))
    rows = comparison.differences[comparison.differences.metric == "score"].set_index("variant")
    assert (rows.loc["simpo", "value"], rows.loc["simpo", "p"]) == (expected.value, expected.p)
    assert list(rows.p_holm) == intervals.holm(list(rows.p)) and rows.paired.all() and set(rows.index) == {
        "cdpo", "ipo", "simpo", "base",
    }  # fmt: skip
    benchmark = comparison.differences[comparison.differences.metric == "knowledge"]
    assert benchmark.paired.all()  # document by document


@pytest.mark.slow
def test_ranks_are_the_boards(quick: Path) -> None:
    comparison = compare([quick])
    assert comparison.by == "win_rate" and comparison.baseline == "base"
    assert [(r.variant, r.rank) for r in comparison.table.itertuples() if r.variant != "base"] == [
        ("simpo", 1), ("dpo", 1), ("cdpo", 1), ("ipo", 4),
    ]  # fmt: skip
    assert (
        comparison.table.set_index("variant")["rank"]["base"] == 4
    )  # three variants are better by their whole interval
    assert comparison.verdict.decision.startswith(
        "No winner: simpo, dpo and cdpo tie; ipo is worse. simpo, dpo and cdpo beat "
    )
    assert comparison.verdict.statistics.startswith("simpo has a win rate against the base of ")
    assert any("points between two variants" in note for note in comparison.notes)


def test_variants_of_two_runs_by_what_they_share(quick: Path, pairs: Path) -> None:
    comparison = compare(
        [quick, pairs / "dpo", pairs / "repo"], baseline=pairs / "dpo", metrics=["preference_accuracy"]
    )
    assert comparison.by == "preference_accuracy" and comparison.baseline == "zoo/dpo"
    assert {label.partition("/")[0] for label in comparison.table.variant[:4]} == {"quickstart"}
    assert {"loss", "train.batch", "train.steps"} <= set(comparison.recipes.columns)
    assert "train.gradient_checkpointing" not in comparison.recipes  # off in one, unknown to the other
    assert list(comparison.table.variant).count("base") == 1


@pytest.mark.parametrize(
    ("other", "says"),
    first_fast(
        [
            ({"model": "m/other"}, r"different base model \(m/base and m/other\)"),
            ({"prompts": "q.jsonl"}, r"different set of prompts \(p.jsonl and q.jsonl\)"),
            ({"judge": "own.py:better"}, r"different judge \(verifier and own.py:better\)"),
            ({"tokens": 64}, r"different limit on answers \(48 tokens and 64 tokens\)"),
        ]
    ),
)
def test_what_cannot_be_compared_is_not_ranked(tmp_path: Path, other: dict[str, Any], says: str) -> None:
    paths = [make_run(tmp_path / "a", {"dpo": share(36)}), make_run(tmp_path / "b", {"dpo": share(10)}, **other)]
    with pytest.raises(UserError, match=says) as caught:
        compare(paths, sort="win_rate")
    assert len(caught.value.lines) == 1 and "--unranked shows them side by side" in caught.value.lines[0]
    comparison = compare(paths, sort="win_rate", unranked=True)
    assert comparison.table["rank"].isna().all() and list(comparison.table.run) == sorted(comparison.table.run)
    told = comparison.differences[comparison.differences.metric == "win_rate"]
    assert set(told.variant) == {"a/dpo"}  # from a/base, and none across
    assert any(note.startswith("Not ranked by win_rate: different") for note in comparison.notes)


@pytest.mark.slow
def test_the_same_name_over_other_prompts_is_another_set(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / "a", {"dpo": share(36)}), make_run(tmp_path / "b", {"dpo": share(10)})]
    outputs = paths[1] / "base" / "model_outputs.json"
    write_json(outputs, [{**row, "instruction": "else"} for row in json.loads(outputs.read_text())])
    with pytest.raises(UserError, match=r"p\.jsonl with different content"):
        compare(paths)


@pytest.mark.slow
def test_runs_without_a_common_metric_are_not_ranked(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path / n, {"dpo": share(36)}) for n in "ab")
    long = pd.read_csv(b / "leaderboard.csv")
    long[long.metric == "words"].to_csv(b / "leaderboard.csv", index=False)
    with pytest.raises(UserError, match="a, b: have no metric in common to rank by; --unranked shows"):
        compare([a, b])
    assert compare([a, b], unranked=True).by == ""


@pytest.mark.slow
def test_comparable_runs_share_one_ranking(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {"dpo": share(36), "simpo": share(34)})
    b = make_run(tmp_path / "b", {"dpo": share(10)}, gamma=2.0)
    comparison = compare([a, b])
    assert [(r.variant, r.rank) for r in comparison.table.itertuples()][:2] == [("a/dpo", 1), ("a/simpo", 1)]
    assert (
        dict(zip(comparison.table.variant, comparison.table["rank"], strict=True))["b/dpo"] == 4
    )  # and worse than its base
    assert list(comparison.recipes.columns) == ["variant", "loss", "gamma"]
    by_cost = compare([a, b], sort="seconds")
    assert by_cost.table.variant.iloc[0] in ("a/dpo", "b/dpo") and by_cost.table["rank"].isna().all()
    assert list(compare([a], sort="words").table["rank"].isna()) == [True] * 3  # neither more nor fewer is better


def test_a_benchmark_is_paired_by_its_documents(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"dpo": share(36), "simpo": share(34)})
    long = pd.read_csv(run / "leaderboard.csv")
    for name, right in (("base", 4), ("dpo", 8), ("simpo", 8)):
        (run / name / "benchmarks").mkdir()
        rows = [{"doc_id": i, "doc_hash": "h", "score": float(i < right)} for i in range(10)]
        (run / name / "benchmarks" / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        mine = {"variant": name, "metric": "sums", "value": right / 10, "stderr": 0.1, "low": 0, "high": 1, "n": 10}
        long = pd.concat([long, pd.DataFrame([mine])])
    long.to_csv(run / "leaderboard.csv", index=False)
    told = compare([run], metrics=["sums"]).differences.set_index("variant")
    assert told.loc["dpo", "value"] == pytest.approx(0.4) and bool(told.loc["dpo", "paired"])
    assert told.loc["dpo", "p"] == pytest.approx(2 / 2**4)  # four documents, all the same way: exact sign flips


@pytest.mark.slow
def test_a_run_that_was_cut_short_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"dpo": share(36), "simpo": share(34)})
    for name in ("leaderboard.csv", "simpo/evals.json"):
        (run / name).unlink()
    comparison = compare([run])
    assert "Not measured yet: simpo; start the same prefzoo run again to resume." in comparison.notes
    assert comparison.table.set_index("variant")["rank"].dropna().to_dict() == {"dpo": 1, "base": 2}


@pytest.mark.slow
def test_what_to_beware_of_is_told_of_each_run(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path / name, {"dpo": share(36), "simpo": share(34)}) for name in "ab")
    path = a / "dpo" / "evals.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": [False] * 40}))
    line = "All answers of dpo were cut at 48 tokens (evals.max_new_tokens)."
    assert compare([a]).verdict.cautions == (line,)
    assert compare([a, b]).verdict.cautions == (f"a: {line}",)
    (b / "simpo" / "evals.json").unlink()
    Failure("simpo", "simpo", "k", 3, "the loss is nan").write(b / "simpo")
    comparison = compare([b])
    assert comparison.verdict.decision.endswith("simpo failed (step 3: the loss is nan).")
    assert not any("Not measured yet" in note for note in comparison.notes)


@pytest.mark.slow
def test_a_leader_is_held_against_the_base(tmp_path: Path) -> None:
    weak = compare([make_run(tmp_path / "a", {"dpo": share(22), "simpo": share(21)})])
    assert weak.verdict.decision == "No winner: dpo and simpo tie. None of them can be told from the base."
    assert weak.verdict.statistics.startswith("dpo has a win rate against the base of 55.0% (")
    assert "Paired differences of dpo from simpo: +2.5 points (p = 0.98); p after Holm." in weak.verdict.statistics
    worse = compare([make_run(tmp_path / "b", {"dpo": share(10), "simpo": share(5)})])
    assert worse.verdict.decision == "No winner: dpo and simpo tie. All of them are worse than the base."
    assert worse.table.set_index("variant")["rank"].to_dict() == {"base": 1, "dpo": 2, "simpo": 2}
    alone = compare([make_run(tmp_path / "c", {"dpo": share(40), "simpo": share(5)})])
    assert alone.verdict.decision == "dpo wins: it is better than simpo. dpo beats the base; simpo is worse than it."
    assert alone.verdict.advice == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"paths": []}, "no run is named"),
        ({"paths": ["."]}, "neither a run's folder nor a variant's; name a folder"),
        ({"paths": ["quickstart/dpoo"]}, "has no variant 'dpoo'; did you mean 'dpo'"),
        ({"paths": ["quickstart"], "metrics": ["win_rat"]}, "--metric: nothing measured is called 'win_rat'; did you"),
        ({"paths": ["quickstart"], "sort": "sped"}, "--sort: nothing measured is called 'sped'; there are win_rate, "),
        ({"paths": ["quickstart"], "baseline": "kto"}, "--baseline: no variant 'kto' among those compared"),
        ({"paths": ["quickstart/dpo", "zoo/dpo"], "baseline": "dpo"}, "dpo is in several runs; write quickstart/d"),
    ],
)
@pytest.mark.usefixtures("pairs")
def test_a_mistake_is_one_line(quick: Path, words: dict[str, Any], says: str) -> None:
    paths = [quick.parent / path for path in words["paths"]]
    with pytest.raises(UserError) as caught:
        compare(**words | {"paths": paths})
    assert len(caught.value.lines) == 1 and says in caught.value.lines[0]


def of_seeds(folder: Path, **more: Any) -> Path:
    """Two variants of three seeds, and one of one."""
    rng = np.random.default_rng(3)
    rates = {"dpo": (0.9, 0.8, 0.85), "ipo": (0.6, 0.5, 0.65), "one": (0.7,)}
    scores = {name: [rng.binomial(1, r, 60).astype(float).tolist() for r in own] for name, own in rates.items()}
    return seeded_run(folder, scores, **more)


@pytest.mark.slow
def test_seeds_of_a_variant_are_one_row(tmp_path: Path) -> None:
    run = of_seeds(tmp_path / "r")
    comparison = compare([run])
    table = comparison.table.set_index("variant")
    assert set(table.index) == {"dpo", "ipo", "one-s0", "base"}
    assert table.seeds.dropna().to_dict() == {"dpo": 3, "ipo": 3, "one-s0": 1} and pd.isna(table.loc["dpo", "seed"])
    board = pd.read_csv(run / "leaderboard.csv").set_index(["variant", "metric"])
    for column in ("value", "low", "high", "n"):
        shown = "win_rate" + ("" if column == "value" else f"_{column}")
        assert table.loc["ipo", shown] == pytest.approx(board.loc[("ipo", "win_rate"), column])
    assert table["rank"].to_dict()["dpo"] == 1 and table["rank"].to_dict()["ipo"] > 1
    scores = {name: np.array([read_run(run).variants[f"{name}-s{i}"].measured.scores for i in range(3)])  # type: ignore[union-attr]
              for name in ("dpo", "ipo")}  # fmt: skip
    expected = seeded_difference(scores["ipo"], scores["dpo"])
    row = compare([run], baseline="dpo", metrics=["win_rate"]).differences.set_index("variant").loc["ipo"]
    assert (row.value, row.low, row.high) == pytest.approx((expected.value, expected.low, expected.high)) and row.paired
    costs = comparison.costs.set_index("variant")
    assert costs.loc["dpo", "seconds"] == pytest.approx(11) and costs.loc["ipo", "seconds"] == pytest.approx(14)
    assert "seed" not in comparison.recipes.columns or comparison.recipes.set_index("variant").seed["dpo"] == [0, 1, 2]
    for form in ("md", "html"):
        assert "seeds" in text(comparison, form)
    assert "95% intervals over seeds together with prompts" in text(comparison, "md")
    assert "seeds" not in text(compare([make_run(tmp_path / "plain", {"dpo": share(36)})]), "md").partition("##")[2]


@pytest.mark.slow
def test_a_variant_of_several_seeds_or_one_of_them_is_named(tmp_path: Path) -> None:
    run = of_seeds(tmp_path / "r", equivalence=3)
    assert set(compare([run / "dpo", run / "ipo"]).table.variant) == {"dpo", "ipo"}
    assert set(compare([run / "dpo-s1", run / "ipo"]).table.variant) == {"dpo-s1", "ipo"}
    by_seed = compare([run], by_seed=True).table
    assert len(by_seed) == 8 and set(by_seed.seeds.dropna()) == {1}
    equal = compare([run / "dpo", run / "ipo"]).equivalence
    assert equal is not None and equal.seeds_known
    with pytest.raises(UserError, match="has no variant 'dop'; did you mean 'dpo'"):
        compare([run / "dop"])
    two = compare([run, of_seeds(tmp_path / "s")])
    assert {"r/dpo", "s/dpo"} <= set(two.table.variant) and two.agreements[0].tau == 1


@pytest.mark.slow
def test_a_terminal_of_80_columns_holds_everything(quick: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    render(compare([quick, pairs / "apo_zero_unpaired"]), Console(file=out, width=80, force_terminal=True))
    printed = out.getvalue()
    assert "\x1b[3" not in printed  # no colour
    assert max(len(line) for line in printed.splitlines() if "\x1b" not in line) <= 80
    row = read_run(quick).long.set_index(["variant", "metric"]).loc[("simpo", "win_rate")]
    assert "…" not in printed and f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]" in printed
    assert f"{100 * row.value - 50:+.1f} p=" in printed and " GiB" in printed


def test_every_format_has_the_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a|b", {"dpo": share(36), "<b>": share(34)})
    comparison = compare([run])
    loaded = json.loads(text(comparison, "json"))
    assert loaded["ranked_by"] == "win_rate" and loaded["table"][0]["win_rate"] == 0.9
    assert loaded["costs"][0]["energy_joules"] == 5.0
    flat = pd.read_csv(io.StringIO(text(comparison, "csv"))).set_index("variant")
    assert flat.loc["dpo", "win_rate"] == 0.9 and flat.loc["dpo", "win_rate_difference"] == pytest.approx(0.4)
    assert flat.loc["dpo", "seconds"] == 10.0
    assert "| 1 | dpo | 90.0% [" in text(comparison, "md")
    page = text(comparison, "html")
    assert "&lt;b&gt;" in page and "<b>" not in page
