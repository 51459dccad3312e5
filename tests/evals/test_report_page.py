"""The page of a run without a browser: whole, escaped, small, and honest about what the run lacks."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from report_runs import N, full_run
from sample_runs import quick_run

from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.report import page, prompts
from prefzoo.evals.report.curves import displaced
from prefzoo.evals.report.figures import draw
from prefzoo.evals.report.matches import matches, round_robin_of
from prefzoo.evals.report.numbers import board_of, cell, duration

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
    found = Outline()
    found.feed(html)
    return found


def test_hostile_text_adds_no_element_and_no_attribute(tmp_path: Path) -> None:
    plain = outline(page.page(read_run(full_run(tmp_path / "plain"))))
    hostile = outline(page.page(read_run(full_run(tmp_path / "hostile", HOSTILE))))
    # A loss that is not its variant's name stands below it, in a <small> more per trained variant and run.
    assert set(hostile.tags) == set(plain.tags) and hostile.tags.count("script") == 2
    assert hostile.attributes == plain.attributes and not any(a.startswith("on") for a in hostile.attributes)
    assert all(a.startswith("#") or a == "data:," for a in hostile.addresses)
    assert HOSTILE in hostile.texts["verdict"] and HOSTILE in hostile.texts["data"]


def test_answers_are_embedded_as_they_were(tmp_path: Path) -> None:
    html = page.page(read_run(full_run(tmp_path / "run", HOSTILE)))
    found = re.search(r'<script type="application/json" id="answers-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["prompts"][3]["text"] == f"prompt 3{HOSTILE}"
    at = data["variants"].index("simpo")
    assert data["prompts"][3]["answers"][at] == f"answer 3 of simpo{HOSTILE}"
    verdicts = json.loads((tmp_path / "run" / "simpo" / "annotations.json").read_text(encoding="utf-8"))
    assert [p["won"][at] for p in data["prompts"]] == [v["preference"] - 1 for v in verdicts]


def test_a_policy_lets_nothing_be_fetched(tmp_path: Path) -> None:
    html = page.page(read_run(full_run(tmp_path / "run")))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None and policy[1].startswith("default-src 'none'; ") and "sha256-" in policy[1]


def test_a_page_says_what_the_leaderboard_says(tmp_path: Path) -> None:
    folder = quick_run(tmp_path / "run")
    html = page.page(read_run(folder))
    said = outline(html).texts
    verdict = (folder / "leaderboard.md").read_text(encoding="utf-8").split("\n\n")[1].strip()
    assert verdict in said["verdict"]
    assert len(html.encode()) < page.MOST


def test_what_a_run_lacks_is_said_in_a_line(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "run")
    for name in ("frontier.csv", "data_audit.json", "dpo/metrics.jsonl", "simpo/metrics.jsonl"):
        (folder / name).unlink()
    (folder / "kto_pair_with_a_long_name" / "metrics.jsonl").unlink()
    said = outline(page.page(read_run(folder))).texts
    assert "wrote no frontier.csv" in said["frontier"]
    assert "wrote no audit" in said["data"]
    assert "No training was logged" in said["training"]


def test_a_heat_map_from_scores_has_the_win_rates_of_the_leaderboard(tmp_path: Path) -> None:
    run = read_run(quick_run(tmp_path / "run"))
    met = round_robin_of(replace(run, round_robin=None))
    assert met is not None
    base = met["variants"].index("base")
    rates = run.long[run.long.metric == "win_rate"].set_index("variant").value.to_dict()
    against = {n: row[base] for n, row in zip(met["variants"], met["wins"], strict=True) if n != "base"}
    assert against == pytest.approx(rates)
    assert all(met["wins"][i][i] is None for i in range(len(met["wins"])))
    square = matches(met)[met["variants"].index("simpo")].squares[base]
    assert (square.text, square.won) == (f"{100 * rates['simpo']:.0f}%", rates["simpo"] > 0.5)


def test_a_full_run_lacks_nothing_and_says_the_alignment_tax(tmp_path: Path) -> None:
    html = page.page(read_run(full_run(tmp_path / "run")))
    assert 'class="empty"' not in html
    said = outline(html).texts
    assert "lower than the base: dpo (\N{MINUS SIGN}5.0 points)" in said["benchmarks"]
    assert "no variant can be told from the base" in said["benchmarks"]
    assert "1 of 9 verdicts is missing" in said["matches"]
    assert "1 dropped, too long" in said["data"] and "75%" in said["data"]


def test_an_unfinished_run_is_shown_as_such(tmp_path: Path) -> None:
    recipe = {"name": "x", "model": "m", "data": {"train": "t"}, "variants": {"dpo": {"loss": "dpo"}, "ipo": None}}
    (tmp_path / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    said = outline(page.page(read_run(tmp_path))).texts
    assert "Nothing was measured yet" in said["verdict"]
    assert "Not finished: dpo, ipo have no measurements yet" in said["verdict"]
    shutil.copytree(quick_run(tmp_path / "quickstart") / "dpo", tmp_path / "dpo")
    said = outline(page.page(read_run(tmp_path))).texts
    assert "Not finished: ipo has no measurements yet" in said["verdict"]


def test_answers_beyond_the_budget_are_left_out_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(full_run(tmp_path / "run"))
    whole = prompts.browser(run, ["base", "dpo"])
    few = prompts.browser(run, ["base", "dpo"], budget=800)
    assert whole is not None and few is not None
    assert len(whole["prompts"]) == N and 0 < len(few["prompts"]) < N
    monkeypatch.setattr(prompts, "browser", lambda *_: few)
    assert f"The first {len(few['prompts'])} of {N} prompts" in outline(page.page(run)).texts["answers"]


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


@pytest.mark.parametrize(("seconds", "words"), [(48, "48 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_read_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_number_has_the_unit_of_its_metric() -> None:
    row, metrics = {"value": 0.615, "low": 0.5, "high": 0.7, "note": float("nan")}, Metrics()
    shown = cell(row, metrics["win_rate"])
    assert (shown.value, shown.interval, shown.note) == ("61.5%", "50.0 to 70.0", "")
    assert cell(row | {"value": 0.5}, metrics["words"]).value == "0.5"
    assert cell(row | {"value": float("nan"), "note": "withheld"}, metrics["win_rate"]).sort is None


def test_pictures_for_papers_are_drawn_of_all_that_is_there(tmp_path: Path) -> None:
    written = {p.name for p in draw(read_run(full_run(tmp_path / "run")), tmp_path / "plots")}
    names = ("ranking", "win_rate_by_length", "head_to_head", "frontier", "benchmarks", "training")
    assert written == {f"{n}.{s}" for n in names for s in ("svg", "png")}
    assert {p.name for p in (tmp_path / "plots").iterdir()} == written
    (tmp_path / "bare").mkdir()
    recipe = {"name": "x", "model": "m", "data": {"train": "t"}, "variants": {"dpo": {"loss": "dpo"}}}
    (tmp_path / "bare" / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert draw(read_run(tmp_path / "bare"), tmp_path / "none") == []
