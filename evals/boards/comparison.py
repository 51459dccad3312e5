"""Compare any runs and variants: numbers, paired differences from a baseline, recipes, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards import comparable
from prefzoo.evals.boards.agreement import RankAgreement, rank_agreements
from prefzoo.evals.boards.cautions import cautions
from prefzoo.evals.boards.costs import IN_BOARD
from prefzoo.evals.boards.equivalence import Equivalence
from prefzoo.evals.boards.judged_files import all_measured, metrics_of, points_of, setting_of
from prefzoo.evals.boards.notebook import comparison_html, paragraphs
from prefzoo.evals.boards.ranking import Ranking
from prefzoo.evals.boards.recipes_and_costs import recipe_differences, training_costs
from prefzoo.evals.boards.run_files import failure_text
from prefzoo.evals.boards.selection import Entry, select
from prefzoo.evals.boards.standings import common, differences, equivalence_of, ordered, power, rank, verdict_of
from prefzoo.evals.boards.verdict import BoardVerdict
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.evals.stats import intervals

MOST_POINTS = 50  # largest margin of equality
SHOWN = 4  # metrics shown by `repr`
DIFFERENCES = ["variant", "metric", "baseline", "value", "low", "high", "p", "p_holm", "paired", "n"]  # columns


@dataclass(frozen=True)
class RunComparison:
    """Variants side by side.

    Attributes:
        table: a row per variant, best first. Columns: rank (shared within noise; missing if nothing is ranked),
            against_base (better, worse or tied), variant, run, loss, seed (missing if there are several), seeds (their
            number), and for each metric its value, `_low` and `_high` (95% interval) and `_n`.
        differences: a row per variant and metric: the variant minus the baseline, its 95% interval, p, `p_holm`
            (Holm-corrected over the variants of that metric), `paired` and n. `paired` is True if the difference is
            over the same prompts, pairs or documents; else the two estimates are taken as independent.
        recipes: a row per variant, with a column for each recipe key whose value differs between variants.
        costs: a row per variant: costs of training, and the hardware.
        metrics: names of the metrics shown, in order.
        by: name of the metric or cost that orders the table; empty if the rows are in the order of the paths.
        baseline: label of the entry that differences are taken from.
        notes: what a reader must know, a sentence each.
        about: the metrics, by name.
        verdict: who wins, what would settle a tie, and the numbers behind the decision.
        equivalence: tests of which variants are equal within a margin; None if no margin is given.
        agreements: how far every two runs agree on the order of the variants that they share.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    recipes: pd.DataFrame
    costs: pd.DataFrame
    metrics: tuple[str, ...]
    by: str
    baseline: str
    notes: tuple[str, ...]
    about: Metrics
    verdict: BoardVerdict
    equivalence: Equivalence | None = None
    agreements: tuple[RankAgreement, ...] = ()

    def _repr_html_(self) -> str:
        numbers = comparison_html(self.table, self.metrics, self.about)
        return paragraphs(self.verdict.answer, ()) + numbers + paragraphs("", [*self.verdict.lines[1:], *self.notes])

    def __repr__(self) -> str:
        shown = self.table[[c for c in ("rank", "variant", *self.metrics[:SHOWN]) if c in self.table]]
        return f"{self.verdict.answer}\n{shown.to_string(index=False)}".strip()

    def flat(self) -> pd.DataFrame:
        """Return all numbers in one table: a row per variant, differences as `METRIC_difference`, `METRIC_p_holm`."""
        table = self.table.set_index("variant")
        for metric, rows in self.differences.groupby("metric", sort=False):
            mine = rows.set_index("variant")
            table[f"{metric}_difference"], table[f"{metric}_p_holm"] = mine["value"], mine["p_holm"]
        return table.join(self.costs.set_index("variant")).reset_index()


