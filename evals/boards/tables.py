"""A comparison as text: for a terminal, Markdown, HTML, CSV, JSON, Parquet."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from prefzoo.evals.boards.comparison import Comparison
from prefzoo.evals.boards.leaderboard import ALPHA
from prefzoo.evals.metrics.estimates import PLAIN

FORMATS = ("table", "md", "csv", "json", "html", "parquet")
SMALL = 0.001
GIB, MILLION = 2**30, 1e6
MARKS = str.maketrans({"|": "\\|", "\\": "\\\\", "`": "\\`", "\n": " ", "\r": " "})
CELL, VARIANT = 21, 24  # columns of a terminal that a number with its interval takes, and a name at most
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color:#222;background:#fff}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2rem .6rem;text-align:left}.wide{overflow-x:auto}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}"
)


def number(metric: str, value: Any, low: Any = None, high: Any = None) -> str:
    """`66.5% [58.5, 74.0]`, or in the metric's own unit; a dash for what was not measured."""
    if pd.isna(value):
        return "-"
    scale, unit, digits = _unit(metric, value)
    said = f"{scale * value:.{digits}f}{unit}"
    return said if pd.isna(low) else f"{said} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def difference(metric: str, value: float, p: float) -> str:
    """`+16.5 p=.002 *`: points of a hundred for shares; a star where p, corrected, is at most 0.05."""
    scale, _, digits = _unit(metric, value)
    small = "p<.001" if p < SMALL else f"p={p:.3f}".replace("=0.", "=.")
    return f"{scale * value:+.{digits}f} {small}" + (" *" if p <= ALPHA else "")


def _unit(metric: str, value: float) -> tuple[float, str, int]:
    of = metric.removesuffix("_delta")  # in the unit of what it is a difference of
    return (1, "", PLAIN[of]) if of in PLAIN else (100, "%", 1)


def cost(name: str, value: Any) -> str:
    """In a unit that is read at a glance."""
    if pd.isna(value):
        return "-"
    if name == "hardware":
        return str(value)
    if name.endswith("_bytes"):
        return f"{value / GIB:.1f} GiB"
    if name.endswith("parameters"):
        return f"{value / MILLION:.1f} M"
    return f"{value:.0f}" if name == "seconds" else f"{value:.2f}"


COSTS = {"pairs_per_second": "pairs/s", "peak_memory_bytes": "peak memory", "trained_parameters": "trained"}


def footer(found: Comparison) -> list[str]:
    """What the numbers mean, and how far they go."""
    lines = ["Brackets: 95% intervals over prompts, pairs or documents."]
    if found.by:
        lines[0] += f" Ranked by {found.by}; equal ranks: within noise." if _has_ranks(found) else ""
        lines[0] += "" if _has_ranks(found) else f" Sorted by {found.by}."
    if len(found.differences):
        lines.append(
            f"After a number: its difference from {found.baseline}, paired where the same prompts or pairs were seen, "
            "and p after Holm over the variants of a metric; *: p <= 0.05."
        )
    alone = found.differences[~found.differences.paired.astype(bool)].metric.unique()
    if len(alone):
        lines.append(f"Not paired, so cautious (nothing is kept document by document): {', '.join(alone)}.")
    return [*lines, *found.notes]


def _has_ranks(found: Comparison) -> bool:
    return bool(found.table["rank"].notna().any())


