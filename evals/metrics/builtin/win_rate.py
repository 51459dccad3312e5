"""Win rates against the baseline: raw, length-controlled, style-controlled; and the verifier's score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from prefzoo.evals.judges.annotations import Annotations
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metric, Noted, register
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.arena import arena_score
from prefzoo.evals.stats.intervals import Estimate, Values
from prefzoo.evals.stats.length_control import LengthControlled, length_controlled
from prefzoo.evals.stats.style import has_style

HALF = 0.5


def wins(measured: Measured, base: Measured | None) -> Values | None:
    """Return (n,) wins against the baseline in [0, 1], from the judge's preferences or else the verifier's scores."""
    if measured.preferences:
        return np.array(measured.preferences, dtype=float) - 1
    if measured.scores and base is not None and len(measured.scores) == len(base.scores):
        return intervals.wins(np.array(measured.scores), np.array(base.scores))
    return None


def win_rate(measured: Measured, base: Measured | None) -> Estimate | None:
    """Return the share of prompts won, with Wilson's interval if all prompts have the same outcome."""
    won = wins(measured, base)
    return None if won is None else intervals.share_won(won)


def arena(measured: Measured, _: Measured | None) -> Values | None:
    """Return (n,) values whose mean is Arena-Hard's score; None if verdicts are not graded that way or are withheld."""
    if not measured.games or measured.withheld:
        return None
    nothing = [np.nan, np.nan]
    return arena_score(np.array([game if len(game) == len(nothing) else nothing for game in measured.games]) - 1)


def alpaca_eval(measured: Measured, _: Measured | None) -> Values | None:
    """Return (n,) wins in the one order that AlpacaEval draws for each prompt; None for other judges."""
    return np.array(measured.drawn, dtype=float) - 1 if measured.drawn else None


def scores(measured: Measured, _: Measured | None) -> Values | None:
    """Return the verifier's (n,) scores."""
    return np.array(measured.scores, dtype=float) if measured.scores else None


def length_controlled_rates(models: Mapping[str, Measured], base: str) -> dict[str, Noted]:
    """Return the length-controlled win rate of every model that a judge compared with the baseline.

    All models are fitted together, and must have answered the same prompts in the same order.
    """
    return _controlled(models, base, style=False)


def style_controlled_rates(models: Mapping[str, Measured], base: str) -> dict[str, Noted]:
    """Return win rates that also control for headers, lists and bold text; empty if no answer has any of these."""
    styled = any(has_style(m.answers) for m in models.values())
    return _controlled(models, base, style=True) if styled else {}


def _controlled(models: Mapping[str, Measured], base: str, *, style: bool) -> dict[str, Noted]:
    if base not in models:
        return {}
    answers = models[base].answers
    judged = {name: m for name, m in models.items() if name != base and m.preferences}
    pool = [_annotations(name, m, answers, base) for name, m in judged.items()]
    rates = length_controlled(pool, style=style) if pool else {}
    return {name: Noted(_share(rate, judged[name]), _note(rate)) for name, rate in rates.items()}


def _share(rate: LengthControlled, measured: Measured) -> Estimate:
    n = int(np.isfinite(np.array(measured.preferences, dtype=float)).sum())
    return Estimate(rate.value / 100, rate.stderr / 100, rate.low / 100, rate.high / 100, n)


def _note(rate: LengthControlled) -> str:
    """Return the source of the prompts' difficulties, and warnings about the estimate."""
    return "; ".join([f"difficulty {rate.difficulty}", *rate.warnings])


def _annotations(name: str, measured: Measured, base_answers: list[str], base: str) -> Annotations:
    keys = [f"{i:08d}" for i in range(len(measured.answers))]  # ids of the prompts; sorting them keeps the order
    columns = {
        "instruction": keys, "output_1": base_answers, "output_2": measured.answers,
        "preference": measured.preferences,
    }  # fmt: skip
    return Annotations(name, base, measured.judge, pd.DataFrame(columns))


WIN_RATE = register(Metric(
    "win_rate", "win rate", "prompts", higher_is_better=True, percent=True, needs_baseline=True, judged=True,
    description="share of prompts whose answer is better than the base's; a tie is half a win",
    phrase="a win rate against the base", base_value=HALF, position=0, rows=wins, estimator=win_rate,
))  # fmt: skip
WIN_RATE_LC = register(Metric(
    "win_rate_lc", "win rate, length-controlled", "prompts", higher_is_better=True, percent=True, needs_baseline=True,
    judged=True, description="win rate if all answers were as long as the base's", base_value=HALF, position=3,
    phrase="a length-controlled win rate against the base", pooled=length_controlled_rates,
))  # fmt: skip
WIN_RATE_STYLE = register(Metric(
    "win_rate_style", "win rate, style-controlled", "prompts", higher_is_better=True, percent=True, needs_baseline=True,
    judged=True, base_value=HALF, position=4, phrase="a style-controlled win rate against the base",
    description="win rate if all answers had the base's length, headers, lists and bold text",
    pooled=style_controlled_rates,
))  # fmt: skip
WIN_RATE_ARENA = register(Metric(
    "win_rate_arena", "win rate, Arena-Hard's", "prompts", higher_is_better=True, percent=True, needs_baseline=True,
    judged=True, base_value=HALF, position=5, phrase="an Arena-Hard score against the base",
    description="share of games won, with a clear verdict counted three times", rows=arena,
))  # fmt: skip
WIN_RATE_ALPACA_EVAL = register(Metric(
    "win_rate_alpaca_eval", "win rate, AlpacaEval's", "prompts", higher_is_better=True, percent=True,
    needs_baseline=True, judged=True, base_value=HALF, position=5.5, phrase="AlpacaEval's win rate against the base",
    description="win rate in the one order that AlpacaEval draws for each prompt, as its own command reports it",
    rows=alpaca_eval,
))  # fmt: skip
SCORE = register(Metric(
    "score", "score", "prompts", higher_is_better=True, percent=True,
    description="share of a prompt's checks that the answer passes", position=6, rows=scores,
))  # fmt: skip
