"""What the board says on results made so that the right words are known."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prefzoo.evals.boards.leaderboard import Leaderboard, build
from prefzoo.evals.metrics.measure import Measured


def model(
    scores: list[float] | None = None,
    margins: list[float] | None = None,
    words: int = 50,
    repetition: float = 0.1,
    suite: float | None = None,
) -> Measured:
    scores = scores or []
    n = len(scores)
    suites = {} if suite is None else {"arithmetic": {"value": suite, "n": 100.0, "stderr": 0.0}}
    return Measured(margins or [], scores, [words] * n, [True] * n, [repetition] * n, [""] * n, suites)


def share(won: int, of: int = 40) -> list[float]:
    """Scores that beat a base of 0.5 on the first `won` prompts and lose on the others."""
    return [1.0] * won + [0.0] * (of - won)


BASE = model([0.5] * 40)


@pytest.fixture
def board() -> Leaderboard:
    # dpo wins prompts 0-35, simpo 0-33, ipo 0-9
    return build({"base": BASE, "ipo": model(share(10)), "simpo": model(share(34)), "dpo": model(share(36))}, {})


def test_order_and_shared_ranks(board: Leaderboard) -> None:
    assert board.order == ["dpo", "simpo", "base", "ipo"]
    # dpo and simpo differ on 2 prompts of 40: exact sign-flip p = 2 / 4 = 0.5. ipo is behind on 24 and 26.
    assert board.ranks == {"dpo": 1, "simpo": 1, "ipo": 3}
    assert board.ranking.p["dpo", "simpo"] == pytest.approx(0.5, abs=0.05)
    assert board.ranking.difference("dpo", "simpo") == pytest.approx(2 / 40)


def test_verdict_names_leader_interval_and_paired_difference(board: Leaderboard) -> None:
    said = board.verdict()
    assert said.startswith("dpo leads with a win rate against the base of 90.0% (")  # 36 / 40
    assert "it cannot be separated from simpo (paired difference +5.0 points, p = 0.5" in said  # 2 / 40
    assert "ipo" not in said and "cannot be told from one half" not in said


def test_difference_is_seen_from_the_leader_whatever_the_names() -> None:
    board = build({"base": BASE, "a": model(share(34)), "b": model(share(36))}, {})
    assert "b leads" in board.verdict()
    assert "a (paired difference +5.0 points" in board.verdict()


def test_separated_winner() -> None:
    board = build({"base": BASE, "a": model(share(38)), "b": model(share(5))}, {})
    assert board.verdict().endswith("it is separated from all others (Holm-corrected p < 0.05).")
    assert board.ranks == {"a": 1, "b": 2}


def test_leader_within_noise_of_the_base() -> None:
    said = build({"base": BASE, "a": model(share(21))}, {}).verdict()
    assert said.startswith("a leads with a win rate against the base of 52.5% (")
    assert said.endswith("), which cannot be told from one half.")


def test_nothing_beats_the_base() -> None:
    said = build({"base": BASE, "a": model(share(4)), "b": model(share(2))}, {}).verdict()
    assert said.startswith("No variant beats the base: a, the best, has a win rate against the base of 10.0% (")
    assert "leads" not in said


def test_collapse_is_called_out() -> None:
    found = {"base": BASE, "short": model(share(30), words=24), "stuck": model(share(30), repetition=0.31)}
    said = build({**found, "fine": model(share(30), words=25, repetition=0.29)}, {}).verdict()
    assert "Beware: answers of short are less than half as long as the base's." in said
    assert "Beware: answers of stuck repeat themselves." in said


def test_base_row_stands_in_the_table_without_win_rate(board: Leaderboard) -> None:
    wide = board.wide().set_index("variant")
    assert wide.loc["base", "win_rate"] == "-"
    assert wide.loc["base", "rank"] == ""
    assert str(wide.loc["dpo", "win_rate"]).startswith("90.0% [")


def test_pairs_alone_rank_by_preference_accuracy() -> None:
    board = build({"base": model(), "a": model(margins=[-1.0, -2, 1, -1]), "b": model(margins=[1.0, 2, 3, -1])}, {})
    assert board.primary == "preference_accuracy"
    assert board.order == ["b", "base", "a"]  # 3 of 4, one half, 1 of 4
    assert board.verdict().startswith("b leads with an accuracy on held-out pairs of 75.0% (")


def test_benchmarks_alone_are_a_table_without_a_winner() -> None:
    board = build({"base": model(suite=0.5), "a": model(suite=0.6)}, {})
    assert board.verdict() == "No variant can be ranked: nothing was measured on held-out prompts or pairs."
    assert board.ranks == {}
    assert "60.0% [" in board.markdown()


def test_write_and_read_back(board: Leaderboard, tmp_path: Path) -> None:
    board.write(tmp_path / "new")
    text = (tmp_path / "new" / "leaderboard.md").read_text()
    lines = text.splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:6]] == ["dpo", "simpo", "base", "ipo"]
    assert board.verdict() in text
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "new" / "leaderboard.csv")[["variant", "metric", "value", "n"]],
        board.long[["variant", "metric", "value", "n"]],
    )


def test_render_shows_every_variant_and_the_verdict(board: Leaderboard) -> None:
    console = Console(file=io.StringIO(), width=300)
    board.render(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in shown for name in board.order)
    assert board.verdict() in shown


def test_cost_is_a_row() -> None:
    board = build({"base": BASE, "a": model(share(30))}, {"a": {"seconds": 12.0}})
    row = board.long[board.long.metric == "train_seconds"].iloc[0]
    assert (row.variant, row.value, row.higher_is_better) == ("a", 12.0, False)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_nothing_is_cut_off_on_a_terminal(board: Leaderboard, width: int) -> None:
    console = Console(record=True, width=width, file=io.StringIO())
    board.render(console)
    shown = console.export_text()
    assert "\u2026" not in shown and all(name in shown for name in board.order)
    assert "too narrow" not in shown


def test_a_narrow_terminal_is_told_so(board: Leaderboard) -> None:
    console = Console(record=True, width=40, file=io.StringIO())
    board.render(console)
    assert "too narrow" in console.export_text()