def compare(
    paths: Sequence[str | Path], baseline: str | Path | None = None, metrics: Sequence[str] | None = None,
    sort: str | None = None, unranked: bool = False, equivalence: float | None = None, *, by_seed: bool = False,
) -> RunComparison:  # fmt: skip
    """Compare runs (`results/mine`) and variants (`results/mine/dpo`).

    Args:
        paths: folders of runs and variants.
        baseline: name or folder of the variant that differences are taken from; by default the base.
        metrics: names of the metrics to show; by default all.
        sort: name of the metric to rank by, or of the cost to sort by; by default the first of win_rate,
            preference_accuracy and score that all variants have.
        unranked: show the variants without ranks, in the order of the paths, even if they cannot be compared. A variant
            that was measured otherwise than the baseline has no differences.
        equivalence: margin in percentage points within which two variants count as equal; by default the margin in the
            runs' recipes, if it is the same in all.
        by_seed: whether each seed of a variant has a row of its own. Else the seeds share a row, whose intervals and
            differences cover both seeds and prompts.

    Returns:
        The numbers, their differences from the baseline, recipes and costs.

    Raises:
        UserError: a run, variant or metric does not exist; or the variants cannot be ranked, with the reason.
    """
    if not paths:
        raise UserError("compare: no run is named; name one or more, like results/quickstart or results/quickstart/dpo")
    entries = select([Path(p) for p in paths], None if baseline is None else Path(baseline), by_seed=by_seed)
    about = metrics_of({e.run.folder: e.run for e in entries}.values())
    have = about.in_order(m for e in entries for m in e.long.index)
    costs = training_costs(entries)
    shown = [_known(m, have, "--metric") for m in dict.fromkeys(metrics)] if metrics else list(have)
    by = _order_by(entries, shown, sort, have, [c for c in costs.columns if c not in ("variant", "hardware")])
    against = [e for e in entries if not e.is_base or len(entries) == 1]
    why = comparable.obstacles(against, by) if by in have else []
    if why and not unranked:
        raise UserError(_refusal(entries, by, why, have))
    if not by and not unranked and len({e.run.folder for e in entries}) > 1:
        named = ", ".join(dict.fromkeys(e.run.folder.name for e in entries))
        raise UserError(f"{named}: have no metric in common to rank by; --unranked shows them side by side")
    is_ranked = not why and bool(by) and not unranked
    order = ordered(entries, by, costs) if is_ranked else list(entries)
    ranking = rank(order, by) if is_ranked else Ranking()
    start = _baseline(entries, baseline)
    shown.sort(key=lambda m: m != by)  # the metric that ranks comes first
    points, apart = _points(entries, equivalence)
    equal = equivalence_of(order, ranking, by, points)
    if equivalence is not None and equal is None:
        raise UserError(f"--equivalence: {_no_equality(ranking, about, by)}")
    verdict = _with_runs(verdict_of(order, ranking, by, equal), entries)
    alike = rank_agreements(entries, by) if is_ranked else ()
    notes = (*_notes(entries, by, why, shown), *apart, *(one.sentence for one in alike))
    return RunComparison(
        _table(order, ranking, shown),
        pd.DataFrame([row for m in shown for row in _differences_from(start, entries, m)], columns=DIFFERENCES),
        recipe_differences(order),
        costs.set_index("variant").reindex([e.label for e in order if not e.is_base]).reset_index(), tuple(shown),
        by if is_ranked else "", start.label, notes, about, verdict, equal, alike,
    )  # fmt: skip


def _points(entries: Sequence[Entry], asked: float | None) -> tuple[float | None, list[str]]:
    """Return the margin of equality, and a note if the runs' recipes have different ones."""
    if asked is not None:
        if not 0 < asked <= MOST_POINTS:
            raise UserError(f"--equivalence: must be above 0 and at most {MOST_POINTS} points (is {asked:g}); like 3")
        return asked, []
    margins = list(dict.fromkeys(points_of(e.run) for e in entries))
    if len(margins) == 1:
        return margins[0], []
    shown = " and ".join("none" if m is None else f"{m:g} points" for m in margins)
    return None, [f"The recipes have different margins of equality ({shown}), so none is tested; use --equivalence."]


def _no_equality(ranking: Ranking, about: Metrics, by: str) -> str:
    if not ranking.order:
        return "nothing is ranked, so no two variants can be tested; leave the option out"
    if not about[by].percent:
        return f"applies only to shares, and {by} is not one; --sort win_rate or preference_accuracy"
    return f"{by} is not stored row by row here, so the variants cannot be paired; leave the option out"


def _known(name: str, have: Sequence[str], option: str) -> str:
    if name not in have:
        hint = did_you_mean(name, have) or f"; there are {', '.join(have) or 'none'}"
        raise UserError(f"{option}: nothing measured is called {name!r}{hint}")
    return name


def _order_by(
    entries: Sequence[Entry], shown: Sequence[str], sort: str | None, have: Sequence[str], costs: Sequence[str]
) -> str:
    if sort is not None:
        asked = IN_BOARD.get(sort, sort)
        return asked if asked in costs else _known(asked, have, "--sort")
    shared = common(entries)
    return next(iter([m for m in shared if m in shown] or shared), "")


