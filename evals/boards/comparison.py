"""Any runs and variants side by side: numbers, paired differences from a baseline, recipes, costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards import comparable
from prefzoo.evals.boards.leaderboard import ALPHA, HALF, MOST, ORDER
from prefzoo.evals.boards.selection import COST_ROW, Entry, select
from prefzoo.evals.boards.settings import costs_of, differing
from prefzoo.evals.metrics.estimates import HIGHER
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import power_statement
from prefzoo.evals.stats.intervals import Difference, Values

PRIMARY = ("win_rate", "preference_accuracy", "score")  # what ranks unless told otherwise, the first that all have
SHARES = ("win_rate", "preference_accuracy", "score", "finished")  # whose differences are points of a hundred
HALVED = ("win_rate", "preference_accuracy")  # of which the base has one half
Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Comparison:
    """Variants side by side.

    Attributes:
        table: a row per variant, best first: rank (shared within noise; missing where nothing ranks), variant, run,
            loss, seed, and of each metric its value, `_low`, `_high` (95%) and `_n`.
        differences: a row per variant and metric: the variant less the baseline, its 95% interval, p, `p_holm`
            (corrected over the variants of that metric), `paired` (over the same prompts, pairs or documents; where
            nothing is known one by one, the two intervals are taken as independent) and n.
        recipes: a row per variant, a column for each key of the recipes that is not the same everywhere.
        costs: a row per variant: what training took, and the hardware.
        metrics: those shown, in order.
        by: the metric (or cost) that orders; empty where the order is the one asked for.
        notes: what a reader must know, a sentence each.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    recipes: pd.DataFrame
    costs: pd.DataFrame
    metrics: tuple[str, ...]
    by: str
    baseline: str
    notes: tuple[str, ...]

    def flat(self) -> pd.DataFrame:
        """One table of all numbers: a row per variant, differences as `METRIC_difference` and `METRIC_p_holm`."""
        made = self.table.set_index("variant")
        for metric, rows in self.differences.groupby("metric", sort=False):
            mine = rows.set_index("variant")
            made[f"{metric}_difference"], made[f"{metric}_p_holm"] = mine["value"], mine["p_holm"]
        return made.join(self.costs.set_index("variant")).reset_index()


def compare(
    paths: Sequence[str | Path], baseline: str | Path | None = None, metrics: Sequence[str] | None = None,
    sort: str | None = None, unranked: bool = False,
) -> Comparison:  # fmt: skip
    """Put runs (`results/mine`) and variants (`results/mine/dpo`) side by side.

    Args:
        baseline: what differences are taken from: a variant's name, or its folder; the base unless given.
        metrics: which to show; all unless given.
        sort: the metric, or cost, to rank by; a win rate, else an accuracy on held-out pairs, unless given.
        unranked: show also what cannot be compared, in the order given and without differences between the two.

    Raises:
        UserError: no such run, variant or metric; or they cannot be ranked, with the reason.
    """
    if not paths:
        raise UserError("compare: no run is named; name one or more, like results/quickstart or results/quickstart/dpo")
    entries = select([Path(p) for p in paths], None if baseline is None else Path(baseline))
    have = _metrics(entries)
    costs = costs_of(entries)
    shown = [_known(m, have, "--metric") for m in dict.fromkeys(metrics)] if metrics else have
    by = _order_by(entries, shown, sort, [c for c in costs.columns if c not in ("variant", "hardware")])
    why = comparable.reasons([e for e in entries if not e.is_base or len(entries) == 1], by) if by in have else []
    if why and not unranked:
        raise UserError(_refusal(entries, by, why, have))
    if not by and not unranked and len({e.run.folder for e in entries}) > 1:
        named = ", ".join(dict.fromkeys(e.run.folder.name for e in entries))
        raise UserError(f"{named}: no metric that all of them have ranks them; --unranked shows them side by side")
    ranked = not why and bool(by) and not unranked
    order = ordered(entries, by, costs) if ranked else list(entries)
    ranks = shared_ranks(order, by) if ranked else {}
    start = _baseline(entries, baseline)
    shown.sort(key=lambda m: m != by)  # what ranks comes first
    found = [_from(start, entries, metric) for metric in shown]
    return Comparison(
        _table(order, ranks, shown), pd.concat(found, ignore_index=True), differing(order),
        costs.set_index("variant").reindex([e.label for e in order if not e.is_base]).reset_index(), tuple(shown),
        by if ranked else "", start.label, (*lead(order, ranks, by), *_notes(entries, by, why, shown)),
    )  # fmt: skip


