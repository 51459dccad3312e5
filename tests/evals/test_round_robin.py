"""Round robins: worked by hand, laws, and known strengths recovered with intervals that cover."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit

from prefzoo.errors import UserError
from prefzoo.evals.boards.round_robin import ELO, Won, as_json, markdown, play, round_robin
from prefzoo.evals.judges.coverage import Coverage
from prefzoo.evals.judges.protocol import Answer, Outcome, Progress, PromptRow
from prefzoo.evals.judges.scoring import ScoringJudge
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.intervals import Values

FULL = Coverage(100, 0, ())


class Length(ScoringJudge):
    """The longer text scores higher."""

    name = "length"

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        return [len(answer.text) / 100 for _, answer in answers]


def prompts(n: int) -> list[PromptRow]:
    return [PromptRow(str(i), f"task {i}") for i in range(n)]


def answers(*texts: str) -> list[Answer]:
    return [Answer(text, True, 1) for text in texts]


def drawn(strengths: Values, n: int, seed: int) -> Won:
    """Preferences of independent prompts from Bradley-Terry, names in alphabetical order."""
    rng = np.random.default_rng(seed)
    names = "abcdefgh"[: len(strengths)]
    return {
        (a, b): (rng.random(n) < expit(strengths[names.index(b)] - strengths[names.index(a)])).astype(float)
        for a, b in combinations(names, 2)
    }


def test_everyone_meets_everyone_on_the_same_prompts() -> None:
    given = {"b": answers("xx", "xx", "x"), "a": answers("x", "xxx", "x"), "c": answers("", "", "")}
    won, cover = play(Length(), prompts(3), given)
    assert list(won) == [("a", "b"), ("a", "c"), ("b", "c")] and cover.asked == 9
    assert won["a", "b"].tolist() == [1.0, 0.0, 0.5] and won["a", "c"].tolist() == [0.0, 0.0, 0.0]
    ranking = round_robin(won, cover, resamples=50)
    assert ranking.wins.loc["b", "a"] == ranking.wins.loc["a", "b"] == 0.5 and ranking.wins.loc["a", "c"] == 1
    assert np.isnan(ranking.wins.loc["a", "a"]) and ranking.scores.index[-1] == "c"
    assert ranking.scores.loc["a", "score"] == pytest.approx(ranking.scores.loc["b", "score"], abs=0.1)


def test_two_variants_worked_by_hand() -> None:
    ranking = round_robin({("a", "b"): np.array([1.0] * 75 + [0.0] * 25)}, FULL, resamples=200)
    # odds of 75.25 to 25.25 (a quarter win each is put in): half of their log each way
    half = ELO * np.log(75.25 / 25.25) / 2
    assert ranking.scores.loc["b", "score"] == pytest.approx(half, abs=1e-3)
    assert ranking.scores.loc["a", "score"] == pytest.approx(-half, abs=1e-3)
    assert (
        ranking.scores.loc["b", ["best_rank", "worst_rank"]].tolist() == [1, 1]
        and ranking.scores.loc["b", "p_best"] > 0.99
    )


@pytest.mark.slow
def test_known_strengths_are_recovered() -> None:
    strengths = np.array([0.0, 0.8, -0.6, 1.5])
    ranking = round_robin(drawn(strengths, 2000, 0), FULL, resamples=100)
    expected = ELO * (strengths - strengths.mean())
    assert ranking.scores.loc[list("abcd"), "score"].to_numpy() == pytest.approx(expected, abs=20)
    assert list(ranking.scores.index) == ["d", "b", "a", "c"] and ranking.scores["best_rank"].tolist() == [1, 2, 3, 4]


@pytest.mark.slow
def test_intervals_and_rank_sets_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects garbage in every call, which takes 99% of it
    strengths = np.array([0.0, 0.0, 0.9])
    expected = ELO * (strengths - strengths.mean())
    inside, held = [], []
    for seed in range(400):  # of three intervals each
        scores = round_robin(drawn(strengths, 120, seed), FULL, seed, resamples=100).scores.loc[list("abc")]
        inside.append(((scores["low"] <= expected) & (expected <= scores["high"])).tolist())
        # a and b are equally strong: ranks 2 and 3 are both theirs
        sets = zip(scores["best_rank"], scores["worst_rank"], [(2, 3), (2, 3), (1, 1)], strict=True)
        held.append(all(low <= first and last <= high for low, high, (first, last) in sets))
    assert 0.93 <= np.mean(inside) <= 0.97 and np.mean(held) >= 0.95


def test_variants_alike_share_all_ranks() -> None:
    ranking = round_robin(drawn(np.zeros(4), 60, 1), FULL, resamples=50)
    assert ranking.scores["best_rank"].tolist() == [1] * 4 and ranking.scores["worst_rank"].tolist() == [4] * 4


def test_variants_that_tie_throughout_share_the_first_place() -> None:
    won = {pair: np.full(20, 0.5) for pair in combinations("abc", 2)}
    ranking = round_robin(won, FULL, resamples=50)
    assert ranking.scores["p_best"].tolist() == pytest.approx([1 / 3] * 3)


def test_one_that_never_loses_has_a_finite_score() -> None:
    ranking = round_robin({("a", "b"): np.ones(50)}, FULL, resamples=50)
    assert np.isfinite(ranking.scores[["score", "low", "high"]].to_numpy()).all() and ranking.scores.index[0] == "b"


def test_the_order_of_prompts_is_nothing_and_swapped_roles_are_mirrored() -> None:
    won = drawn(np.array([0.0, 0.5, 1.0]), 80, 2)
    turn = np.random.default_rng(0).permutation(80)
    one, two = round_robin(won, FULL, resamples=5), round_robin({k: v[turn] for k, v in won.items()}, FULL, resamples=5)
    assert one.scores["score"].to_numpy() == pytest.approx(two.scores["score"].to_numpy(), abs=1e-6)
    mirrored = round_robin({k: 1 - v for k, v in won.items()}, FULL, resamples=5)
    assert mirrored.scores.loc["a", "score"] == pytest.approx(-one.scores.loc["a", "score"], abs=1e-3)


def test_missing_verdicts() -> None:
    won = drawn(np.array([0.0, 0.5, 1.0]), 100, 3)
    won["a", "b"][:3] = np.nan
    ranking = round_robin(won, Coverage(300, 3, (("HTTP 500", 3),)), resamples=20)
    assert np.isfinite(ranking.wins.loc["a", "b"]) and "3 of 300 verdicts are missing (3 x HTTP 500)" in markdown(
        ranking
    )
    with pytest.raises(UserError, match="more than 5%: the number is withheld; fix the judge and run again"):
        round_robin(won, Coverage(300, 30, (("HTTP 500", 30),)))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="round robin: 1 variants; it takes at least two"):
        play(Length(), prompts(1), {"a": answers("x")})
    with pytest.raises(UserError) as caught:
        play(Length(), prompts(2), {"a": answers("x"), "b": answers("x", "y")})
    assert str(caught.value) == "round robin: a: 1 answers to 2 prompts; give one for each"


def test_the_table() -> None:
    text = markdown(round_robin(drawn(np.array([0.0, 2.0]), 60, 4), FULL, resamples=20))
    assert text.splitlines()[0] == "| variant | Bradley-Terry | P(best) | b | a |"
    assert text.splitlines()[2].startswith("| b | +") and "Win rate of the row against the column" in text


def test_its_file_says_who_beats_whom() -> None:
    ranking = round_robin({("a", "b"): np.array([1.0] * 75 + [0.0] * 25)}, FULL, resamples=50)
    text = json.dumps(as_json(ranking, Verifier()), allow_nan=False)
    values = json.loads(text)
    assert values["variants"] == ["b", "a"] and values["wins"] == [[None, 0.75], [0.25, None]]
    assert [s["variant"] for s in values["scores"]] == ["b", "a"] and values["scores"][0]["best_rank"] == 1
    assert values["differences"][0]["first"] == "a" and values["differences"][0]["value"] == -0.5  # 25% less 75%
    assert values["coverage"] == {"asked": FULL.asked, "missing": 0, "reason": ""} and values["judge"] == "verifier"
