"""Statistics on data whose truth is known, and what the board says of clear and of unclear cases."""

from __future__ import annotations

import numpy as np
import pytest

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.metrics.measure import Measured, repetition
from prefzoo.evals.stats import intervals


def measured(scores: list[float], length: int = 20) -> Measured:
    n = len(scores)
    return Measured(
        [1.0, -1.0],
        scores,
        [length] * n,
        [True] * n,
        [0.0] * n,
        ["x"] * n,
        {"arithmetic": {"value": 0.5, "stderr": 0.1, "n": 20.0}},
    )


def test_ties_count_half() -> None:
    estimate = intervals.wins(np.array([1.0, 0.5, 0.0, 0.2]), np.array([0.0, 0.5, 1.0, 0.2]))
    assert estimate.tolist() == [1.0, 0.5, 0.0, 0.5]
    with pytest.raises(ValueError, match="different prompt sets"):
        intervals.wins(np.zeros(3), np.zeros(4))


def test_all_wins_is_not_certainty() -> None:
    estimate = intervals.mean(np.ones(20))
    assert estimate.high == pytest.approx(1.0) and 0.8 < estimate.low < 0.9  # Wilson: 20 / (20 + 1.96^2) = 0.84


def test_p_values() -> None:
    one = np.tile([1.0, 0.0], 20)
    assert intervals.paired_difference(one, one).p == 1.0
    assert intervals.paired_difference(np.ones(20), np.zeros(20)).p < 0.01
    assert intervals.holm([0.01, 0.04]) == pytest.approx([0.02, 0.04])  # 0.01 * 2, 0.04 * 1


def test_a_clear_winner_is_named_and_a_tie_is_called_one() -> None:
    base = [0.5] * 60
    models = {
        "base": measured(base),
        "good": measured([1.0] * 60),
        "same": measured([1.0] * 60),
        "bad": measured([0.0] * 60),
    }
    board = leaderboard.build(models, {})
    assert board.ranks == {"good": 1, "same": 1, "base": 3, "bad": 4}
    assert board.verdict().decision.startswith("No winner: good and same tie; bad is worse. ")
    assert "Paired differences of good from same: none, bad: +100.0 points (p = 0.001)" in board.verdict().statistics
    assert "100.0%" in board.markdown() and "| base |" in board.markdown()
    alone = leaderboard.build({"base": measured(base), "even": measured([0.0, 1.0] * 30)}, {})
    assert alone.verdict().decision == "No winner: even and the base tie."


def test_collapse_is_called_out() -> None:
    board = leaderboard.build({"base": measured([0.5] * 20, 30), "short": measured([1.0] * 20, 5)}, {})
    assert "answers of short are less than half as long" in str(board.verdict())


def test_repetition() -> None:
    assert repetition("a b c d") == 0.0 and repetition("") == 0.0
    assert repetition("a b c a b c") == 0.25  # abc bca cab abc: one in four was there before