def _metrics(entries: Sequence[Entry]) -> list[str]:
    found = list(dict.fromkeys(m for e in entries for m in e.long.index))
    place = {m: i for i, m in enumerate(ORDER)}
    return sorted(found, key=lambda m: place.get(m, len(ORDER)))


def _known(name: str, have: Sequence[str], option: str) -> str:
    if name not in have:
        hint = did_you_mean(name, have) or f"; there are {', '.join(have) or 'none'}"
        raise UserError(f"{option}: nothing measured is called {name!r}{hint}")
    return name


def _order_by(entries: Sequence[Entry], shown: Sequence[str], sort: str | None, costs: Sequence[str]) -> str:
    if sort is not None:
        asked = "seconds" if sort == COST_ROW else sort
        return asked if asked in costs else _known(asked, _metrics(entries), "--sort")
    measured = [e for e in entries if not e.is_base and len(e.long)]
    common = [m for m in _metrics(entries) if measured and all(np.isfinite(e.value(m)) for e in measured)]
    first = [m for m in PRIMARY if m in common and m in shown] or [m for m in PRIMARY if m in common]
    return next(iter(first), "")


def _refusal(entries: Sequence[Entry], by: str, why: list[str], have: Sequence[str]) -> str:
    runs = list(dict.fromkeys(e.run.folder.name for e in entries))
    trained = [e for e in entries if not e.is_base]
    shared = [m for m in have if all(np.isfinite(e.value(m)) for e in trained) and not comparable.reasons(trained, m)]
    other = f", or --sort {shared[0]} ranks by what they share" if shared else ""
    return f"{', '.join(runs)}: not ranked by {by}: {'; '.join(why)}; --unranked shows them side by side{other}"


def _better_up(entries: Sequence[Entry], metric: str) -> bool | None:
    """Whether higher is better; None where neither is."""
    for e in entries:
        said = e.long.loc[metric].get("higher_is_better") if metric in e.long.index else None
        if said is not None and pd.notna(said):
            return str(said) == "True"
    return HIGHER.get(metric)


def primary(entries: Sequence[Entry]) -> str:
    """What ranks them: the first of PRIMARY that all have which were measured; empty where there is none."""
    return _order_by(entries, PRIMARY, None, ())


def ordered(entries: Sequence[Entry], by: str, costs: pd.DataFrame) -> list[Entry]:
    """Best first; a base wins half against itself; what lacks the number comes last."""
    cost = costs.set_index("variant")
    if by in cost.columns:
        values = {e.label: float(cost[by].get(e.label, np.nan)) for e in entries}
        up: bool | None = by.endswith("per_second")
    else:
        values = {e.label: intervals.mean(e.units[by]).value if by in e.units else e.value(by) for e in entries}
        up = _better_up(entries, by) is not False
    return sorted(entries, key=lambda e: np.inf if np.isnan(v := values[e.label]) else -v if up else v)


def shared_ranks(order: Sequence[Entry], by: str) -> dict[str, int]:
    """1 + the number of variants that are better and can be told apart; none for what has no better or worse."""
    mine = [e for e in order if not e.is_base and np.isfinite(e.value(by))]
    if _better_up(order, by) is None or len(mine) == 0:
        return {}
    pairs = list(combinations(range(len(mine)), 2))
    if all(by in e.units for e in mine):
        keys = [f"{i:06d}" for i in range(len(mine))]  # in alphabetical order, as they stand
        found = intervals.paired_differences({k: e.units[by] for k, e in zip(keys, mine, strict=True)})
        raw = [found[keys[i], keys[j]].p for i, j in pairs]
    else:
        raw = [_independent(mine[i], mine[j], by).p for i, j in pairs]
    p = dict(zip(pairs, intervals.holm(raw), strict=True))
    return {e.label: 1 + sum(p[i, j] <= ALPHA for i in range(j)) for j, e in enumerate(mine)}


def _independent(a: Entry, b: Entry, metric: str) -> Difference:
    """From two estimates and their standard errors: too wide an interval where both are of the same prompts."""
    one, other = (float(e.long.loc[metric, "stderr"]) for e in (a, b))  # type: ignore[arg-type]
    value, error = a.value(metric) - b.value(metric), math.hypot(one, other)
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else np.nan
    return Difference(value, value - Z * error, value + Z * error, p if np.isfinite(p) else 1.0)


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


