"""Write a comparison for a terminal, or as Markdown, HTML, CSV, JSON or Parquet."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from prefzoo.evals.boards.cells import number
from prefzoo.evals.boards.comparison import RunComparison
from prefzoo.evals.boards.notebook import paragraphs
from prefzoo.evals.boards.ranking import ALPHA, WORSE
from prefzoo.evals.boards.verdict import SURE, signed
from prefzoo.evals.metrics.registry import Metric

FORMATS = ("table", "md", "csv", "json", "html", "parquet")
SMALL = 0.001
GIB, MILLION = 2**30, 1e6
MARKS = str.maketrans({"|": "\\|", "\\": "\\\\", "`": "\\`", "\n": " ", "\r": " "})
CELL, VARIANT = 21, 24  # width in characters of a number with its interval, and largest width of a name
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color:#222;background:#fff}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2rem .6rem;text-align:left}.wide{overflow-x:auto}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}"
)


def difference(metric: Metric, value: float, p: float) -> str:
    """Format a difference with its p.

    Args:
        metric: metric of the difference.
        value: the difference; shown in percentage points for shares.
        p: corrected p.

    Returns:
        Text like `+16.5 p=.002 *`, with a star if p is at most 0.05; `same` for a difference of exactly zero.
    """
    if value == 0:
        return "same"
    small = "p<.001" if p < SMALL else "p>.99" if p >= SURE else f"p={p:.3f}".replace("=0.", "=.")
    return f"{signed(metric, value)} {small}" + (" *" if p <= ALPHA else "")


def cost(name: str, value: Any) -> str:
    """Format a cost in a readable unit; a dash if it is missing."""
    if pd.isna(value):
        return "-"
    if name == "hardware":
        return str(value)
    if name.endswith("_bytes"):
        return f"{value / GIB:.1f} GiB"
    if name.endswith("parameters"):
        return f"{value / MILLION:.1f} M"
    digits = {"seconds": 0, "joules": 0, "dollars": 3}.get(name, 2)
    return f"{value:.{digits}f}"


COSTS = {
    "pairs_per_second": "pairs/s", "peak_memory_bytes": "peak memory", "trained_parameters": "trained",
    "joules": "energy, J", "dollars": "cost, $",
}  # fmt: skip


def footer(comparison: RunComparison) -> list[str]:
    """Return the lines below the tables: the numbers behind the verdict, cautions, how to read the tables, notes."""
    lines = ["Brackets: 95% intervals over prompts, pairs or documents."]
    if _has_seeds(comparison):
        lines[0] = "Brackets: 95% intervals over seeds together with prompts, pairs or documents."
    if comparison.by:
        lines[0] += f" Ranked by {comparison.by}; equal ranks: within noise." if _has_ranks(comparison) else ""
        lines[0] += "" if _has_ranks(comparison) else f" Sorted by {comparison.by}."
    if len(comparison.differences):
        lines.append(
            f"After a number: its difference from {comparison.baseline}, paired if both were measured on the same "
            "rows, and its p, after Holm over the variants of the metric; *: p <= 0.05."
        )
    alone = comparison.differences[~comparison.differences.paired.astype(bool)].metric.unique()
    if len(alone):
        lines.append(f"Not paired, so with wider intervals (no values are stored row by row): {', '.join(alone)}.")
    if (comparison.table.against_base == "worse").any():
        lines.append(f"{WORSE}: worse than the base, by its whole interval.")
    return [*filter(None, (comparison.verdict.statistics, *comparison.verdict.cautions)), *lines, *comparison.notes]


def _has_ranks(comparison: RunComparison) -> bool:
    return bool(comparison.table["rank"].notna().any())


def render(comparison: RunComparison, console: Console) -> None:
    """Print tables that fit the terminal, with as many metrics side by side as fit and the others in tables below."""
    room = max(len(v) for v in comparison.table.variant)
    names = max(len("variant"), min(room, VARIANT))
    ranked = _has_ranks(comparison)
    beside = (10 if ranked else 4) + (8 if _has_seeds(comparison) else 0)
    each = max(1, (console.width - names - beside) // (CELL + 3))
    for start in range(0, len(comparison.metrics), each):
        console.print(_numbers(comparison, comparison.metrics[start : start + each], names, ranked=ranked))
    console.print(_cost_table(comparison, names))
    if len(comparison.recipes.columns) > 1:
        console.print("Differences between the recipes", style="bold")
        for row in comparison.recipes.to_dict("records"):
            name = row.pop("variant")
            settings = Text(f"{name}: " + ", ".join(f"{k}={v}" for k, v in row.items() if v is not None))
            console.print(Padding(settings, (0, 0, 0, 2)), highlight=False)
    console.print()
    if comparison.verdict.answer:
        console.print(comparison.verdict.answer, style="bold", markup=False, highlight=False)
    for line in footer(comparison):
        console.print(line, markup=False, highlight=False)


def _numbers(comparison: RunComparison, metrics: tuple[str, ...], names: int, *, ranked: bool) -> Table:
    table = Table(show_lines=False)
    if ranked:
        table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("variant", min_width=names, max_width=names, overflow="fold")
    several = _has_seeds(comparison)
    if several:
        table.add_column("seeds", justify="right", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, min_width=min(CELL, 10), overflow="fold")
    gaps = _differences(comparison)
    for row in comparison.table.to_dict("records"):
        cells = []
        for metric in metrics:
            about = comparison.about[metric]
            cell = escape(number(about, row[metric], row[f"{metric}_low"], row[f"{metric}_high"]))
            gap = gaps.get((row["variant"], metric))
            if gap is not None and cell != "-":
                colour = "dim" if gap[1] > ALPHA else "bold"
                cell += f"\n[{colour}]{escape(difference(about, *gap))}[/{colour}]"
            cells.append(cell)
        rank = [_rank(row)] if ranked else []
        seeds = [_seeds(row)] if several else []
        table.add_row(*rank, escape(row["variant"]), *seeds, *cells)
    return table


def _has_seeds(comparison: RunComparison) -> bool:
    return bool((comparison.table["seeds"].fillna(0) > 1).any())


def _seeds(row: Mapping[Any, Any]) -> str:
    return "" if pd.isna(row["seeds"]) else str(row["seeds"])


def _rank(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["rank"]):
        return ""
    return f"{row['rank']} {WORSE}" if row["against_base"] == "worse" else str(row["rank"])


def _differences(comparison: RunComparison) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the difference from the baseline and its corrected p, by variant and metric."""
    columns = [comparison.differences[c].tolist() for c in ("variant", "metric", "value", "p_holm")]
    return {(v, m): (d, p) for v, m, d, p in zip(*columns, strict=True)}


