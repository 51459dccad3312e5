"""The leaderboard of a run: a long table of measurements, ranks that are shared within noise, a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from prefzoo.evals.boards import cells
from prefzoo.evals.boards.costs import IN_BOARD, run_cost
from prefzoo.evals.boards.equivalence import Equivalence, equivalence
from prefzoo.evals.boards.provenance import Provenance, with_provenance
from prefzoo.evals.boards.ranking import HALF, WORSE, Ranking, ranked, standing
from prefzoo.evals.boards.remarks import by_length, collapsed, corrected
from prefzoo.evals.boards.verdict import (
    UNJUDGED,
    UNMEASURED,
    UNTRAINED,
    BoardVerdict,
    advice,
    decide,
    statistics,
)
from prefzoo.evals.metrics.benchmark_deltas import with_benchmarks
from prefzoo.evals.metrics.estimates import estimates
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import DELTA, Metric, Metrics, Noted
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import power_statement
from prefzoo.evals.stats.intervals import Estimate, Values
from prefzoo.runtime import atomic_files, run_folders
from prefzoo.runtime.run_folders import BASE, VERDICT

NOTE = "Brackets: 95% intervals over prompts or pairs. Equal ranks: within noise."
WORSE_NOTE = f"{WORSE}: worse than the base, by its whole interval."
DELTA_NOTE = "Differences from the base on benchmarks ({DELTA}): by document, {units}, p after Holm."
BRIEF = ("rank", "variant", "win_rate", "win_rate_lc", "preference_accuracy", "train_seconds")  # for 80 columns
UNKNOWN = Provenance()
ESTIMATE = [f.name for f in fields(Estimate)]
COLUMNS = ["variant", "metric", *ESTIMATE, "higher_is_better", "note"]


@dataclass(frozen=True)
class Leaderboard:
    """The results of a run.

    Attributes:
        long: table of all numbers, a row per variant and metric.
        order: names of the variants and of the base, best first.
        ranking: ranking of the variants by the primary metric; differences are paired by prompt.
        primary: name of the metric that ranks.
        metrics: metrics of the rows, by name.
        power: sentence about the differences that are too small for the number of prompts.
        more: further tables, in Markdown.
        failed: why training failed, by the name of each variant that was not trained to its end.
        advice: sentence about the prompts and seeds that would settle a tie.
        cautions: what a reader must know about the run, a sentence each.
        faults: reason for each metric that could not be measured, by the metric's name.
        equivalence: tests of which variants are equal within a margin; None if the recipe asks for none.
        only_benchmarks: whether the numbers are benchmarks that another tool measured; these rank nothing.
    """

    long: pd.DataFrame
    order: list[str]
    ranking: Ranking
    primary: str
    metrics: Metrics = field(default_factory=Metrics)
    power: str = ""
    more: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    advice: str = ""
    cautions: tuple[str, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)
    equivalence: Equivalence | None = None
    only_benchmarks: bool = False

    @property
    def ranks(self) -> Mapping[str, int]:
        """Rank of each variant and of the base; ranks are equal within noise."""
        return self.ranking.ranks

    def wide(self) -> pd.DataFrame:
        """Return one row per variant, best first: results, benchmarks and costs, with intervals."""
        return self._cells([m for m in self._names() if not self.metrics[m].diagnostic])

    def diagnostics(self) -> pd.DataFrame:
        """Return one row per variant, best first: the diagnostic metrics, with intervals."""
        return self._cells([m for m in self._names() if self.metrics[m].diagnostic])

    def _names(self) -> list[str]:
        return self.metrics.in_order(self.long.metric)

    def _cells(self, metrics: list[str]) -> pd.DataFrame:
        rows = []
        for name in self.order:
            mine = self.long[self.long.variant == name].set_index("metric")
            row: dict[str, Any] = {"rank": self.ranking.mark(name), "variant": name}
            for metric in metrics:
                about = self.metrics[metric]
                row[metric] = (
                    cells.cell(about, mine.loc[metric])
                    if metric in mine.index
                    else cells.absent(about, base=name == BASE)
                )
            rows.append(row)
        absent = dict.fromkeys(metrics, "-")
        rows += [{"rank": "failed", "variant": name, **absent} for name in self.failed]
        return pd.DataFrame(rows)

    def markdown(self) -> str:
        """Return the tables, the verdict and the notes."""
        verdict = "\n\n".join(self.verdict().lines)
        board = f"{verdict}\n\n{cells.markdown(self.wide())}\n{self.note} {self.power}".rstrip() + "\n"
        more = self.diagnostics()
        if len(more.columns) > len(("rank", "variant")):
            board += f"\n{cells.markdown(more)}\n{self._legend()}\n"
        return board + (f"\n{self.more.rstrip()}\n" if self.more else "")

    @property
    def note(self) -> str:
        """A note on how to read the tables."""
        return f"{NOTE} {WORSE_NOTE}" if self.ranking.having("worse") else NOTE

    def _legend(self) -> str:
        """Describe the columns of the diagnostics."""
        shown = [self.metrics[m] for m in self._names() if self.metrics[m].diagnostic]
        legend = "; ".join(f"{m.label}: {m.description}" for m in shown if m.description)
        units = dict.fromkeys(f"in {m.difference_unit}" for m in shown if m.name.endswith(DELTA))
        deltas = DELTA_NOTE.format(DELTA=DELTA, units=" or ".join(units)) if units else ""
        return " ".join(filter(None, [f"{legend[:1].upper()}{legend[1:]}." if legend else "", deltas]))

    def csv(self) -> str:
        """Return the long table as CSV."""
        return self.long.to_csv(index=False)

    def write(self, folder: Path) -> None:
        """Write `leaderboard.md`, `.csv` and `.parquet`, and `verdict.json`, in `folder`, created if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        run_folders.write_json(folder / VERDICT, self.as_json())
        run_folders.write_text(folder / "leaderboard.md", self.markdown())
        run_folders.write_text(folder / "leaderboard.csv", self.csv())
        with atomic_files.write_atomically(folder / "leaderboard.parquet") as partial:
            self.long.to_parquet(partial, index=False)

    def as_json(self) -> dict[str, Any]:
        """Return the content of `verdict.json`: the verdict's parts, and ranks and standings by variant."""
        ranking = {"metric": self.primary, "ranks": dict(self.ranks), "standings": dict(self.ranking.standings)}
        equal = {"equivalence": self.equivalence.as_json()} if self.equivalence else {}
        return {**self.verdict().as_json(), **ranking, "failed": self.failed, **equal}

    def render(self, console: Console) -> None:
        """Print the table, and the verdict last, where the user of a terminal looks first.

        Variants are the rows if the terminal is wide enough, else the columns. If it is too narrow for both, only the
        main columns are shown.
        """
        wide = self.wide().astype(str)
        flat = wide.set_index("variant").T.reset_index(names="").rename(columns=str)
        brief = wide[[c for c in BRIEF if c in wide.columns]]
        tables = [cells.table(one, self.note) for one in (wide, flat, brief)]
        boundless = console.options.update(max_width=10_000)
        fits = [t for t in tables if console.measure(t, options=boundless).maximum <= console.width]
        console.print(fits[0] if fits else tables[-1], markup=False)
        if not fits or fits[0] is tables[-1]:
            console.print("The terminal is too narrow for all columns: leaderboard.md has them.")
        verdict = self.verdict()
        for line in filter(None, (*verdict.lines, self.power)):
            style = "bold" if line == verdict.answer else None
            console.print(line, style=style, soft_wrap=True, markup=False, highlight=False)

    def verdict(self) -> BoardVerdict:
        """Return who wins, what would settle a tie, the numbers behind the decision, and the cautions."""
        if self.only_benchmarks:
            return BoardVerdict("", cautions=self.cautions)
        trained = [n for n in self.order if n != BASE]
        failed = [f"{name} failed ({why})." for name, why in self.failed.items()]
        faults = [f"The metric {name} could not be measured: {why}; fix it there." for name, why in self.faults.items()]
        if not trained or not self.ranking.order:
            if not self.failed and trained == self.order and len(trained) == 1:
                return BoardVerdict(
                    f"{trained[0]} is alone: there is no baseline to compare it with.", cautions=self.cautions
                )
            unjudged = "missing" in self.long and bool((self.long.missing > 0).any())
            decision = UNTRAINED if not trained else UNJUDGED if unjudged else UNMEASURED
            return BoardVerdict(" ".join([f"{decision}.", *failed]), cautions=(*faults, *self.cautions))
        best = self.long[(self.long.variant == self.ranking.order[0]) & (self.long.metric == self.primary)].iloc[0]
        lead = statistics(self.ranking, self.metrics[self.primary], best)
        labelled = corrected(self.long, self.metrics, self.ranking.order[0])
        numbers = [lead, *by_length(self.long, self.metrics, trained), *labelled]
        equal = self.equivalence.sentence if self.equivalence else ""
        advice = self.advice if len(self.ranking.tied) > 1 and not equal else ""  # `equal` advises on the user's margin
        cautions = (*collapsed(self.long, BASE, trained), *faults, *self.cautions)
        return BoardVerdict(" ".join([decide(self.ranking), *failed]), advice, " ".join(numbers), cautions, equal)


