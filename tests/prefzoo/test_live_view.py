"""The live view: what it shows at which width and height, what it leaves behind, and that a pipe gets plain lines."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prefzoo.errors import VariantFailed
from prefzoo.runtime.live_view import LiveView, VariantRow, format_duration, show_live_view
from prefzoo.runtime.progress import StepNote, set_variant_state, stage

METRICS = {"loss": 0.61803, "rewards/margins": 123.456, "rewards/accuracies": 0.75}


class Terminal(io.StringIO):
    """Text that calls itself a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def console(width: int = 80, height: int = 24, **settings: Any) -> Console:
    return Console(file=Terminal(), width=width, height=height, force_terminal=True, legacy_windows=False, **settings)


def rows(count: int) -> list[VariantRow]:
    return [VariantRow("base"), *(VariantRow(f"variant-{i}", 10, 4) for i in range(count))]


def shown(board: LiveView, seen: Console) -> str:
    with seen.capture() as got:
        seen.print(board)
    return got.get()


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_says_stage_step_loss_margin_accuracy_and_time_left(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    seen = console(width, color_system=None)
    board = LiveView("run · model", rows(2), seen)
    with board.stage("training variant-0", "variant-0", "training") as report:
        report(0, 40, StepNote(0, 10))
        now += 10
        report(20, 40, StepNote(5, 10, METRICS))
        printed = shown(board, seen)
        line = next(one for one in printed.splitlines() if "variant-0" in one)
        assert all(word in line for word in ("training", "5/10", "0.6180", "123.5", "75%", "2", "0:10"))
        assert "0 of 2 trained · 0:10 so far · about 0:30 of training left" in printed  # 60 pairs, 2 a second
    assert ("━" in line) == (width == 120)
    assert max(len(one) for one in printed.splitlines()) <= width
    board.set_variant_state("variant-1", "reused")
    assert "✓  variant-1  reused" in shown(board, seen)


def test_a_resumed_training_counts_its_pace_from_where_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    board = LiveView("r", rows(1), console())
    with board.stage("training", "variant-0", "training") as report:
        report(1000, 2000, StepNote(500, 1000))
        now = 5.0
        report(1010, 2000, StepNote(505, 1000, METRICS))
    assert board.rows["variant-0"].rate == 2.0


def test_more_variants_than_lines_are_counted() -> None:
    seen = console(height=12)
    board = LiveView("r", rows(40), seen)
    for i in range(20):
        board.set_variant_state(f"variant-{i}", "reused")
    with board.stage("training", "variant-20", "training"):
        printed = shown(board, seen)
    assert len(printed.splitlines()) < 12 and "variant-20" in printed
    assert "reused above" in printed and "waiting below" in printed


def test_states_are_told_apart_without_colour_and_without_unicode() -> None:
    plain = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80, no_color=True)
    board = LiveView("r", rows(3), plain)
    board.set_variant_state("variant-0", "reused")
    with pytest.raises(VariantFailed), board.stage("t", "variant-1", "training"):
        raise VariantFailed("no", 3)
    marks = [board._mark(row) for row in board.rows.values()]
    assert marks == [".", "+", "x", "."] and board.rows["variant-1"].state == "failed"


def test_it_leaves_the_cursor_and_the_last_state_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    seen = console()
    row = {"variant": "variant-0", "activity": "training"}
    with pytest.raises(KeyboardInterrupt), show_live_view("r", rows(1), seen), stage("t", "pairs", seen, **row):
        raise KeyboardInterrupt
    text = seen.file.getvalue()  # type: ignore[attr-defined]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l") and "stopped" in text
    with stage("after it", "pairs", Console(file=io.StringIO())) as report:  # no view is left behind
        report(1, 2, "")


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = io.StringIO()
    seen = Console(file=out, width=200, force_terminal=True, color_system=None)  # as FORCE_COLOR makes it
    with (
        show_live_view("r", rows(1), seen),
        stage("training dpo", "pairs", seen, variant="dpo", activity="training") as report,
    ):
        report(8, 80, StepNote(1, 10))
        now = 20.0
        report(48, 80, StepNote(6, 10, METRICS))
        set_variant_state("dpo", "reused", seen, "dpo: [reused]")
    assert out.getvalue().splitlines() == [
        "training dpo …",
        "  training dpo: 48/80 pairs, 2.00 pairs/s, 16 s left step 6/10, loss 0.6180",
        "dpo: [reused]",
        "  training dpo: done in 20.0 s",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Console(quiet=True)
    with show_live_view("r", rows(1), seen), stage("training", "pairs", seen) as report:
        report(1, 2, "")
        set_variant_state("variant-0", "reused", seen, "reused")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("seconds", "says"), [(5.4, "0:05"), (245, "4:05"), (7445, "2:04:05")])
def test_clock(seconds: float, says: str) -> None:
    assert format_duration(seconds) == says


@pytest.mark.slow
def test_a_run_on_a_terminal(run_folder: Path) -> None:
    """The whole command under a pseudo-terminal, without colours; then again, with everything done."""
    words = ["run", "r.yaml", "--set", "train.steps=3", "--set", "variants={dpo: null, simpo: null}"]
    env = {**os.environ, "PREFZOO_CACHE": str(run_folder / "cache"), "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"}
    for attempt in range(2):
        if attempt:
            (run_folder / "results" / "tiny" / "report.html").unlink()  # otherwise there is nothing to do, and no view
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "prefzoo", *words], cwd=run_folder, env=env, stdout=theirs, stderr=theirs
        ) as started:
            os.close(theirs)
            printed = b""
            while True:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                printed += part
        os.close(ours)
        text = printed.decode()
        assert started.returncode == 0, text
        assert "2 of 2 trained" in text and "Leaderboard" in text
        assert not re.search(r"\x1b\[3\d", text) and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
