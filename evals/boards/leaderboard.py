"""One long table of measurements, and what may honestly be said about it: shared ranks, a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from prefzoo.evals.boards.length_controlled import controlled, estimate, says
from prefzoo.evals.boards.provenance import JUDGED, Receipts, with_receipts
from prefzoo.evals.metrics.benchmark_deltas import DELTA, with_benchmarks
from prefzoo.evals.metrics.estimates import DIAGNOSTICS, HIGHER, PLAIN, UNITS, estimates, outcomes
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import power_statement
from prefzoo.evals.stats.intervals import Difference, Estimate, Values
from prefzoo.runtime import atomic_files, run_folders

BASE = "base"
ALPHA = 0.05
NOTE = "Brackets: 95% intervals over prompts or pairs. Equal ranks: within noise."
COLLAPSED = 0.5  # mean length under this share of the base's is called out
REPEATS = 0.2  # repetition this much above the base's is called out
ORDER = ("win_rate", "win_rate_lc", "score", "preference_accuracy", "words")
BRIEF = ("rank", "variant", "win_rate", "win_rate_lc", "preference_accuracy", "train_seconds")  # for 80 columns
MOST = 5  # ties that the verdict spells out
HALF = 0.5  # the base against itself
NONE = Receipts()


@dataclass(frozen=True)
class Leaderboard:
    """What a run found.

    `long`: a row per variant and metric; `order`: best first; `ranks`: shared within noise; `differences`: of the
    primary metric, per pair of variants in alphabetical order, paired by prompt; `p`: theirs, corrected after Holm;
    `power`: what differences the prompts at hand cannot show; `more`: further tables, in
    Markdown; `failed`: why the variants that were not trained to their end were not.
    """

    long: pd.DataFrame
    order: list[str]
    ranks: dict[str, int]
    p: dict[tuple[str, str], float]
    primary: str
    differences: dict[tuple[str, str], Difference]
    power: str = ""
    more: str = ""
    failed: dict[str, str] = field(default_factory=dict)

    def wide(self) -> pd.DataFrame:
        """One row per variant, best first: what ranks, the benchmarks and the cost, with intervals."""
        return self._cells([m for m in _in_order(self.long.metric) if m not in DIAGNOSTICS and DELTA not in m])

    def diagnostics(self) -> pd.DataFrame:
        """One row per variant, best first: what says how a variant came by its rank."""
        found = list(dict.fromkeys(self.long.metric))
        return self._cells([m for m in DIAGNOSTICS if m in found] + [m for m in found if m.endswith(DELTA)])

    def _cells(self, metrics: list[str]) -> pd.DataFrame:
        rows = []
        for name in self.order:
            mine = self.long[self.long.variant == name].set_index("metric")
            row: dict[str, Any] = {"rank": self.ranks.get(name, ""), "variant": name}
            for metric in metrics:
                row[metric] = _cell(metric, mine.loc[metric]) if metric in mine.index else "-"
            rows.append(row)
        absent = dict.fromkeys(metrics, "-")
        rows += [{"rank": "failed", "variant": name, **absent} for name in self.failed]
        return pd.DataFrame(rows)

    def markdown(self) -> str:
        """The table and the verdict."""
        board = f"{_markdown(self.wide())}\n{self.verdict()}\n\n{NOTE} {self.power}".rstrip() + "\n"
        more = self.diagnostics()
        if len(more.columns) > len(("rank", "variant")):
            board += f"\n{_markdown(more)}\n{UNITS}\n"
        return board + (f"\n{self.more.rstrip()}\n" if self.more else "")

    def csv(self) -> str:
        """The long table."""
        return self.long.to_csv(index=False)

    def write(self, folder: Path) -> None:
        """`leaderboard.md`, `.csv` and `.parquet` in `folder`, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        run_folders.write_text(folder / "leaderboard.md", self.markdown())
        run_folders.write_text(folder / "leaderboard.csv", self.csv())
        with atomic_files.write_atomically(folder / "leaderboard.parquet") as partial:
            self.long.to_parquet(partial, index=False)

    def render(self, console: Console) -> None:
        """The table and the verdict on a terminal: variants as rows, else as columns, else what matters most."""
        wide = self.wide().astype(str)
        flat = wide.set_index("variant").T.reset_index(names="").rename(columns=str)
        tables = [_table(wide), _table(flat), _table(wide[[c for c in BRIEF if c in wide.columns]])]
        boundless = console.options.update(max_width=10_000)
        fits = [t for t in tables if console.measure(t, options=boundless).maximum <= console.width]
        console.print(fits[0] if fits else tables[-1], markup=False)
        if not fits or fits[0] is tables[-1]:
            console.print("The terminal is too narrow for all columns: leaderboard.md has them.")
        console.print(self.verdict(), soft_wrap=True, markup=False)
        if self.power:
            console.print(self.power, soft_wrap=True, markup=False)

    def verdict(self) -> str:
        """Who leads, by how much, and whether that can be told from the rest; and whether answers collapsed."""
        trained = [n for n in self.order if n != BASE]
        failed = [f"{name} failed ({why})" for name, why in self.failed.items()]
        if not trained:
            return ". ".join(["No variant was trained to its end", *failed]) + "."
        found = self.long[(self.long.variant == trained[0]) & (self.long.metric == self.primary)]
        if found.empty or not np.isfinite(found.iloc[0].value):
            said = "No variant can be ranked: nothing was measured on held-out prompts or pairs"
        else:
            said = self._lead(trained, found.iloc[0])
        return ". ".join([said, *self._by_length(trained), *self._collapsed(trained), *failed]) + "."

    def _by_length(self, trained: list[str]) -> list[str]:
        """Whether another leads once the length of answers counts for nothing."""
        rates = self.long[(self.long.metric == "win_rate_lc") & self.long.variant.isin(trained)]
        rates = rates.set_index("variant").dropna(subset="value")
        if trained[0] not in rates.index or rates.value.max() == rates.value[trained[0]]:
            return []
        first = str(rates.value.idxmax())
        rate, lead = (_percent(rates.loc[name]) for name in (first, trained[0]))
        return [f"By the length-controlled win rate {first} leads with {rate}, and {trained[0]} has {lead}"]

    def _lead(self, trained: list[str], lead: Any) -> str:
        best = trained[0]
        what = "a win rate against the base" if self.primary == "win_rate" else "an accuracy on held-out pairs"
        if lead.high < HALF:
            return f"No variant beats the base: {best}, the best, has {what} of {_percent(lead)}"
        said = f"{best} leads with {what} of {_percent(lead)}"
        if lead.low <= HALF:
            said += ", which cannot be told from one half"
        tied = [n for n in trained[1:] if self.p[_pair(best, n)] > ALPHA]
        if tied:
            more = f" and {len(tied) - MOST} more" if len(tied) > MOST else ""
            return f"{said}; it cannot be separated from {', '.join(self._tie(best, n) for n in tied[:MOST])}{more}"
        return f"{said}; it is separated from all others (Holm-corrected p < 0.05)" if len(trained) > 1 else said

    def _tie(self, best: str, other: str) -> str:
        pair = _pair(best, other)
        points = 100 * self.differences[pair].value * (1 if pair[0] == best else -1)
        return f"{other} (paired difference {points:+.1f} points, p = {self.p[pair]:.2f})"

    def _collapsed(self, trained: list[str]) -> list[str]:
        length, repeated = (
            self.long[self.long.metric == metric].set_index("variant").value for metric in ("words", "repetition")
        )
        if BASE not in length.index:
            return []
        short = [n for n in trained if length.get(n, np.nan) < COLLAPSED * length[BASE]]
        stuck = [n for n in trained if repeated.get(n, np.nan) > repeated.get(BASE, np.nan) + REPEATS]
        said = [f"Beware: answers of {', '.join(short)} are less than half as long as the base's"] if short else []
        return said + ([f"Beware: answers of {', '.join(stuck)} repeat themselves"] if stuck else [])


