"""The page of a run without a browser: whole, escaped, small, and honest about what the run lacks."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from report_runs import N, full_run
from sample_runs import make_run, quick_run, seeded_run, share

from prefzoo.evals.boards.judged_files import metrics_of
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.report import page, prompts
from prefzoo.evals.report.curves import curves, displaced
from prefzoo.evals.report.figures import draw
from prefzoo.evals.report.frontier import along, explanation
from prefzoo.evals.report.matches import matches, round_robin_of
from prefzoo.evals.report.numbers import board_of, cell, columns_of, long_of
from prefzoo.runtime.run_folders import Failure

HOSTILE = "</script><script>bad()</script><img src=x onerror=bad()><!-- {{ 7 * 7 }} \u2028 \" ' &lt;"


class Outline(HTMLParser):
    """The elements and attributes that a browser would see, and the text of each section."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.section = ""
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action", "data", "srcset")]
        if tag == "section":
            self.section = dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        self.texts[self.section] = self.texts.get(self.section, "") + data


def outline(html: str) -> Outline:
    result = Outline()
    result.feed(html)
    return result


@pytest.mark.slow
def test_hostile_text_adds_no_element_and_no_attribute(tmp_path: Path) -> None:
    plain = outline(page.page(read_run(full_run(tmp_path / "plain"))))
    hostile = outline(page.page(read_run(full_run(tmp_path / "hostile", HOSTILE))))
    # A loss that is not its variant's name stands below it, in a <small> more per trained variant and run.
    assert set(hostile.tags) == set(plain.tags) and hostile.tags.count("script") == 2
    assert hostile.attributes == plain.attributes and not any(a.startswith("on") for a in hostile.attributes)
    assert all(a.startswith("#") or a == "data:," for a in hostile.addresses)
    assert HOSTILE in hostile.texts["verdict"] and HOSTILE in hostile.texts["data"]


@pytest.mark.slow
def test_answers_are_embedded_as_they_were(tmp_path: Path) -> None:
    html = page.page(read_run(full_run(tmp_path / "run", HOSTILE)))
    match = re.search(r'<script type="application/json" id="answers-data">(.*?)</script>', html, re.DOTALL)
    assert match is not None
    data = json.loads(match[1])
    assert data["prompts"][3]["text"] == f"prompt 3{HOSTILE}"
    at = data["variants"].index("simpo")
    assert data["prompts"][3]["answers"][at] == f"answer 3 of simpo{HOSTILE}"
    verdicts = json.loads((tmp_path / "run" / "simpo" / "annotations.json").read_text(encoding="utf-8"))
    assert [p["won"][at] for p in data["prompts"]] == [v["preference"] - 1 for v in verdicts]


@pytest.mark.slow
def test_a_policy_lets_nothing_be_fetched(tmp_path: Path) -> None:
    html = page.page(read_run(full_run(tmp_path / "run")))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None and policy[1].startswith("default-src 'none'; ") and "sha256-" in policy[1]
    assert "<h3>Win rate along the training</h3>" in html


@pytest.mark.slow
def test_a_page_says_what_the_leaderboard_says(tmp_path: Path) -> None:
    folder = quick_run(tmp_path / "run")
    html = page.page(read_run(folder))
    texts = outline(html).texts
    told = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert (folder / "leaderboard.md").read_text(encoding="utf-8").startswith(f"{told['decision']} {told['advice']}\n")
    assert all(told[part] and told[part] in texts["verdict"] for part in ("decision", "statistics"))
    assert len(html.encode()) < page.MOST


@pytest.mark.slow
def test_every_rank_of_the_page_is_the_leaderboards(tmp_path: Path) -> None:
    run = read_run(quick_run(tmp_path / "run"))
    board = board_of(run)
    assert board is not None and board.ranks == {"simpo": 1, "dpo": 1, "cdpo": 1, "ipo": 4, "base": 4}
    html = page.page(run)
    cells = re.findall(r'<td class="num gap">(.*?)</td>', html)
    names = re.findall(r'<tr><th scope="row" class="name">(\w+)</th>\s*<td class="(?:self|win|loss)', html)
    assert dict(zip(names, map(int, cells), strict=True)) == board.ranks
    rows = re.findall(r'<tr data-find="(\w+) .*?<td class="num" data-sort="(\d+)">', html, re.DOTALL)
    assert {name: int(rank) for name, rank in rows} == board.ranks and [n for n, _ in rows] == board.order


