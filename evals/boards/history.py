"""All runs of a folder on one board: sections of what may be ranked together, and each variant's runs in time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefzoo.errors import UserError
from prefzoo.evals.boards import comparable
from prefzoo.evals.boards.comparison import differences, lead, ordered, power, primary, shared_ranks
from prefzoo.evals.boards.leaderboard import MOST
from prefzoo.evals.boards.run_files import RESOLVED
from prefzoo.evals.boards.selection import Entry, select
from prefzoo.evals.boards.settings import costs_of
from prefzoo.evals.boards.tables import difference as points
from prefzoo.evals.boards.tables import escaped, number
from prefzoo.evals.stats.intervals import holm

BEGIN = "<!-- prefzoo leaderboard: what follows is generated; write above it -->"
END = "<!-- prefzoo leaderboard: end -->"
TITLE = "# Results\n"
OPEN_ROWS = 20  # longer sections fold
NOTE = "Brackets: 95% intervals over prompts or pairs. Equal ranks: within noise, over all runs of the section."
Row = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """What was measured alike: base model, evaluation set, judge.

    Attributes:
        origin: what the section was measured with, by name.
        said: who leads, and what differences cannot be seen.
        rows: best first: rank, variant, run, loss, seed, date, commit, and the metric with its interval.
        history: of variants with several runs, in time order: the same, and the change since the run before.
    """

    metric: str
    origin: Mapping[str, str]
    said: list[str]
    rows: list[Row]
    history: list[Row]

    @property
    def title(self) -> str:
        """The metric, and the runs."""
        runs = list(dict.fromkeys(row["run"] for row in self.rows))
        more = f" and {len(runs) - MOST} more" if len(runs) > MOST else ""
        return f"By {self.metric}: {', '.join(runs[:MOST])}{more}"

    @property
    def measured_with(self) -> str:
        """Why the section is one, in a line."""
        return "; ".join(f"{name}: {said}" for name, said in self.origin.items())


def gather(root: Path) -> list[Section]:
    """Every run under a folder, in sections; the best-filled metric first. From files alone: no clock.

    Raises:
        UserError: there is no such folder, or no run with results in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the one that prefzoo run wrote to (--results)")
    folders = sorted(p.parent for p in root.rglob(RESOLVED))
    if not folders:
        raise UserError(f"{root}: no run in it ({RESOLVED} is nowhere); prefzoo run writes one")
    by_metric: dict[str, list[Entry]] = {}
    for folder in folders:
        entries = select([folder])
        metric = primary(entries)
        by_metric.setdefault(metric, []).extend(e for e in entries if not e.is_base)
    sections = []
    for metric in sorted(by_metric, key=lambda m: (m == "", m != "win_rate", m)):
        entries = by_metric[metric]
        number_of = comparable.groups(entries, metric)
        for group in sorted(set(number_of)):
            inside = [e for e, g in zip(entries, number_of, strict=True) if g == group]
            sections.append(_section(root, metric, inside))
    return sections


def _section(root: Path, metric: str, entries: list[Entry]) -> Section:
    named = [Entry(f"{_where(root, e)}/{e.files.name}", e.run, e.files, e.long, e.units) for e in entries]
    origin = {name: said for name, (_, said) in comparable.origins(named, metric)[0].items()} if metric else {}
    order = ordered(named, metric, costs_of(named)) if metric else named
    ranks = shared_ranks(order, metric) if metric else {}
    rows = [_row(root, e, metric) | {"rank": ranks.get(e.label)} for e in order]
    said = [line for line in (*lead(order, ranks, metric), power(order, metric)) if line]
    return Section(metric or "nothing measured", origin, said, rows, _history(root, named, metric) if metric else [])


def _where(root: Path, e: Entry) -> str:
    """The run's folder as seen from the board's."""
    return e.run.folder.relative_to(root).as_posix()


def _row(root: Path, e: Entry, metric: str) -> Row:
    result = e.files.result
    environment = result.environment if result else {}
    mine = e.long.loc[metric].to_dict() if metric in e.long.index else {}
    return {
        "variant": e.files.name, "run": _where(root, e), "loss": result.loss if result else None,
        "seed": result.seed if result else None, "date": environment.get("finished"),
        "commit": environment.get("commit"), **{k: mine.get(k) for k in ("value", "low", "high", "n")},
    }  # fmt: skip