def build(
    found: dict[str, Measured], costs: dict[str, dict[str, float]], receipts: Receipts = NONE, more: str = ""
) -> Leaderboard:
    """The board of a run; `found` holds the base under "base" and every variant, on the same prompts and pairs."""
    rows: list[dict[str, Any]] = []
    base = found.get(BASE)
    primary: dict[str, Values] = {}
    lc = controlled(found, BASE)
    for name, m in found.items():
        measures = estimates(m, base if name != BASE else None)
        primary[name] = outcomes(m, base)
        if name in lc:
            measures["win_rate_lc"] = estimate(lc[name], measures["win_rate"].n)
        rows += [
            {"variant": name, "metric": k, **vars(e), "higher_is_better": HIGHER.get(k), **_judge(m, k)}
            for k, e in measures.items()
        ]
        if name in costs:
            rows.append(_cost(name, costs[name]["seconds"]))
    trained = [n for n in found if n != BASE]
    judged = any(m.preferences for m in found.values()) or (base is not None and base.scores)
    metric = "win_rate" if judged else "preference_accuracy"
    differences = intervals.paired_differences({name: primary[name] for name in trained})
    p = dict(zip(differences, intervals.holm([d.p for d in differences.values()]), strict=True))
    place = {n: _place(n, primary[n]) for n in found}
    order = sorted(found, key=place.__getitem__)
    ranks = _ranks([n for n in order if n != BASE and place[n] < np.inf], p)
    power = power_statement({n: primary[n] for n in trained}, "prompts" if metric == "win_rate" else "pairs")
    long = with_receipts(pd.DataFrame(rows), found, receipts, {n: says(c) for n, c in lc.items()})
    long = with_benchmarks(long, found, BASE)
    return Leaderboard(long, order, ranks, p, metric, differences, power, more)


