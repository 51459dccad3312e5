"""All runs on one board: sections, time, and the page that is generated from them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from sample_runs import make_run, seeded_run, share

from prefzoo.cli import main
from prefzoo.errors import UserError
from prefzoo.evals.boards.history import BEGIN, END, gather, markdown, page, render


def dated(run: Path, day: str) -> Path:
    """The same run, finished on another day."""
    for path in run.glob("*/result.json"):
        values = json.loads(path.read_text())
        values["environment"] |= {"finished": f"{day}T10:00:00+00:00", "commit": f"c{day[-2:]}"}
        path.write_text(json.dumps(values))
    recipe = run / "recipe.resolved.yaml"
    recipe.write_text(recipe.read_text().replace(f"name: {run.name}", "name: mine"))
    return run


@pytest.mark.slow
def test_what_is_measured_alike_is_ranked_together_and_the_rest_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {"dpo": share(36)})
    make_run(tmp_path / "deep" / "b", {"simpo": share(10)})
    make_run(tmp_path / "c", {"ipo": share(20)}, judge="own.py:better")
    one, other = gather(tmp_path)
    assert [(r["run"], r["variant"], r["rank"]) for r in one.rows] == [
        ("a", "dpo", 1),
        ("deep/b", "simpo", 3),
    ]
    assert one.rows[1]["against_base"] == "worse" and "| 3 ▼ | simpo |" in markdown([one])
    assert one.origin["judge"] == "verifier" and other.origin["judge"] == "own.py:better"
    assert [r["variant"] for r in other.rows] == ["ipo"] and one.history == []


@pytest.mark.slow
def test_runs_of_one_variant_stand_in_time_order(tmp_path: Path) -> None:
    dated(make_run(tmp_path / "a", {"dpo": share(20)}), "2026-03-02")
    dated(make_run(tmp_path / "b", {"dpo": share(36)}), "2026-03-01")
    (section,) = gather(tmp_path)
    assert [(r["run"], r["date"][:10], r["commit"]) for r in section.history] == [
        ("b", "2026-03-01", "c01"), ("a", "2026-03-02", "c02"),
    ]  # fmt: skip
    assert section.history[0]["change"] is None and section.history[1]["change"] == pytest.approx(-16 / 40)
    assert ["| dpo | 50.0%", "35.2, 65.0] | -40.0 p<.001 * | a | 2026-03-02 | c02 |"][0] in markdown([section])


@pytest.mark.slow
def test_seeds_of_a_variant_are_one_row(tmp_path: Path) -> None:
    scores = {"dpo": [share(36), share(34)], "ipo": [share(20), share(22)]}
    seeded_run(tmp_path / "a", scores)
    (section,) = gather(tmp_path)
    assert [(r["variant"], r["seed"], r["seeds"]) for r in section.rows] == [("dpo", None, 2), ("ipo", None, 2)]
    assert section.rows[0]["value"] == pytest.approx(35 / 40) and section.history == []
    assert "| rank | variant | win_rate | loss | seeds | run |" in markdown([section])
    make_run(tmp_path / "b", {"dpo": share(30)})
    (section,) = gather(tmp_path)
    assert [r["seeds"] for r in section.rows] == [2, 1, 2]


@pytest.mark.slow
def test_the_board_of_one_run_has_its_name(tmp_path: Path) -> None:
    make_run(tmp_path / "mine", {"dpo": share(20), "ipo": share(8)})
    (section,) = gather(tmp_path / "mine")
    assert section.title == "By win_rate: mine"
    assert {row["run"] for row in section.rows} == {"mine"}
    assert "./" not in section.verdict.decision


def test_what_stands_in_the_page_by_hand_stays(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {"dpo": share(36)})
    sections = gather(tmp_path)
    first = page(sections, "# Mine\n\nWords.\n")
    assert first.startswith("# Mine\n\nWords.\n\n" + BEGIN) and page(sections, first) == first
    changed = first.replace("90.0%", "99.0%") + "\nBelow.\n"
    assert page(sections, changed) == first + "Below.\n"
    assert page(sections, "").startswith("# Results\n") and first.count(END) == 1


def test_the_command_writes_checks_and_says_when_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "a", {"dpo": share(36)})

    def prefzoo(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["prefzoo", "leaderboard", str(tmp_path), *words])
        try:
            main()
        except SystemExit as e:
            return int(e.code or 0)
        return 0

    assert prefzoo("--check") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path / 'README.md'}: is out of date; `prefzoo leaderboard {tmp_path} --write` updates it"
    ]
    assert prefzoo("--write") == 0 and prefzoo("--check") == 0
    capsys.readouterr()
    assert prefzoo("--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["rows"][0]["value"] == 0.9
    make_run(tmp_path / "b", {"simpo": share(10)})
    assert prefzoo("--check") == 2


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in it"):
        gather(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        gather(tmp_path / "absent")


@pytest.mark.slow
def test_a_terminal_of_80_columns_cuts_nothing(tmp_path: Path) -> None:
    out = io.StringIO()
    dated(make_run(tmp_path / "a", {"dpo": share(20), "apo_zero_unpaired": share(3)}), "2026-03-02")
    dated(make_run(tmp_path / "b", {"dpo": share(36)}), "2026-03-01")
    render(gather(tmp_path), Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80 and "…" not in out.getvalue()