def build(
    models: Mapping[str, Measured], costs: Mapping[str, Mapping[str, float]], provenance: Provenance = UNKNOWN,
    more: str = "", points: float | None = None,
) -> Leaderboard:  # fmt: skip
    """Build the board of a run.

    Args:
        models: measurements of the base, under "base", and of every variant, all on the same prompts and pairs.
        costs: costs of training and measuring, by variant.
        provenance: origin of the run's numbers.
        more: further tables, in Markdown.
        points: margin of equality in percentage points; None to test no equality.

    Returns:
        The board, ranked by win rate if answers were judged or scored, else by accuracy on held-out pairs.
    """
    base, metrics = models.get(BASE), Metrics.of(models.values())
    primary = metrics[primary_of(models)]
    rows: list[dict[str, Any]] = []
    estimated, faults = estimates(models, BASE)
    for name, numbers in estimated.items():
        rows += [_row(name, metrics[metric], noted) for metric, noted in numbers.items()]
        for metric, key in IN_BOARD.items():
            if (value := costs.get(name, {}).get(key)) is not None:
                rows.append(_row(name, metrics[metric], Noted(Estimate(value, 0.0, value, value, 1))))
    values = {name: rows_of(primary, m, base) for name, m in models.items() if name != BASE}
    place = {name: _place(name, values.get(name)) for name in models}
    order = sorted(models, key=place.__getitem__)
    standings = {row["variant"]: standing(Estimate(**{k: row[k] for k in ESTIMATE}), HALF) for row in rows
                 if row["metric"] == primary.name and np.isfinite(row["value"])}  # fmt: skip
    ranked_names = [n for n in order if n != BASE and place[n] < np.inf]
    gaps = intervals.paired_differences(values)
    ranking = ranked(ranked_names, gaps, standings=standings, base=BASE if BASE in models else "")
    long = with_provenance(
        pd.DataFrame(rows, columns=COLUMNS).astype({"higher_is_better": object}), models, metrics, provenance
    )
    long = with_benchmarks(long, models, BASE)
    cost = run_cost(costs, {name: name for name in values}, primary.row_name)
    one_seed = {name: values[name][None] for name in ranked_names}
    settle, equal = advice(one_seed, primary, cost), equivalence(one_seed, ranking, primary, points, cost=cost)
    power = power_statement(values, primary.row_name)
    return Leaderboard(
        long, order, ranking, primary.name, metrics, power, more, advice=settle, faults=faults, equivalence=equal
    )