def _from(start: Entry, entries: Sequence[Entry], metric: str) -> pd.DataFrame:
    """Every variant less the baseline, where the two were measured alike."""
    group = dict(zip((e.label for e in entries), comparable.groups(entries, metric), strict=True))
    others = [e for e in entries if e.label != start.label and group[e.label] == group[start.label]]
    rows: list[dict[str, Any]] = []
    for e, (gap, n) in zip(others, differences(start, others, metric), strict=True):
        if np.isfinite(gap.value):
            named = {"variant": e.label, "metric": metric, "baseline": start.label}
            rows.append(named | vars(gap) | {"paired": n > 0, "n": n or e.long.loc[metric, "n"]})
    corrected = intervals.holm([row["p"] for row in rows])
    columns = ["variant", "metric", "baseline", "value", "low", "high", "p", "p_holm", "paired", "n"]
    return pd.DataFrame([row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)], columns=columns)


def differences(start: Entry, others: Sequence[Entry], metric: str) -> list[tuple[Difference, int]]:
    """Of each less `start`, and how many prompts pair them: 0 where none do. NaN where a number is missing."""
    base = start.units.get(metric)
    paired = {
        f"{i:06d}": e.units[metric]
        for i, e in enumerate(others, 1)
        if base is not None and metric in e.units and e.units[metric].shape == base.shape
    }
    first = f"{0:06d}"  # in alphabetical order before all others
    found = intervals.paired_differences({first: base, **paired}, only=first) if base is not None and paired else {}
    out = []
    for i, e in enumerate(others, 1):
        gap = found.get((first, f"{i:06d}"))
        if gap is None or base is None:
            both = metric in e.long.index and metric in start.long.index
            out.append((_independent(e, start, metric) if both else Difference(np.nan, np.nan, np.nan, 1.0), 0))
        else:
            n = int((np.isfinite(base) & np.isfinite(e.units[metric])).sum())
            out.append((Difference(-gap.value, -gap.high, -gap.low, gap.p), n))
    return out


def _table(order: Sequence[Entry], ranks: Mapping[str, int], metrics: Sequence[str]) -> pd.DataFrame:
    rows = []
    for e in order:
        result = e.files.result
        row: dict[str, Any] = {
            "rank": ranks.get(e.label), "variant": e.label, "run": e.run.folder.name,
            "loss": result.loss if result else None, "seed": result.seed if result else None,
        }  # fmt: skip
        for m in metrics:
            mine: Any = e.long.loc[m] if m in e.long.index else {}
            row |= {m: mine.get("value"), f"{m}_low": mine.get("low"), f"{m}_high": mine.get("high")}
            row[f"{m}_n"] = mine.get("n")
        rows.append(row)
    made = pd.DataFrame(rows)
    numbers = [c for c in made.columns if c not in ("rank", "variant", "run", "loss", "seed")]
    return made.astype({"rank": "Int64", "seed": "Int64"} | dict.fromkeys(numbers, "float64"))


def lead(order: Sequence[Entry], ranks: Mapping[str, int], by: str) -> list[str]:
    """Who leads, whether that is more than the base's half, and who cannot be told from the leader."""
    mine = [e for e in order if e.label in ranks]
    if not mine:
        return []
    best, rest = mine[0], [e.label for e in mine[1:]]
    halved = by in HALVED
    if order[0].is_base or (halved and best.value(by) < HALF):
        return [f"No variant is above the base by {by}; {best.label} is the best."]
    said = f"{best.label} leads by {by}"
    if halved and float(best.long.loc[by, "low"]) <= HALF:  # type: ignore[arg-type]
        said += ", which cannot be told from one half"
    tied = [label for label in rest if ranks[label] == 1]
    if not tied:
        return [said + ("; it is separated from all others." if rest else ".")]
    more = f" and {len(tied) - MOST} more" if len(tied) > MOST else ""
    return [f"{said}; within noise of it: {', '.join(tied[:MOST])}{more}."]


def power(trained: Sequence[Entry], by: str) -> str:
    """What differences the prompts at hand cannot show; empty for what is no share."""
    units: dict[str, Values] = {e.label: e.units[by] for e in trained if by in e.units}
    return power_statement(units, "pairs" if by == "preference_accuracy" else "prompts") if by in SHARES else ""


def _notes(entries: Sequence[Entry], by: str, why: list[str], shown: Sequence[str]) -> list[str]:
    trained = [e for e in entries if not e.is_base]
    notes = [f"Not ranked by {by}: {'; '.join(why)}."] if why else []
    notes += [] if why else [power(trained, by)]
    apart = [m for m in shown if m != by and comparable.reasons(trained, m)]
    if apart:
        notes.append(f"Measured differently, so not compared between runs: {', '.join(apart)}.")
    if sum(e.is_base for e in entries) > 1:
        notes.append("The base answered differently in these runs: win rates are against different answers.")
    gone = [e.label for e in trained if e.files.measured is None]
    if gone:
        notes.append(f"Not measured yet: {', '.join(gone)}; the same prefzoo run goes on.")
    return [note for note in notes if note]