@pytest.mark.slow
def test_a_variant_worse_than_the_base_is_marked_and_the_base_has_its_number(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", {"dpo": share(4), "ipo": share(20)}))
    html = page.page(run)
    rows = {match[1]: match[0] for match in re.finditer(r'<tr data-find="(\w+) .*?</tr>', html, re.DOTALL)}
    assert {name: "▼ worse than base" in row for name, row in rows.items()} == {
        "dpo": True, "ipo": False, "base": False,
    }  # fmt: skip
    assert 'data-sort="0.5">50.0%<small>reference</small>' in rows["base"]
    assert "dpo is worse than it" in outline(html).texts["verdict"]


@pytest.mark.slow
def test_every_column_has_a_tooltip_and_an_entry_in_the_glossary(tmp_path: Path) -> None:
    run = read_run(quick_run(tmp_path / "run"))
    html = page.page(run)
    defined = outline(html).texts["glossary"]
    columns = re.findall(r'<th [^>]*data-column="(\w+)"><button type="button" title="([^"]+)">', html)
    assert [name for name, _ in columns] == columns_of(long_of(run, board_of(run)), metrics_of([run]))
    for name, tooltip in columns:
        assert f" {name}" in defined and "Unit: " in tooltip
        assert any(way in tooltip for way in ("more is better", "less is better", "neither more nor less is better"))
    assert "Its package does not describe it" not in html
    shown = re.findall(r'data-column="(\w+)" data-main', html)
    assert "win_rate" in shown and "repetition" not in shown


@pytest.mark.slow
def test_what_a_reader_asks_first_stands_at_the_top_once(tmp_path: Path) -> None:
    folder = quick_run(tmp_path / "run")
    for i, name in enumerate(("dpo", "cdpo", "ipo", "simpo")):
        path = folder / name / "result.json"
        result = json.loads(path.read_text(encoding="utf-8"))
        result["environment"] |= {"finished": f"2026-03-0{i + 1}T10:00:00+00:00"}
        path.write_text(json.dumps(result), encoding="utf-8")
    (folder / "wall_time.json").write_text('{"seconds": 750.4}', encoding="utf-8")
    shutil.copytree(folder / "dpo", folder / "earlier")
    html = page.page(read_run(folder))
    top = " ".join(outline(html).texts["verdict"].split())
    for fact in (
        "Whole run13 min", "Not in the recipe, left over in the folder and not ranked: earlier",
        "Finished2026-03-04 10:00 UTC", "Training time46 s for 4 trainings", "Steps16", "Batch8 pairs", "Seed0",
        "HardwareP, 2 cores", "100 prompts, 100 held-out pairs", "Judgeverifier",
    ):  # fmt: skip
        assert fact in top
    assert html.count("<dt>torch</dt>") == 1 == html.count("<dt>Commit</dt>")


@pytest.mark.slow
def test_different_machines_are_told_apart(tmp_path: Path) -> None:
    folder = quick_run(tmp_path / "run")
    path = folder / "dpo" / "result.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    result["environment"] |= {"hardware": {"gpu": "H100"}, "processes": 8}
    path.write_text(json.dumps(result), encoding="utf-8")
    html = page.page(read_run(folder))
    assert html.count("<dt>torch</dt>") == 2 and "<h3>dpo</h3>" in html and "<h3>cdpo, ipo, simpo</h3>" in html
    assert "8 × H100; P, 2 cores" in outline(html).texts["verdict"]


@pytest.mark.slow
def test_bits_per_byte_are_neither_points_nor_better_when_there_are_more(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "run")
    for name, value in (("base", 1.4), ("dpo", 1.6), ("simpo", 1.2), ("kto_pair_with_a_long_name", 1.4)):
        path = folder / name / "evals.json"
        stored = json.loads(path.read_text(encoding="utf-8"))
        about = {"value": value, "stderr": 0.01, "n": 9, "metric": "bits_per_byte", "higher_is_better": False}
        path.write_text(json.dumps(stored | {"benchmarks": {"text": about}}), encoding="utf-8")
    printed = " ".join(outline(page.page(read_run(folder))).texts["benchmarks"].split())
    assert "The base has 1.400 bits per byte (n = 9); less is better." in printed and "points" not in printed
    assert "Better than the base: simpo (−0.200 bits per byte); worse than the base: dpo (+0.200 bits" in printed
    assert "difference from the base, bits per byte" in printed


def test_a_score_along_the_frontier_is_explained_beside_the_leaderboards(tmp_path: Path) -> None:
    run = read_run(full_run(tmp_path / "run"))
    assert "win rate in this chart is that of sampled answers to a part of the prompts" in explanation(run, run.long)
    margins = replace(run, frontier=run.frontier.assign(metric="preference_margin"))
    assert explanation(margins, run.long) == ""  # which are measured alike in both
    frontier = run.frontier.assign(metric="score")
    long = pd.DataFrame([{"variant": "base", "metric": "score", "value": 0.67}])
    text = explanation(replace(run, frontier=frontier, recipe=run.recipe | {"evals": {"kl": 32}}), long)
    assert "sampled from the model" in text and "the first 32 of the prompts" in text
    assert text.endswith("The base has 50.0% in this chart and 67.0% on the leaderboard.")


def test_points_along_a_training_stand_side_by_side(tmp_path: Path) -> None:
    run = read_run(full_run(tmp_path / "run"))
    chart = along(run, {})
    assert chart is not None and chart.title == "Win rate along the training"
    points = chart.draw.keywords["points"]  # type: ignore[attr-defined]
    at_ten = [p.across for p in points if p.x == 10]
    assert len(set(at_ten)) == len(at_ten) > 1 and all(7 < x < 13 for x in at_ten)
    assert {p.across for p in points if p.x == 0} == {0.0}


def test_margins_have_no_beta_and_those_without_a_reference_their_own_chart(tmp_path: Path) -> None:
    run = read_run(full_run(tmp_path / "run"))
    drawn = {c.title: c.chart.description for c in curves(run, {"dpo": 0, "simpo": 1})}
    assert "dpo: 1 at step 1" in drawn["Margin"] and "simpo" not in drawn["Margin"]  # 0.1, of a beta of 0.1
    assert "simpo: 1 at step 1" in drawn["Margin without a reference"]


@pytest.mark.slow
def test_displacement_that_was_not_measured_is_not_denied(tmp_path: Path) -> None:
    run = read_run(full_run(tmp_path / "run"))
    few = {n: replace(v, steps=v.steps.head(3)) for n, v in run.variants.items()}
    printed = " ".join(outline(page.page(replace(run, variants=few))).texts["training"].split())
    assert (
        "was not measured" in printed
        and "No likelihood displacement" not in printed
        and displaced(few["dpo"], None) is None
    )
    printed = " ".join(outline(page.page(read_run(quick_run(tmp_path / "quick")))).texts["training"].split())
    assert "Likelihood displacement of simpo, dpo, cdpo, ipo was not measured" in printed


@pytest.mark.slow
def test_a_failed_variant_is_named_on_the_page(tmp_path: Path) -> None:
    folder = quick_run(tmp_path / "run")
    for name in ("result.json", "evals.json", "annotations.json"):
        (folder / "ipo" / name).unlink()
    Failure("ipo", "ipo", "k", 3, "the loss is nan").write(folder / "ipo")
    (folder / "verdict.json").unlink()
    shown = outline(page.page(read_run(folder))).texts["verdict"]
    assert "ipo failed (step 3: the loss is nan)." in shown and "Not finished" not in shown


def test_what_a_run_lacks_is_said_in_a_line(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "run")
    for name in ("frontier.csv", "data_audit.json", "dpo/metrics.jsonl", "simpo/metrics.jsonl"):
        (folder / name).unlink()
    (folder / "kto_pair_with_a_long_name" / "metrics.jsonl").unlink()
    texts = outline(page.page(read_run(folder))).texts
    assert "wrote no frontier.csv" in texts["frontier"]
    assert "wrote no audit" in texts["data"]
    assert "No training was logged" in texts["training"]


@pytest.mark.slow
def test_odd_rows_of_the_data_are_listed_with_what_leaves_them_out(tmp_path: Path) -> None:
    shown = " ".join(outline(page.page(read_run(full_run(tmp_path / "run")))).texts["data"].split())
    assert "nearly the sametrain9rows 2 and 3, 7 and 1, … (the second of test.jsonl)leaks" in shown


@pytest.mark.slow
def test_a_heat_map_from_scores_has_the_win_rates_of_the_leaderboard(tmp_path: Path) -> None:
    run = read_run(quick_run(tmp_path / "run"))
    met = round_robin_of(replace(run, round_robin=None))
    assert met is not None
    base = met["variants"].index("base")
    rates = run.long[run.long.metric == "win_rate"].set_index("variant").value.to_dict()
    against = {n: row[base] for n, row in zip(met["variants"], met["wins"], strict=True) if n != "base"}
    assert against == pytest.approx(rates)
    assert all(met["wins"][i][i] is None for i in range(len(met["wins"])))
    square = matches(met, {})[met["variants"].index("simpo")].squares[base]
    assert (square.text, square.won) == (f"{100 * rates['simpo']:.0f}%", rates["simpo"] > 0.5)


@pytest.mark.slow
def test_a_full_run_lacks_nothing_and_says_the_alignment_tax(tmp_path: Path) -> None:
    html = page.page(read_run(full_run(tmp_path / "run")))
    assert 'class="empty"' not in html
    texts = outline(html).texts
    assert "Worse than the base: dpo (\N{MINUS SIGN}5.0 points)" in texts["benchmarks"]
    assert "No variant can be told from the base" in texts["benchmarks"]
    assert "1 of 9 verdicts is missing" in texts["matches"]
    assert "1 dropped, too long" in texts["data"] and "75%" in texts["data"]


@pytest.mark.slow
def test_an_unfinished_run_is_shown_as_such(tmp_path: Path) -> None:
    recipe = {"name": "x", "model": "m", "data": {"train": "t"}, "variants": {"dpo": {"loss": "dpo"}, "ipo": None}}
    (tmp_path / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    texts = outline(page.page(read_run(tmp_path))).texts
    assert "Nothing was measured yet" in texts["verdict"]
    assert "Not finished: dpo, ipo have no measurements yet" in texts["verdict"]
    shutil.copytree(quick_run(tmp_path / "quickstart") / "dpo", tmp_path / "dpo")
    texts = outline(page.page(read_run(tmp_path))).texts
    assert "Not finished: ipo has no measurements yet" in texts["verdict"]


@pytest.mark.slow
def test_answers_beyond_the_budget_are_left_out_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(full_run(tmp_path / "run"))
    whole = prompts.browser(run, ["base", "dpo"])
    few = prompts.browser(run, ["base", "dpo"], budget=800)
    assert whole is not None and few is not None
    assert len(whole["prompts"]) == N and 0 < len(few["prompts"]) < N
    monkeypatch.setattr(prompts, "browser", lambda *_: few)
    assert f"The page has the first {len(few['prompts'])} of {N} prompts" in outline(page.page(run)).texts["answers"]


def test_too_many_missing_verdicts_withhold_the_win_rate_here_too(tmp_path: Path) -> None:
    full_run(tmp_path / "run")
    path = tmp_path / "run" / "dpo" / "annotations.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows[0] |= {"preference": None, "missing": "no reply"}  # 1 of 12 is more than 5%
    path.write_text(json.dumps(rows), encoding="utf-8")
    board = board_of(read_run(tmp_path / "run"))
    assert board is not None
    rates = board.long[board.long.metric == "win_rate"].set_index("variant").value
    assert rates.isna().to_dict() == {"dpo": True, "simpo": False, "kto_pair_with_a_long_name": False}


def test_displacement_is_told_from_a_rise(tmp_path: Path) -> None:
    run = read_run(full_run(tmp_path / "run"))
    dpo = run.variants["dpo"]
    assert "under the reference" in displaced(dpo, None)
    dpo.steps["rewards/chosen"] *= -1
    assert displaced(dpo, None) == ""
    dpo.steps["rewards/chosen"] += 1  # no reference: rewards do not start from zero
    assert "nats less in the last quarter" in displaced(dpo, None)
    dpo.steps["logps/chosen"] *= -1
    assert displaced(dpo, None) == ""
    assert displaced(dpo, -3.0).startswith("3.000 nats per token less on held-out pairs") and displaced(dpo, 1.0) == ""


def test_a_number_has_the_unit_of_its_metric() -> None:
    row, metrics = {"value": 0.615, "low": 0.5, "high": 0.7, "note": float("nan")}, Metrics()
    shown = cell(row, metrics["win_rate"])
    assert (shown.value, shown.interval, shown.note) == ("61.5%", "50.0 to 70.0", "")
    assert cell(row | {"value": 0.5}, metrics["words"]).value == "0.5"
    costs = {"train_seconds": (76.0, "1 min 16 s"), "train_joules": (76.4, "76"), "train_dollars": (0.0021, "0.002")}
    assert {name: cell({"value": v}, metrics[name]).value for name, (v, _) in costs.items()} == {
        name: shown for name, (_, shown) in costs.items()
    }
    assert cell(row | {"value": float("nan"), "note": "withheld"}, metrics["win_rate"]).sort is None


@pytest.mark.slow
def test_pictures_for_papers_are_drawn_of_all_that_is_there(tmp_path: Path) -> None:
    written = {p.name for p in draw(read_run(full_run(tmp_path / "run")), tmp_path / "plots")}
    names = ("ranking", "win_rate_by_length", "head_to_head", "frontier", "along", "benchmarks", "training")
    assert written == {f"{n}.{s}" for n in names for s in ("svg", "png")}
    assert {p.name for p in (tmp_path / "plots").iterdir()} == written
    (tmp_path / "bare").mkdir()
    recipe = {"name": "x", "model": "m", "data": {"train": "t"}, "variants": {"dpo": {"loss": "dpo"}}}
    (tmp_path / "bare" / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert draw(read_run(tmp_path / "bare"), tmp_path / "none") == []


@pytest.mark.slow
def test_the_first_chart_has_a_row_for_each_variant_and_none_for_its_seeds(tmp_path: Path) -> None:
    run = seeded_run(tmp_path / "r", {"dpo": [share(36), share(34)], "ipo": [share(20), share(22)]})
    html = page.page(read_run(run))
    chart = html[html.index("95% intervals") :]
    first = chart[: chart.index("</figure>")]
    assert "dpo" in first and "dpo-s0" not in first and "dpo-s0" in html and "the best" not in first
