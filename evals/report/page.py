"""Write `report.html`, one file that fetches nothing. The template escapes every text from models and data."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from prefzoo.data.audits.findings import example_words, findings_of
from prefzoo.evals.boards.judged_files import metrics_of
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.run_files import RunFiles, VariantFiles
from prefzoo.evals.boards.verdict import BoardVerdict
from prefzoo.evals.metrics.registry import Metric, Metrics
from prefzoo.evals.report import (
    benchmarks,
    curves,
    facts,
    frontier,
    glossary,
    matches,
    numbers,
    parts,
    prompts,
    sources,
)  # fmt: skip
from prefzoo.evals.report.canvas import swatch
from prefzoo.evals.report.embed import script_json
from prefzoo.evals.report.figures import loss_of, order_of, ranking, series_of
from prefzoo.runtime import run_folders
from prefzoo.runtime.run_folders import BASE
from prefzoo.version import __version__

FILE = "report.html"
MOST = 5_000_000  # bytes of a page
SHOWN = 16  # most rows of the first chart
NOTHING_YET = "Nothing was measured yet: no variant can be ranked."


@dataclass(frozen=True)
class _Column:
    """A column of the leaderboard. The `main` columns are shown unless the reader chooses others."""

    name: str
    label: str
    tooltip: str
    main: bool

    @classmethod
    def of(cls, metric: Metric) -> _Column:
        return cls(metric.name, metric.title, glossary.definition(metric).tooltip, not metric.diagnostic)


def write(run: RunFiles, out: Path) -> None:
    """Write the page of a run to `out` atomically."""
    run_folders.write_text(out, page(run))


def page(run: RunFiles, *, live: bool = False) -> str:
    """Return the page of a run, as HTML. A `live` page reloads whenever a file of the run changes on its server."""
    board = numbers.board_of(run)
    order = order_of(run, board)
    series = series_of(run, order)
    long = numbers.long_of(run, board)
    answers = prompts.browser(run, order)
    script = parts.part("page.js") + (parts.part("page.live.js") if live else "")
    metrics = metrics_of([run])
    return _environment(metrics).get_template("page.html.j2").render(
        name=run.name, live=live, recipe=run.recipe, version=__version__, base=BASE,
        style=Markup(parts.part("page.css")), script=Markup(script),
        hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_summary(run, board), **_ranked(run, board, long, order, metrics), **_pictures(run, board, long, order),
        legend=[(n, swatch(i)) for n, i in [*series.items(), (BASE, None)] if n in run.variants],
        answers=answers, answers_json=script_json(answers), **_origin(run),
    )  # fmt: skip


def _environment(metrics: Metrics) -> jinja2.Environment:
    environment = parts.environment()
    environment.filters["metric"] = lambda name: metrics[name].title
    return environment


def _summary(run: RunFiles, board: Leaderboard | None) -> dict[str, Any]:
    """Return the verdict, the difference that the run can detect, the unfinished variants and the run's facts."""
    measured = [v.measured for v in run.variants.values() if v.measured is not None]
    n_prompts, n_pairs = (max((len(getattr(m, part)) for m in measured), default=0) for part in ("answers", "margins"))
    held_out = f"{n_pairs} held-out pairs" if n_pairs else "no held-out pairs"
    on = f"{n_prompts} prompts, {held_out}" if n_prompts else held_out
    return {
        "verdict": board.verdict() if board is not None else BoardVerdict(NOTHING_YET),
        "power": board.power if board is not None else "",
        "unfinished": [name for name in run.unfinished if name not in run.failed],
        "facts": facts.facts(run, on, _judge(run)),
    }


def _judge(run: RunFiles) -> str:
    first = next((v.annotations[0] for v in run.variants.values() if v.annotations), {})
    return str(first.get("annotator", ""))


def _ranked(
    run: RunFiles, board: Leaderboard | None, long: pd.DataFrame, order: list[str], metrics: Metrics
) -> dict[str, Any]:
    """Return the leaderboard's rows and columns, the definitions of the columns, and the chart of the ranking."""
    primary = board.primary if board is not None else ""
    columns = numbers.columns_of(long, metrics)
    series = series_of(run, order)
    rows = [
        {
            "variant": name,
            "rank": board.ranks.get(name) if board is not None else None,
            "standing": board.ranking.standings.get(name) if board is not None else None,
            "loss": loss_of(run, name),
            "cells": numbers.cells(long, name, metrics),
            "swatch": swatch(series.get(name)),
        }
        for name in order
    ]
    ranked = [row["variant"] for row in rows if row["rank"] is not None]  # without the single seeds of variants
    charted = {name: i for name, i in series.items() if name in ranked} or series
    return {
        "rows": rows, "primary": primary, "columns": [_Column.of(metrics[name]) for name in columns],
        "glossary": glossary.glossary(columns, metrics), "lead": ranking(long, charted, primary, SHOWN),
        "best": SHOWN if len(charted) > SHOWN else None,
    }  # fmt: skip


def _pictures(run: RunFiles, board: Leaderboard | None, long: pd.DataFrame, order: list[str]) -> dict[str, Any]:
    """Return all charts, and the tables and texts next to them."""
    series = series_of(run, order)
    played = matches.round_robin_of(run)
    round_robin = matches.in_order(played, order) if played else None
    ranks = {name: board.ranking.mark(name) or "–" for name in order} if board is not None else {}
    held_out = _held_out_displacement(long)
    losses = {n: curves.displaced(run.variants[n], held_out.get(n)) for n in series if n in run.variants}
    return {
        "round_robin": round_robin,
        "matches": matches.matches(round_robin, ranks) if round_robin else [],
        "equivalence": matches.equal(board.equivalence if board is not None else None),
        "by_length": matches.by_length(long, series),
        "lengths": matches.lengths(long, order),
        "frontier": frontier.frontier(run, series),
        "along": frontier.along(run, series),
        "frontier_note": frontier.explanation(run, long),
        "curves": curves.curves(run, series),
        "displaced": {text: [n for n in losses if losses[n] == text] for text in losses.values() if text},
        "displacement_unknown": [n for n, text in losses.items() if text is None],
        "deltas": benchmarks.deltas(run, long, series),
    }


def _held_out_displacement(long: pd.DataFrame) -> dict[str, float]:
    """Return each variant's mean change of the chosen answers' log-probs on held-out pairs, in nats per token."""
    if long.empty:
        return {}
    mine = long[(long.metric == "chosen_displacement") & long.value.notna()]
    return {str(r["variant"]): float(r["value"]) for r in mine.to_dict("records")}


def _origin(run: RunFiles) -> dict[str, Any]:
    """Return costs, data, recipe, versions and hardware."""
    results = {n: v.result for n, v in run.variants.items() if v.result is not None}
    columns = list(dict.fromkeys(k for r in results.values() for k in r.costs))
    return {
        "cost_columns": columns,
        "costs": {n: [_cost(v, k) for k in columns] for n, v in run.variants.items() if v.result is not None},
        "audits": run.audits,
        "dropped": run.recipe["data"].get("drop", []),
        "odd": [(use, one, example_words(one)) for use, audit in run.audits.items() for one in findings_of(audit)],
        "sources": sources.of_audits(run),
        "by_source": sources.trained(run),
        "environments": facts.environments(run),
        "resolved": yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True),
    }


def _cost(variant: VariantFiles, name: str) -> tuple[float | None, str]:
    value = variant.result.costs.get(name) if variant.result is not None else None
    return (None, "–") if value is None else (float(value), numbers.cost(name, float(value)))
