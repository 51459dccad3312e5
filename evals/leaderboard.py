"""One long table of measurements, and what may honestly be said about it: shared ranks, a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from evals import stats
from evals.measure import Measured
from evals.stats import Estimate, Values

BASE = "base"
ALPHA = 0.05
NOTE = "Brackets: 95% intervals over prompts or pairs. Equal ranks: within noise."
COLLAPSED = 0.5  # mean length under this share of the base's is called out
HIGHER = {"win_rate": True, "preference_accuracy": True, "preference_margin": True, "score": True}


@dataclass(frozen=True)
class Leaderboard:
    """`long`: a row per variant and metric; `ranked`: best first with shared ranks; `separable`: Holm-corrected p."""

    long: pd.DataFrame
    order: list[str]
    ranks: dict[str, int]
    p: dict[tuple[str, str], float]
    primary: str

    def wide(self) -> pd.DataFrame:
        """One row per variant, best first; every number with its interval."""
        rows = []
        for name in self.order:
            mine = self.long[self.long.variant == name].set_index("metric")
            row: dict[str, Any] = {"rank": self.ranks.get(name, ""), "variant": name}
            for metric in dict.fromkeys(self.long.metric):
                row[metric] = _cell(metric, mine.loc[metric]) if metric in mine.index else "-"
            rows.append(row)
        return pd.DataFrame(rows)

    def markdown(self) -> str:
        """The table and the verdict."""
        table = self.wide().astype(str)
        head = "| " + " | ".join(table.columns) + " |\n|" + "---|" * len(table.columns) + "\n"
        body = "".join("| " + " | ".join(row) + " |\n" for row in table.itertuples(index=False))
        return f"{head}{body}\n{self.verdict()}\n\n{NOTE}\n"

    def verdict(self) -> str:
        """Who leads, by how much, and whether that can be told from the rest; and whether answers collapsed."""
        trained = [n for n in self.order if n != BASE]
        best = trained[0]
        lead = self.long[(self.long.variant == best) & (self.long.metric == self.primary)].iloc[0]
        what = "win rate against the base" if self.primary == "win_rate" else "accuracy on held-out pairs"
        said = f"{best} leads with a {what} of {_percent(lead)}"
        if lead.low <= 0.5 <= lead.high:  # noqa: PLR2004 - one half is no better than the base
            said += ", which cannot be told from one half"
        tied = [n for n in trained[1:] if self.p[_pair(best, n)] > ALPHA]
        if tied:
            said += "; it cannot be separated from " + ", ".join(
                f"{n} (p = {self.p[_pair(best, n)]:.2f})" for n in tied
            )
        elif len(trained) > 1:
            said += "; it is separated from all others (Holm-corrected p < 0.05)"
        return ". ".join([said, *self._collapsed(trained)]) + "."

    def _collapsed(self, trained: list[str]) -> list[str]:
        length = self.long[self.long.metric == "words"].set_index("variant").value
        if BASE not in length.index:
            return []
        short = [n for n in trained if length[n] < COLLAPSED * length[BASE]]
        return [f"Beware: answers of {', '.join(short)} are less than half as long as the base's"] if short else []


def build(found: dict[str, Measured], costs: dict[str, dict[str, float]]) -> Leaderboard:
    """The board of a run; `found` holds the base under "base" and every variant, on the same prompts and pairs."""
    rows: list[dict[str, Any]] = []
    base = found.get(BASE)
    primary: dict[str, Values] = {}
    for name, m in found.items():
        measures = _estimates(name, m, base)
        primary[name] = measures.pop("")
        rows += [
            {"variant": name, "metric": k, **vars(e), "higher_is_better": HIGHER.get(k)} for k, e in measures.items()
        ]
        if name in costs:
            rows.append(_cost(name, costs[name]["seconds"]))
    trained = [n for n in found if n != BASE]
    metric = "win_rate" if base is not None and base.scores else "preference_accuracy"
    pairs = list(combinations(trained, 2))
    p = dict(
        zip(
            map(lambda x: _pair(*x), pairs),
            stats.holm([stats.paired_p(primary[a], primary[b]) for a, b in pairs]),
            strict=True,
        )
    )
    order = sorted(found, key=lambda n: -float(primary[n].mean()))
    return Leaderboard(pd.DataFrame(rows), order, _ranks([n for n in order if n != BASE], p), p, metric)


def _estimates(name: str, m: Measured, base: Measured | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    margins = np.array(m.margins)
    right = 0.5 + 0.5 * np.sign(margins)
    out[""] = right
    if m.scores and base is not None:
        out[""] = stats.wins(np.array(m.scores), np.array(base.scores))
        if name != BASE:
            out["win_rate"] = stats.mean(out[""])
        out["score"] = stats.mean(np.array(m.scores))
    if len(margins) and name != BASE:
        out["preference_accuracy"] = stats.mean(right)
        out["preference_margin"] = stats.mean(margins)
    if m.words:
        out["words"] = stats.mean(np.array(m.words, dtype=float))
        out["repetition"] = stats.mean(np.array(m.repetition))
        out["finished"] = stats.proportion(sum(m.finished), len(m.finished))
    for suite, r in m.benchmarks.items():
        out[suite] = stats.proportion(round(r["value"] * r["n"]), int(r["n"]))
    return out


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
    if metric == "train_seconds":
        return f"{row.value:.0f}"
    if metric in ("words", "preference_margin"):
        return f"{row.value:.1f} [{row.low:.1f}, {row.high:.1f}]"
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]"
