"""Arena-Hard's verdicts, judges that think first, and win rates without the judge's taste for style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from misbehaving import Misbehaving, asked, judge, reply, serving
from pydantic import ValidationError
from scipy.special import expit

from prefzoo.evals.boards.leaderboard import build
from prefzoo.evals.judges.annotations import Annotations
from prefzoo.evals.judges.judge_prompt import ARENA_TEMPLATE, JudgePrompt, read_grade, read_prompt
from prefzoo.evals.judges.replies import without_thinking
from prefzoo.evals.judges.rows import annotation_rows, games_of
from prefzoo.evals.judges.server import ServerJudge, ServerSettings
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats.arena import arena_score
from prefzoo.evals.stats.length_control import length_controlled
from prefzoo.evals.stats.style import elements, has_style, style_terms
from prefzoo.runtime.cache import Cache


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with serving() as running:
        yield running


def arena(server: Misbehaving, folder: Path, **more: Any) -> ServerJudge:
    settings = ServerSettings(kind="server", url=server.url, model="m", timeout=5.0, verdicts="arena", **more)
    prompt = read_prompt(None, "evals.judge.prompt", arena=True)
    return ServerJudge(settings, prompt, Cache(folder / "calls.jsonl"), [].append)


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("[[A>>B]]", 1.0), ("[[A>B]]", 1.25), ("[[A=B]]", 1.5), ("[[B>A]]", 1.75), ("[[B>>A]]", 2.0),
        ("[[A<<B]]", 2.0), ("[[B<A]]", 1.25), ("[[b > a]]", 1.75), ("[A>B]", 1.25),
        ("First [[A>B]] seemed right, but my final verdict is: [[B>>A]].", 2.0),
        ("no verdict", None), ("[[C]]", None), ("[[A>A]]", None), ("A>B", None),
    ],
)  # fmt: skip
def test_verdicts(text: str, preference: float | None) -> None:
    assert read_grade(text) == preference


def test_two_games_are_played_and_their_mean_is_the_preference(server: Misbehaving, tmp_path: Path) -> None:
    def behave(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        text = request["messages"][0]["content"]
        return 200, reply("My own answer.\n\n[[A>>B]]" if text.index("good") < text.index("base") else "So: [[B>A]]")

    server.behave = behave
    by = arena(server, tmp_path)
    (verdict,) = by.compare(asked(1))
    assert verdict.orders == (1.75, 2.0) and verdict.preference == 1.875
    assert {r["max_tokens"] for r in server.asked} == {4096} and "logprobs" not in server.asked[0]
    assert ARENA_TEMPLATE.splitlines()[0] in server.asked[0]["messages"][0]["content"]
    (row,) = annotation_rows(asked(1), [verdict], by, "base", "m")
    assert row["verdicts"] == "arena" and row["preference_by_order"] == [1.75, 2.0]
    assert by.compare(asked(1)) == [verdict] and len(server.asked) == 2  # from the cache


def test_a_letter_is_no_verdict_of_the_arena(server: Misbehaving, tmp_path: Path) -> None:
    server.behave = lambda request, nth: (200, reply("A"))
    assert arena(server, tmp_path, tries=1).compare(asked(1))[0].missing.startswith("unknown verdict 'A'")


def test_the_settings_of_a_reply_are_kept() -> None:
    known = {"kind": "server", "url": "http://h/v1", "model": "m"}
    assert ServerSettings(**known).max_tokens == 8
    assert ServerSettings(**known, verdicts="arena").max_tokens == 4096
    assert ServerSettings(**known, verdicts="arena", max_tokens=100).max_tokens == 100
    assert ServerSettings(**known, verdicts="arena", max_tokens=None).max_tokens is None
    with pytest.raises(ValidationError, match="'letter' or 'arena'"):
        ServerSettings(**known, verdicts="stars")  # type: ignore[arg-type]
    assert JudgePrompt("x").hash != JudgePrompt("x", arena=True).hash


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>A? B? [[A>B]]</think>\nB", "\nB"), ("A? no.</think>B", "B"), ("<think>on and on", ""),
        ("<thinking>x</thinking> A", " A"), ("plain", "plain"), ("<think>a</think>b<think>c", ""),
    ],
)  # fmt: skip
def test_what_a_judge_thinks_first_is_no_verdict(text: str, left: str) -> None:
    assert without_thinking(text) == left


def test_the_verdict_is_read_after_the_thinking(server: Misbehaving, tmp_path: Path) -> None:
    def behave(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        text = request["messages"][0]["content"]
        letter = "A" if text.index("good") < text.index("base") else "B"
        return 200, reply(f"<think>\nB\nA\n</think>\n{letter}", **{"<think>": 0.9, "A": 0.05, "B": 0.05})

    server.behave = behave
    (verdict,) = judge(server, tmp_path, max_tokens=1000).compare(asked(1))
    assert verdict.preference == 2.0


@pytest.mark.parametrize("text", ["<think>let me", None, ""])
def test_a_reply_that_is_cut_names_the_limit_and_is_paid_once(
    server: Misbehaving, tmp_path: Path, text: str | None
) -> None:
    body = reply(text)
    body["choices"][0]["finish_reason"] = "length"
    server.behave = lambda request, nth: (200, body)
    (verdict,) = judge(server, tmp_path, tries=3).compare(asked(1))
    assert verdict.missing == "the reply was cut after 1 tokens, before a verdict; raise evals.judge.max_tokens"
    assert len(server.asked) == 2


def test_the_score_counts_a_clear_verdict_three_times() -> None:
    games = np.array([[1.0, 0.75], [0.25, 0.0], [0.5, 0.75], [np.nan, 1.0]])
    # won 3 + 1 of 4 games, 0 of 1 + 3, and 0.5 + 1 of 2
    rows = arena_score(games)
    assert np.nanmean(rows) == pytest.approx((4 + 0 + 1.5) / 10) and np.isnan(rows[3])
    assert np.isnan(arena_score(np.full((2, 2), np.nan))).all()
    assert games_of([1.5, None, 1.25], [(), (), (1.25, 1.25)]) == [[1.5, 1.5], [], [1.25, 1.25]]


def test_intervals_over_prompts_hold_the_score() -> None:
    rng, held, values = np.random.default_rng(0), 0, np.array([0, 0.25, 0.5, 0.75, 1.0])
    chance = np.array([0.1, 0.2, 0.2, 0.3, 0.2])
    weight = np.where(np.abs(values - 0.5) == 0.5, 3, 1)
    truth = (chance * weight * np.where(values > 0.5, 1, np.where(values < 0.5, 0, 0.5))).sum() / (
        chance * weight
    ).sum()
    for _ in range(500):
        first = rng.choice(values, 150, p=chance)
        second = np.where(rng.random(150) < 0.7, first, rng.choice(values, 150, p=chance))  # two games go together
        rows = arena_score(np.column_stack([first, second]))
        held += abs(rows.mean() - truth) < 1.96 * rows.std(ddof=1) / 150**0.5
    assert 0.93 <= held / 500 <= 0.97


def test_the_board_has_the_score_and_the_style_beside_the_win_rate() -> None:
    n = 40
    own = [f"# Title {i}\n\n- **one**\n- two\n" + "x" * (i % 7) for i in range(n)]
    games = [[2.0, 1.75] if i % 4 else [1.25, 1.0] for i in range(n)]
    means = [sum(g) / 2 for g in games]
    base = Measured([], [], [3] * n, [True] * n, [0.0] * n, [f"plain {i}" for i in range(n)], {})
    model = Measured([], [], [3] * n, [True] * n, [0.0] * n, own, {}, preferences=means, judge="j", games=games)
    long = build({"base": base, "a": model}, {}).long.set_index(["variant", "metric"])
    assert long.loc[("a", "win_rate_arena"), "value"] == pytest.approx(30 / 40)  # as 90 + 30 of 160 games
    assert ("a", "win_rate_style") in long.index
    plain = Measured([], [], [3] * n, [True] * n, [0.0] * n, ["other"] * n, {}, preferences=means, judge="j")
    without = set(build({"base": base, "a": plain}, {}).long.metric)
    assert "win_rate" in without and not without & {"win_rate_arena", "win_rate_style"}


def test_elements_of_markdown() -> None:
    text = "# One\n## Two\n#no\n- a\n* b\n 1. c\n**bold** and __more__ not ** this\n```\n# code\n- x\n```\n"
    assert elements(text) == (2, 3, 2) and has_style(["plain", text]) and not has_style(["plain", "```\n# x\n```"])
    rows = pd.DataFrame({"instruction": ["p", "q"], "output_1": ["plain", text], "output_2": [text, text]})
    terms = style_terms(rows, ["q", "p", "r"])
    assert terms.shape == (3, 3) and (terms[0] == 0).all() and (terms[1] > 0).all() and (terms[2] == 0).all()


def drawn(rng: np.random.Generator, n: int, taste: float, level: float) -> tuple[Annotations, float]:
    """A judge that likes bold text, of a model that uses more of it than the baseline."""
    bold = rng.integers(0, 5, n)
    base, own = ["w" * 300] * n, [("**b** " * k).ljust(300, "w") for k in bold]
    frame = pd.DataFrame({"instruction": [f"{i:04d}" for i in range(n)], "output_1": base, "output_2": own})
    style = style_terms(frame, list(frame.instruction))[:, 2]
    won = rng.random(n) < expit(level + taste * style)
    return Annotations("m", "base", "j", frame.assign(preference=1.0 + won)), float(100 * expit(level))


def coverage(times: int, n: int, seed: int) -> tuple[float, float]:
    rng, held, raw = np.random.default_rng(seed), 0, 0
    for _ in range(times):
        annotations, truth = drawn(rng, n, 0.7, 0.1)
        rate = length_controlled([annotations], style=True, resamples=100)["m"]
        held += rate.low <= truth <= rate.high
        raw += abs(100 * (annotations.rows.preference.mean() - 1) - truth) < 1.96 * 50 / n**0.5
    return held / times, raw / times


@pytest.mark.slow
def test_style_controlled_intervals_hold_the_truth() -> None:
    held, raw = coverage(600, 300, 1)
    assert 0.92 <= held <= 0.98 and raw < 0.3


def test_style_control_takes_the_judges_taste_out() -> None:
    held, raw = coverage(15, 300, 2)
    assert held >= 0.8 and raw <= 0.6