def _table(cells: pd.DataFrame) -> Table:
    """Intervals stand on a line of their own; nothing is cut off."""
    table = Table(title="Leaderboard", caption=NOTE)
    for column in cells.columns:
        table.add_column(str(column).replace("_", "\n"), no_wrap=True)
    for row in cells.itertuples(index=False):
        table.add_row(*(str(cell).replace(" [", "\n[") for cell in row))
    return table


def _markdown(cells: pd.DataFrame) -> str:
    table = cells.astype(str)
    head = "| " + " | ".join(table.columns) + " |\n|" + "---|" * len(table.columns) + "\n"
    return head + "".join("| " + " | ".join(row) + " |\n" for row in table.itertuples(index=False))


def _in_order(metrics: Any) -> list[str]:
    """What ranks first, then what warns of a collapse, the benchmarks, and the cost."""
    found = list(dict.fromkeys(metrics))
    place = {m: i for i, m in enumerate(ORDER)}
    last = len(ORDER)
    return sorted(found, key=lambda m: last + 1 if m == "train_seconds" else place.get(m, last))


def _place(name: str, primary: Values) -> float:
    """Sorts best first; the base is worth one half, and what could not be measured comes last."""
    value = HALF if name == BASE else intervals.mean(primary).value
    return -value if np.isfinite(value) else np.inf


def _judge(m: Measured, metric: str) -> dict[str, str]:
    """Who judged a number; empty for what no judge has a part in."""
    return {"judge": m.judge, "prompt_hash": m.prompt_hash} if metric in JUDGED else {}


def _cost(name: str, seconds: float) -> dict[str, Any]:
    return {
        "variant": name,
        "metric": "train_seconds",
        **vars(Estimate(seconds, 0.0, seconds, seconds, 1)),
        "higher_is_better": False,
    }


def _pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def _ranks(order: list[str], p: dict[tuple[str, str], float]) -> dict[str, int]:
    """1 + the number of variants that are better and can be told apart."""
    return {n: 1 + sum(p[_pair(n, better)] <= ALPHA for better in order[:i]) for i, n in enumerate(order)}


def _percent(row: Any) -> str:
    return f"{100 * row.value:.1f}% ({100 * row.low:.1f} to {100 * row.high:.1f})"


def _cell(metric: str, row: Any) -> str:
    if not np.isfinite(row.value):
        return "-"
    if metric == "train_seconds":
        return f"{row.value:.0f}"
    shown = metric.removesuffix(DELTA)
    if shown in PLAIN or abs(row.value) > 1:  # no share
        digits = PLAIN.get(shown, 3)
        return f"{row.value:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]{_p_of(row)}"
    if metric.endswith(DELTA):
        return f"{100 * row.value:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]{_p_of(row)}"
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _p_of(row: Any) -> str:
    return f" p = {row.p:.3f}" if np.isfinite(row.p) else ""
