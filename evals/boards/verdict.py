"""The answer to "which loss is best?": a decision in words, what would settle a tie, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefzoo.evals.boards.costs import RunCost
from prefzoo.evals.boards.ranking import Ranking, WithInterval, pair
from prefzoo.evals.metrics.registry import Metric
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.stats.planning import plan

NAMED = 5  # most variants that a sentence names
SURE = 0.995  # from here on, p is shown as "> 0.99"
TINY = 0.001  # below, p is shown as "< 0.001"
UNTRAINED = "No variant was trained to its end"
UNJUDGED = "No variant can be ranked: the judge gave too few verdicts"
UNMEASURED = "No variant can be ranked: nothing was measured on held-out prompts or pairs"


@dataclass(frozen=True)
class BoardVerdict:
    """The result of a comparison in whole sentences. A part that does not apply is empty.

    Attributes:
        decision: who wins, ties or is worse, how the variants compare with the base, and which of them failed.
        advice: the prompts, seeds and hours that would settle a tie.
        statistics: the numbers behind the decision.
        cautions: what a reader must know about the run, a sentence each.
        equality: which variants are equal within a margin, if the user asked for one.
    """

    decision: str
    advice: str = ""
    statistics: str = ""
    cautions: tuple[str, ...] = ()
    equality: str = ""

    @property
    def answer(self) -> str:
        """The decision, the equality and the advice as one text."""
        return " ".join(filter(None, (self.decision, self.equality, self.advice)))

    @property
    def lines(self) -> list[str]:
        """The answer, the statistics and the cautions, a line each."""
        return [line for line in (self.answer, self.statistics, " ".join(self.cautions)) if line]

    def __str__(self) -> str:
        return " ".join(self.lines)

    def as_json(self) -> dict[str, Any]:
        """Return the parts by name."""
        return {name: list(part) if isinstance(part, tuple) else part for name, part in asdict(self).items()}


def names(several: Sequence[str], most: int = NAMED) -> str:
    """Join names: `a, b and c`, or `a, b and 3 more` if there are more than `most`."""
    shown, more = list(several[:most]), len(several) - most
    shown += [f"{more} more"] if more > 0 else []
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def verb(several: Sequence[str], singular: str, plural: str) -> str:
    """Join names and a verb that agrees with them.

    Args:
        several: at least one name.
        singular, plural: the two forms of the verb, with the words that follow it.

    Returns:
        Text like `a and b are`.
    """
    return f"{names(several)} {singular if len(several) == 1 else plural}"


def decide(ranking: Ranking) -> str:
    """State who wins, who ties, who is worse, and how all compare with the base.

    Args:
        ranking: ranking of at least one variant.

    Returns:
        One or two sentences.
    """
    leader, *others = ranking.order
    if not others:
        lone = {
            "better": f"{leader} beats the base.",
            "worse": f"No winner: {leader} is worse than the base.",
            "tied": f"No winner: {leader} and the base tie.",
        }
        standing = ranking.standings.get(leader)
        return lone[standing] if standing else f"{leader} is alone: there is nothing to compare it with."
    tied = ranking.tied
    rest = [name for name in others if name not in tied]
    if len(tied) > 1:
        worse = f"; {verb(rest, 'is', 'are')} worse" if rest else ""
        return f"No winner: {names(tied)} tie{worse}.{_against_base(ranking)}"
    if ranking.standings.get(leader, "better") == "better":
        return f"{leader} wins: it is better than {names(others)}.{_against_base(ranking)}"
    return f"No winner: {leader} is better than {names(others)}, but does not beat the base.{_against_base(ranking)}"


def _against_base(ranking: Ranking) -> str:
    """Return how all variants compare with the base, as a sentence that begins with a blank; empty if unknown."""
    better, worse, tied = (ranking.having(s) for s in ("better", "worse", "tied"))
    if not (better or worse or tied):
        return ""
    if not (better or worse):
        return " None of them can be told from the base."
    if not (worse or tied):
        return " All of them beat the base." if len(better) > 1 else f" {names(better)} beats the base."
    if not (better or tied):
        return " All of them are worse than the base."
    parts: list[str] = []
    for several, singular, plural in (
        (better, "beats", "beat"), (tied, "cannot be told from", "cannot be told from"),
        (worse, "is worse than", "are worse than"),
    ):  # fmt: skip
        if several:
            parts.append(f"{verb(several, singular, plural)} {'it' if parts else 'the base'}")
    return f" {'; '.join(parts)}."


def statistics(ranking: Ranking, metric: Metric, best: WithInterval) -> str:
    """State the leader's number, and its differences from the other variants.

    Args:
        ranking: ranking of at least one variant.
        metric: metric that ranks them.
        best: the leader's number, with its interval.

    Returns:
        A sentence.
    """
    leader, value = ranking.order[0], interval_text(metric, best)
    number = f"{metric.phrase} of {value}" if metric.phrase else f"{value} by {metric.label}"
    sentence = f"{leader} has {number}"
    others = [_gap(ranking, metric, leader, name) for name in ranking.order[1:]]
    if others:
        kind = "Paired differences" if ranking.paired else "Differences"
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        sentence += f". {kind} of {leader} from {', '.join(others[:NAMED])}{more}; p after Holm"
    return f"{sentence}."


def advice(values: Mapping[str, Values], metric: Metric, cost: RunCost | None = None) -> str:
    """State how many prompts, seeds and hours would separate variants that tie.

    Args:
        values: (seeds, n) shares by variant, over the same prompts or pairs.
        metric: metric of the values.
        cost: recorded time of the run; None if it is unknown.

    Returns:
        A sentence; empty if the metric is not a share, or if there is nothing to separate.
    """
    planned = plan(values, None if cost is None else cost.seconds) if metric.percent and len(values) > 1 else None
    if planned is None:
        return ""
    points, seeds = 100 * planned.difference, f"{planned.seeds} seeds"
    seeds += "" if planned.seeds_known else " (one seed does not show how much seeds vary)"
    hours = "" if cost is None else f", {cost.words(planned.prompts, planned.seeds)}"
    return f"To separate {points:.0f} points: about {planned.prompts:,} {metric.row_name} and {seeds}{hours}."


def interval_text(metric: Metric, number: WithInterval) -> str:
    """Format a number with its interval, like `66.0% (58.5 to 73.0)`, in percent or the metric's own unit."""
    unit = "%" if metric.percent else f" {metric.unit}" if metric.unit else ""
    return f"{metric.text(number.value)}{unit} ({metric.text(number.low)} to {metric.text(number.high)})"


def p_text(p: float) -> str:
    """Format a p-value, like `p = 0.03`; very small and very large ones as `p < 0.001` and `p > 0.99`."""
    return "p < 0.001" if p < TINY else "p > 0.99" if p >= SURE else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"  # noqa: PLR2004


def signed(metric: Metric, value: float) -> str:
    """Format a difference with its sign, without one if it rounds to zero."""
    text = metric.text(value, "+")
    return text.lstrip("+-") if float(text) == 0 else text


def _gap(ranking: Ranking, metric: Metric, leader: str, other: str) -> str:
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    gap = ranking.differences[pair(leader, other)]
    if gap.value == gap.low == gap.high == 0:
        return f"{other}: none"
    return (
        f"{other}: {signed(metric, ranking.difference(leader, other))}{unit} ({p_text(ranking.p[pair(leader, other)])})"
    )