def primary_of(models: Mapping[str, Measured]) -> str:
    """Return the metric that ranks: the win rate if answers were judged or scored, else the preference accuracy.

    If all of the judge's verdicts are missing or withheld, the preference accuracy ranks where there are held-out
    pairs.
    """
    base, every = models.get(BASE), models.values()
    if any(m.preferences for m in every):
        withheld = all(preference is None for m in every for preference in m.preferences)
        return "preference_accuracy" if withheld and any(m.margins for m in every) else "win_rate"
    return "win_rate" if base is not None and base.scores else "preference_accuracy"


def rows_of(metric: Metric, measured: Measured, base: Measured | None) -> Values:
    """Return a model's rows of a metric.

    Args:
        metric: the metric.
        measured: measurements of the model.
        base: measurements of the baseline; None for the baseline itself.

    Returns:
        (n,) values; n = 0 if the model has none.
    """
    values = metric.values(measured, base)
    return np.array([]) if values is None else values


def _row(variant: str, metric: Metric, noted: Noted) -> dict[str, Any]:
    return {
        "variant": variant, "metric": metric.name, **vars(noted.estimate),
        "higher_is_better": metric.higher_is_better, "note": noted.note,
    }  # fmt: skip


def _place(name: str, primary: Values | None) -> float:
    """Return a key that sorts best first; the base counts one half, and models without a number come last."""
    value = HALF if name == BASE else intervals.mean(np.array([]) if primary is None else primary).value
    return -value if np.isfinite(value) else np.inf
