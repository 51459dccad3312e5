"""What the board says on results made so that the right words are known."""

from __future__ import annotations

import io
import json
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


def rendered(board: Leaderboard) -> str:
    console = Console(file=io.StringIO(), width=300)
    board.render(console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def board() -> Leaderboard:
    # dpo wins prompts 0-35, simpo 0-33, ipo 0-9
    return build({"base": BASE, "ipo": model(share(10)), "simpo": model(share(34)), "dpo": model(share(36))}, {})


def test_order_and_shared_ranks(board: Leaderboard) -> None:
    assert board.order == ["dpo", "simpo", "base", "ipo"]
    # dpo and simpo differ on 2 prompts of 40: exact sign-flip p = 2 / 4 = 0.5. ipo is behind on 24 and 26.
    assert board.ranks == {"dpo": 1, "simpo": 1, "base": 3, "ipo": 4}  # ipo's whole interval lies below one half
    assert board.ranking.p["dpo", "simpo"] == pytest.approx(0.5, abs=0.05)
    assert board.ranking.difference("dpo", "simpo") == pytest.approx(2 / 40)


def test_the_decision_comes_first_and_the_statistics_after_it(board: Leaderboard) -> None:
    verdict = board.verdict()
    assert verdict.decision == (
        "No winner: dpo and simpo tie; ipo is worse. dpo and simpo beat the base; ipo is worse than it."
    )
    assert str(verdict).startswith(verdict.decision)
    assert verdict.statistics.startswith("dpo has a win rate against the base of 90.0% (")  # 36 / 40
    assert "Paired differences of dpo from simpo: +5.0 points (p = 0.5" in verdict.statistics  # 2 / 40
    assert "ipo: +65.0 points (p = 0.001)" in verdict.statistics  # 26 / 40
    for text in (board.markdown(), rendered(board)):
        assert text.index(verdict.answer) < text.index(verdict.statistics)
    assert board.markdown().startswith(verdict.answer)


def test_difference_is_seen_from_the_leader_whatever_the_names() -> None:
    board = build({"base": BASE, "a": model(share(34)), "b": model(share(36))}, {})
    assert board.verdict().decision == "No winner: b and a tie. All of them beat the base."
    assert "of b from a: +5.0 points" in board.verdict().statistics


def test_separated_winner() -> None:
    board = build({"base": BASE, "a": model(share(38)), "b": model(share(5))}, {})
    verdict = board.verdict()
    assert verdict.decision == "a wins: it is better than b. a beats the base; b is worse than it."
    assert verdict.advice == ""
    assert board.ranks == {"a": 1, "base": 2, "b": 3}


@pytest.mark.parametrize(
    ("won", "decision", "rank"),
    [
        (36, "a beats the base.", {"a": 1, "base": 2}),
        (21, "No winner: a and the base tie.", {"a": 1, "base": 1}),
        (4, "No winner: a is worse than the base.", {"base": 1, "a": 2}),
    ],
)
def test_a_lone_variant_never_leads(won: int, decision: str, rank: dict[str, int]) -> None:
    board = build({"base": BASE, "a": model(share(won))}, {})
    assert (board.verdict().decision, board.ranks) == (decision, rank)
    assert "leads" not in str(board.verdict())
    assert board.verdict().advice == ""


def test_a_variant_worse_than_the_base_is_marked() -> None:
    board = build({"base": BASE, "a": model(share(4)), "b": model(share(2))}, {})
    assert board.verdict().decision == "No winner: a and b tie. All of them are worse than the base."
    assert board.wide().set_index("variant")["rank"].to_dict() == {"base": "1", "a": "2 ▼", "b": "2 ▼"}
    assert all("▼: worse than the base" in text for text in (board.markdown(), rendered(board)))
    assert "▼" not in build({"base": BASE, "a": model(share(21))}, {}).markdown()


def test_a_tie_says_what_would_separate_it() -> None:
    models = {"base": BASE, "a": model(share(22)), "b": model([0.0, 1.0] * 20), "c": model(share(2))}
    advice = build(models, dict.fromkeys("abc", {"seconds": 1200.0})).verdict().advice
    # a and b differ on half of all prompts, and three seeds of three variants take 3 x 3 x 20 minutes
    assert (
        advice.startswith("To separate 5 points: about ") and " prompts and 3 seeds (one seed does not show" in advice
    )
    assert advice.endswith(", about 3 hours of training, answers not counted.")
    assert "hour" not in build(models, {}).verdict().advice


def test_the_json_says_the_same(board: Leaderboard, tmp_path: Path) -> None:
    board.write(tmp_path)
    told = json.loads((tmp_path / "verdict.json").read_text())
    verdict = board.verdict()
    assert (told["decision"], told["advice"], told["statistics"]) == (
        verdict.decision, verdict.advice, verdict.statistics,
    )  # fmt: skip
    assert told["ranks"] == board.ranks and told["standings"] == {"dpo": "better", "simpo": "better", "ipo": "worse"}


def test_collapse_is_called_out() -> None:
    models = {"base": BASE, "short": model(share(30), words=24), "stuck": model(share(30), repetition=0.31)}
    cautions = build({**models, "fine": model(share(30), words=25, repetition=0.29)}, {}).verdict().cautions
    assert "Beware: answers of short are less than half as long as the base's." in cautions
    assert "Beware: answers of stuck repeat themselves." in cautions


def test_the_base_row_has_a_rank_and_the_win_rate_that_it_has_by_definition(board: Leaderboard) -> None:
    wide = board.wide().set_index("variant")
    assert wide.loc["base", "win_rate"] == "50.0% [reference]"
    assert wide.loc["base", "rank"] == "3"
    assert str(wide.loc["dpo", "win_rate"]).startswith("90.0% [")


def test_pairs_alone_rank_by_preference_accuracy() -> None:
    board = build({"base": model(), "a": model(margins=[-1.0, -2, 1, -1]), "b": model(margins=[1.0, 2, 3, -1])}, {})
    assert board.primary == "preference_accuracy"
    assert board.order == ["b", "base", "a"]  # 3 of 4, one half, 1 of 4
    assert board.verdict().decision == "No winner: b and a tie. None of them can be told from the base."
    assert board.verdict().statistics.startswith("b has an accuracy on held-out pairs of 75.0% (")
    assert " pairs and 3 seeds " in board.verdict().advice


def test_benchmarks_alone_are_a_table_without_a_winner() -> None:
    board = build({"base": model(suite=0.5), "a": model(suite=0.6)}, {})
    assert str(board.verdict()) == "No variant can be ranked: nothing was measured on held-out prompts or pairs."
    assert board.ranks == {}
    assert "60.0% [" in board.markdown()


def test_write_and_read_back(board: Leaderboard, tmp_path: Path) -> None:
    board.write(tmp_path / "new")
    text = (tmp_path / "new" / "leaderboard.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split("|")[2].strip() for line in rows[2:6]] == ["dpo", "simpo", "base", "ipo"]
    assert text.startswith(board.verdict().answer)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "new" / "leaderboard.csv")[["variant", "metric", "value", "n"]],
        board.long[["variant", "metric", "value", "n"]],
    )


def test_render_shows_every_variant_and_the_verdict(board: Leaderboard) -> None:
    shown = rendered(board)
    assert all(name in shown for name in board.order)
    assert all(line in shown for line in board.verdict().lines)


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