def render(found: Comparison, console: Console) -> None:
    """Tables that fit the terminal: as many metrics side by side as there is room for, the others below."""
    room = max(len(v) for v in found.table.variant)
    names = max(len("variant"), min(room, VARIANT))
    ranked = _has_ranks(found)
    each = max(1, (console.width - names - (10 if ranked else 4)) // (CELL + 3))
    for start in range(0, len(found.metrics), each):
        console.print(_numbers(found, found.metrics[start : start + each], names, ranked=ranked))
    console.print(_cost_table(found, names))
    if len(found.recipes.columns) > 1:
        console.print("What differs between the recipes", style="bold")
        for row in found.recipes.to_dict("records"):
            name = row.pop("variant")
            said = Text(f"{name}: " + ", ".join(f"{k}={v}" for k, v in row.items() if v is not None))
            console.print(Padding(said, (0, 0, 0, 2)), highlight=False)
    console.print()
    for line in footer(found):
        console.print(line, markup=False, highlight=False)


def _numbers(found: Comparison, metrics: tuple[str, ...], names: int, *, ranked: bool) -> Table:
    table = Table(show_lines=False)
    if ranked:
        table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("variant", min_width=names, max_width=names, overflow="fold")
    for metric in metrics:
        table.add_column(metric, min_width=min(CELL, 10), overflow="fold")
    told = _differences(found)
    for row in found.table.to_dict("records"):
        cells = []
        for metric in metrics:
            said = escape(number(metric, row[metric], row[f"{metric}_low"], row[f"{metric}_high"]))
            gap = told.get((row["variant"], metric))
            if gap is not None and said != "-":
                colour = "dim" if gap[1] > ALPHA else "bold"
                said += f"\n[{colour}]{escape(difference(metric, *gap))}[/{colour}]"
            cells.append(said)
        rank = [str(row["rank"]) if pd.notna(row["rank"]) else ""] if ranked else []
        table.add_row(*rank, escape(row["variant"]), *cells)
    return table


def _differences(found: Comparison) -> dict[tuple[str, str], tuple[float, float]]:
    """Variant and metric -> difference and corrected p."""
    columns = [found.differences[c].tolist() for c in ("variant", "metric", "value", "p_holm")]
    return {(v, m): (d, p) for v, m, d, p in zip(*columns, strict=True)}


def _cost_table(found: Comparison, names: int) -> Table:
    """Hardware stands in a line of its own where it is the same everywhere."""
    costs = found.costs
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


def _sections(found: Comparison) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables as text cells, with their headings."""
    told = _differences(found)
    rows = []
    for row in found.table.to_dict("records"):
        cells = {"rank": "" if pd.isna(row["rank"]) else str(row["rank"]), "variant": row["variant"]}
        for m in found.metrics:
            gap = told.get((row["variant"], m))
            more = f"; {difference(m, *gap)}" if gap is not None and pd.notna(row[m]) else ""
            cells[m] = number(m, row[m], row[f"{m}_low"], row[f"{m}_high"]) + more
        rows.append(cells)
    numbers = pd.DataFrame(rows)
    yield "Numbers", numbers if _has_ranks(found) else numbers.drop(columns="rank")
    costs = {c: [cost(c, v) if c != "variant" else v for v in found.costs[c]] for c in found.costs.columns}
    yield "Costs of training", pd.DataFrame(costs).rename(columns=COSTS)
    if len(found.recipes.columns) > 1:
        yield "What differs between the recipes", found.recipes.map(lambda v: "-" if v is None else str(v))


def _markdown(found: Comparison) -> str:
    parts = []
    for title, cells in _sections(found):
        head = "| " + " | ".join(cells.columns) + " |\n|" + "---|" * len(cells.columns)
        body = ["| " + " | ".join(escaped(c) for c in row) + " |" for row in cells.itertuples(index=False)]
        parts.append("\n".join([f"## {title}", "", head, *body]))
    return "\n\n".join([*parts, *footer(found)]) + "\n"


def escaped(text: Any) -> str:
    """As the cell of a Markdown table: no markup, no HTML."""
    return html.escape(str(text), quote=False).translate(MARKS)


def _html(found: Comparison) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>prefzoo compare</title><style>{STYLE}</style>",
    ]
    for title, cells in _sections(found):
        parts.append(f"<h2>{html.escape(title)}</h2><div class=wide>{cells.to_html(index=False, border=0)}</div>")
    return "\n".join([*parts, *(f"<p>{html.escape(line)}" for line in footer(found))]) + "\n"


def _json(found: Comparison) -> str:
    tables = {
        name: json.loads(getattr(found, name).to_json(orient="records"))
        for name in ("table", "differences", "recipes", "costs")
    }
    about = {"ranked_by": found.by or None, "baseline": found.baseline, "metrics": found.metrics, "notes": found.notes}
    return json.dumps({**about, **tables}, indent=1, ensure_ascii=False) + "\n"


def text(found: Comparison, form: str) -> str:
    """The whole of it as `md`, `html` or `json`; as `csv`, one table of all numbers, a row per variant."""
    if form == "csv":
        return found.flat().to_csv(index=False)
    return {"md": _markdown, "html": _html, "json": _json}[form](found)


def write_parquet(found: Comparison, path: Path) -> None:
    """The same table as `csv`."""
    found.flat().to_parquet(path, index=False)