def _history(root: Path, entries: Sequence[Entry], metric: str) -> list[Row]:
    """Runs of one recipe's name and variant, by the date that they finished; p is Holm's over all changes shown."""
    found: list[Row] = []
    alike: dict[tuple[str, str], list[Entry]] = {}
    for e in entries:
        alike.setdefault((e.run.name, e.files.name), []).append(e)
    for (recipe, _), several in sorted(alike.items()):
        if len(several) > 1:
            rows = sorted(
                ((_row(root, e, metric), e) for e in several), key=lambda r: (r[0]["date"] or "", r[0]["run"])
            )
            for i, (row, e) in enumerate(rows):
                gap = differences(rows[i - 1][1], [e], metric)[0] if i else None
                found.append(row | {"recipe": recipe, "change": gap[0].value if gap else None, "p": gap and gap[0].p})
    changed = [row for row in found if row["p"] is not None]
    for row, p in zip(changed, holm([row["p"] for row in changed]), strict=True):
        row["p"] = p
    return found


COLUMNS = ("rank", "variant", "value", "loss", "run", "date", "commit")
PAST = ("variant", "value", "change", "run", "date", "commit")


def _cell(section: Section, column: str, row: Row) -> str:
    if column == "value":
        return number(section.metric, row["value"], row["low"], row["high"]) if row["value"] is not None else "-"
    if column == "change":
        return "-" if row["change"] is None else points(section.metric, row["change"], row["p"])
    if column == "date":
        return str(row["date"] or "-")[:10]
    return "" if row[column] is None and column == "rank" else str(row[column] or "-")


def _heads(section: Section, columns: Sequence[str]) -> list[str]:
    return [section.metric if c == "value" else c for c in columns]


def _table(section: Section, columns: Sequence[str], rows: Sequence[Row]) -> str:
    heads = _heads(section, columns)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(escaped(_cell(section, c, r)) for c in columns) + " |" for r in rows])


def markdown(sections: Sequence[Section]) -> str:
    """What stands between the marks: every section with its reason to be one, and its history."""
    parts = ["## Leaderboard", NOTE]
    if len(sections) > 1:
        parts.append(
            "What was measured differently is not ranked together: each section says with what it was measured."
        )
    for section in sections:
        table = _table(section, COLUMNS, section.rows)
        if len(section.rows) > OPEN_ROWS:
            table = f"<details><summary>{len(section.rows)} variants</summary>\n\n{table}\n\n</details>"
        parts += [
            f"### {escaped(section.title)}",
            escaped(section.measured_with),
            table,
            escaped(" ".join(section.said)),
        ]
        if section.history:
            parts += ["Several runs of one variant, in time; change since the run before, *: p <= 0.05 after Holm:"]
            parts += [_table(section, PAST, section.history)]
    return "\n\n".join(part for part in parts if part)


def page(sections: Sequence[Section], before: str) -> str:
    """The folder's README: what is there by hand stays, the generated part is made anew (at the end, if it is new)."""
    made = f"{BEGIN}\n\n{markdown(sections)}\n\n{END}\n"
    head, mark, rest = before.partition(BEGIN)
    if not mark:
        return f"{(before or TITLE).rstrip()}\n\n{made}"
    return head + made + rest.partition(END)[2].lstrip("\n")


def as_json(sections: Sequence[Section]) -> str:
    """All sections as plain values."""
    plain = [
        {"metric": s.metric, "origin": dict(s.origin), "said": s.said, "rows": s.rows, "history": s.history}
        for s in sections
    ]
    return json.dumps(plain, indent=1, ensure_ascii=False, default=str)


def render(sections: Sequence[Section], console: Console) -> None:
    """A table per section; at 80 columns every cell still stands in full."""
    for section in sections:
        console.print(f"\n{section.title}", style="bold", markup=False, highlight=False)
        console.print(section.measured_with, style="dim", markup=False, highlight=False)
        for columns, rows in ((COLUMNS, section.rows), (PAST, section.history)):
            if not rows:
                continue
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
            shown = [c for c in columns if c not in ("loss", "seed") or any(r["loss"] != r["variant"] for r in rows)]
            for head in _heads(section, shown):
                table.add_column(head, overflow="fold", no_wrap=head in ("rank", "date", section.metric))
            for row in rows:
                table.add_row(*(escape(_cell(section, c, row)) for c in shown))
            console.print(table)
        console.print(" ".join(section.said), markup=False, highlight=False)
    console.print(NOTE, highlight=False)