def _refusal(entries: Sequence[Entry], by: str, why: list[str], have: Sequence[str]) -> str:
    runs = list(dict.fromkeys(e.run.folder.name for e in entries))
    trained = [e for e in entries if not e.is_base]
    shared = [m for m in have if all(np.isfinite(e.value(m)) for e in trained) and not comparable.obstacles(trained, m)]
    other = f", or --sort {shared[0]} ranks by what they share" if shared else ""
    return f"{', '.join(runs)}: not ranked by {by}: {'; '.join(why)}; --unranked shows them side by side{other}"


def _baseline(entries: Sequence[Entry], asked: str | Path | None) -> Entry:
    if asked is None:
        return next((e for e in entries if e.is_base), entries[0])
    named = [e for e in entries if e.label == str(asked) or e.files.folder == Path(asked)]
    named = named or [e for e in entries if e.files.name == str(asked)]
    if not named:
        known = [e.label for e in entries]
        hint = did_you_mean(str(asked), known) or f"; there are {', '.join(known)}"
        raise UserError(f"--baseline: no variant {str(asked)!r} among those compared{hint}")
    if len(named) > 1:
        raise UserError(f"--baseline: {asked} is in several runs; write {' or '.join(e.label for e in named)}")
    return named[0]


def _differences_from(start: Entry, entries: Sequence[Entry], metric: str) -> list[dict[str, Any]]:
    """Return rows of the variant minus the baseline, for each variant that was measured like the baseline."""
    group = dict(zip((e.label for e in entries), comparable.groups(entries, metric), strict=True))
    others = [e for e in entries if e.label != start.label and group[e.label] == group[start.label]]
    rows: list[dict[str, Any]] = []
    for e, (gap, n) in zip(others, differences(start, others, metric), strict=True):
        if np.isfinite(gap.value):
            named = {"variant": e.label, "metric": metric, "baseline": start.label}
            rows.append(named | vars(gap) | {"paired": n > 0, "n": n or e.long.loc[metric, "n"]})
    corrected = intervals.holm([row["p"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]


def _table(order: Sequence[Entry], ranking: Ranking, metrics: Sequence[str]) -> pd.DataFrame:
    rows = []
    for e in order:
        result = e.files.result
        row: dict[str, Any] = {
            "rank": ranking.ranks.get(e.label), "against_base": ranking.standings.get(e.label), "variant": e.label,
            "run": e.run.folder.name,
            "loss": result.loss_shown if result else None,
            "seed": result.seed if result and not e.members else None, "seeds": None if e.is_base else len(e.seeds),
        }  # fmt: skip
        for m in metrics:
            mine: Any = e.long.loc[m] if m in e.long.index else {}
            itself = e.metrics[m].base_value if e.is_base else None
            row |= {m: mine.get("value", itself), f"{m}_low": mine.get("low"), f"{m}_high": mine.get("high")}
            row[f"{m}_n"] = mine.get("n")
        rows.append(row)
    table = pd.DataFrame(rows)
    numbers = [c for c in table.columns if c not in ("rank", "against_base", "variant", "run", "loss", "seed", "seeds")]
    return table.astype({"rank": "Int64", "seed": "Int64", "seeds": "Int64"} | dict.fromkeys(numbers, "float64"))


def _with_runs(verdict: BoardVerdict, entries: Sequence[Entry]) -> BoardVerdict:
    """Add the variants that failed, and the cautions of each run."""
    seeds = [seed for e in entries for seed in e.seeds]
    failures = [(e.label, e.files.failure) for e in seeds if e.files.failure is not None]
    failed = [f"{label} failed ({failure_text(failure)})." for label, failure in failures]
    runs = {e.run.folder: e.run for e in entries}
    beware = [
        f"{folder.name}: {line}" if len(runs) > 1 else line
        for folder, run in runs.items()
        for line in cautions(all_measured(run), setting_of(run))
    ]
    return replace(verdict, decision=" ".join(filter(None, [verdict.decision, *failed])), cautions=tuple(beware))


def _notes(entries: Sequence[Entry], by: str, why: list[str], shown: Sequence[str]) -> list[str]:
    trained = [e for e in entries if not e.is_base]
    notes = [f"Not ranked by {by}: {'; '.join(why)}."] if why else []
    notes += [] if why else [power(trained, by)]
    apart = [m for m in shown if m != by and comparable.obstacles(trained, m)]
    if apart:
        notes.append(f"Measured differently, so not compared between runs: {', '.join(apart)}.")
    if sum(e.is_base for e in entries) > 1:
        notes.append("The base answered differently in these runs: win rates are against different answers.")
    gone = [e.label for one in trained for e in one.seeds if e.files.measured is None and e.files.failure is None]
    if gone:
        notes.append(f"Not measured yet: {', '.join(gone)}; start the same prefzoo run again to resume.")
    return [note for note in notes if note]