def _cost_table(comparison: RunComparison, names: int) -> Table:
    """Return the table of costs; if all variants have the same hardware, the title names it."""
    costs = comparison.costs
    same = costs.hardware.nunique(dropna=False) <= 1
    shown = [c for c in costs.columns if c != "variant" and not (same and c == "hardware")]
    caption = f"Training, on {costs.hardware.iloc[0]}" if same and len(costs) else "Training, on different hardware"
    table = Table(title=escape(caption), title_justify="left", title_style="bold")
    table.add_column("variant", min_width=names, max_width=names, overflow="fold")
    for name in shown:
        table.add_column(COSTS.get(name, name.replace("_", " ")), overflow="fold")
    for row in costs.to_dict("records"):
        table.add_row(escape(row["variant"]), *(escape(cost(name, row[name])) for name in shown))
    return table


def _sections(comparison: RunComparison) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tables as text cells, with their headings."""
    gaps = _differences(comparison)
    rows = []
    for row in comparison.table.to_dict("records"):
        cells = {"rank": _rank(row), "variant": row["variant"], "seeds": _seeds(row)}
        for m in comparison.metrics:
            gap, about = gaps.get((row["variant"], m)), comparison.about[m]
            more = f"; {difference(about, *gap)}" if gap is not None and pd.notna(row[m]) else ""
            cells[m] = number(about, row[m], row[f"{m}_low"], row[f"{m}_high"]) + more
        rows.append(cells)
    numbers = pd.DataFrame(rows)
    unused = {"rank": not _has_ranks(comparison), "seeds": not _has_seeds(comparison)}
    yield "Numbers", numbers.drop(columns=[column for column, drop in unused.items() if drop])
    costs = {c: [cost(c, v) if c != "variant" else v for v in comparison.costs[c]] for c in comparison.costs.columns}
    yield "Costs of training", pd.DataFrame(costs).rename(columns=COSTS)
    if len(comparison.recipes.columns) > 1:
        yield "Differences between the recipes", comparison.recipes.map(lambda v: "-" if v is None else str(v))


def _markdown(comparison: RunComparison) -> str:
    parts = []
    for title, cells in _sections(comparison):
        head = "| " + " | ".join(cells.columns) + " |\n|" + "---|" * len(cells.columns)
        body = ["| " + " | ".join(escaped(c) for c in row) + " |" for row in cells.itertuples(index=False)]
        parts.append("\n".join([f"## {title}", "", head, *body]))
    return "\n\n".join([*filter(None, [escaped(comparison.verdict.answer)]), *parts, *footer(comparison)]) + "\n"


def escaped(text: Any) -> str:
    """Escape text for a cell of a Markdown table, so that it has no markup and no HTML."""
    return html.escape(str(text), quote=False).translate(MARKS)


def _html(comparison: RunComparison) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>prefzoo compare</title><style>{STYLE}</style>",
        paragraphs(comparison.verdict.answer, ()),
    ]
    for title, cells in _sections(comparison):
        parts.append(f"<h2>{html.escape(title)}</h2><div class=wide>{cells.to_html(index=False, border=0)}</div>")
    return "\n".join([*parts, paragraphs("", footer(comparison))]) + "\n"


def _json(comparison: RunComparison) -> str:
    tables = {
        name: json.loads(getattr(comparison, name).to_json(orient="records"))
        for name in ("table", "differences", "recipes", "costs")
    }
    about: dict[str, Any] = {"ranked_by": comparison.by or None, "baseline": comparison.baseline}
    about = {"verdict": comparison.verdict.as_json()} | about
    about |= {"metrics": comparison.metrics, "notes": comparison.notes}
    about["equivalence"] = comparison.equivalence.as_json() if comparison.equivalence else None
    about["agreements"] = [asdict(one) for one in comparison.agreements]
    return json.dumps({**about, **tables}, indent=1, ensure_ascii=False) + "\n"


def text(comparison: RunComparison, form: str) -> str:
    """Return a comparison as `md`, `html` or `json`, or its table of all numbers as `csv`, a row per variant."""
    if form == "csv":
        return comparison.flat().to_csv(index=False)
    return {"md": _markdown, "html": _html, "json": _json}[form](comparison)


def write_parquet(comparison: RunComparison, path: Path) -> None:
    """Write the table of all numbers, a row per variant, as Parquet."""
    comparison.flat().to_parquet(path, index=False)
