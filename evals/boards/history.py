"""The board of all runs in a folder: groups of variants that may be ranked together, and each variant's history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefzoo.errors import UserError
from prefzoo.evals.boards import comparable
from prefzoo.evals.boards.archives import without_copies
from prefzoo.evals.boards.cells import number
from prefzoo.evals.boards.ranking import WORSE, Ranking
from prefzoo.evals.boards.recipes_and_costs import training_costs
from prefzoo.evals.boards.selection import Entry, select
from prefzoo.evals.boards.standings import differences, ordered, power, primary, rank, verdict_of
from prefzoo.evals.boards.tables import difference as points
from prefzoo.evals.boards.tables import escaped
from prefzoo.evals.boards.verdict import BoardVerdict, names
from prefzoo.evals.metrics.registry import Metric, Metrics
from prefzoo.evals.stats.intervals import holm
from prefzoo.runtime.run_folders import RESOLVED

BEGIN = "<!-- prefzoo leaderboard: what follows is generated; write above it -->"
END = "<!-- prefzoo leaderboard: end -->"
TITLE = "# Results\n"
OPEN_ROWS = 20  # tables with more rows are folded
NOTE = (
    "Brackets: 95% intervals over prompts or pairs, and over the seeds of a variant that has several. "
    "Equal ranks: within noise, over all runs of the section. "
    f"{WORSE}: worse than the base, by its whole interval."
)
BoardRow = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Variants that may be ranked together: those with the same base model, evaluation set and judge.

    Attributes:
        metric: metric that ranks; its name is empty if nothing was measured.
        origin: what the group was measured with, like its base model and judge, by name.
        verdict: who wins, what would settle a tie, and the numbers behind the decision.
        power: sentence about the differences that are too small for the number of prompts.
        rows: a row per variant, best first: rank, standing against the base, variant, run, loss, seed (missing if there
            are several), number of seeds, date, commit, and the metric's value, interval and n.
        history: rows of the variants with several runs, in order of time, with the change since the previous run and
            its p.
    """

    metric: Metric
    origin: Mapping[str, str]
    verdict: BoardVerdict
    power: str
    rows: list[BoardRow]
    history: list[BoardRow]

    @property
    def name(self) -> str:
        """Name of the metric, or `nothing measured`."""
        return self.metric.name or "nothing measured"

    @property
    def title(self) -> str:
        """Heading with the metric and the runs."""
        runs = list(dict.fromkeys(row["run"] for row in self.rows))
        return f"By {self.name}: {names(runs)}"

    @property
    def measured_with(self) -> str:
        """What all numbers of the group were measured with, in a line."""
        return "; ".join(f"{name}: {value}" for name, value in self.origin.items())


def gather(root: Path) -> list[Group]:
    """Return the variants of every run under a folder, in groups that may be ranked together.

    The result depends on the files alone: the same files give the same groups.

    Raises:
        UserError: the folder does not exist, or has no run in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the one that prefzoo run wrote to (--results)")
    folders = sorted(p.parent for p in root.rglob(RESOLVED))
    if not folders:
        raise UserError(f"{root}: no run in it (no {RESOLVED} at any depth); prefzoo run writes one")
    by_metric: dict[str, list[Entry]] = {}
    for folder in folders:
        entries = select([folder], by_seed=False)
        metric = primary(entries)
        by_metric.setdefault(metric, []).extend(e for e in entries if not e.is_base)
    gathered = []
    for metric in sorted(by_metric, key=lambda m: (m == "", m != "win_rate", m)):
        entries = without_copies(by_metric[metric])
        number_of = comparable.groups(entries, metric)
        for group in sorted(set(number_of)):
            inside = [e for e, g in zip(entries, number_of, strict=True) if g == group]
            gathered.append(_group(root, metric, inside))
    return gathered


def _group(root: Path, metric: str, entries: list[Entry]) -> Group:
    named = [replace(e, label=f"{_where(root, e)}/{e.files.name}") for e in entries]
    if not metric:
        return Group(Metrics()[metric], {}, BoardVerdict(""), "", [_row(root, e, metric) for e in named], [])
    origin = {name: shown for name, (_, shown) in comparable.origins(named, metric)[0].items()}
    order = ordered(named, metric, training_costs(named))
    ranking = rank(order, metric)
    rows = [_row(root, e, metric) | _rank(ranking, e.label) for e in order]
    verdict = verdict_of(order, ranking, metric)
    return Group(Metrics()[metric], origin, verdict, power(order, metric), rows, _history(root, named, metric))


def _rank(ranking: Ranking, label: str) -> BoardRow:
    return {"rank": ranking.ranks.get(label), "against_base": ranking.standings.get(label)}


def _where(root: Path, e: Entry) -> str:
    """Return the run's folder relative to the board's folder; if both are the same, the folder's name."""
    relative = e.run.folder.relative_to(root).as_posix()
    return e.run.folder.resolve().name if relative == "." else relative


def _row(root: Path, e: Entry, metric: str) -> BoardRow:
    result = e.files.result
    environment = result.environment if result else {}
    mine = e.long.loc[metric].to_dict() if metric in e.long.index else {}
    return {
        "variant": e.files.name, "run": _where(root, e), "loss": result.loss_shown if result else None,
        "seed": result.seed if result and not e.members else None, "seeds": len(e.seeds),
        "date": environment.get("finished"), "commit": environment.get("commit"),
        **{k: mine.get(k) for k in ("value", "low", "high", "n")},
    }  # fmt: skip


def _history(root: Path, entries: Sequence[Entry], metric: str) -> list[BoardRow]:
    """Return the runs with the same recipe name and variant, by date; p is Holm-corrected over all changes shown."""
    changes: list[BoardRow] = []
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
                changes.append(row | {"recipe": recipe, "change": gap[0].value if gap else None, "p": gap and gap[0].p})
    changed = [row for row in changes if row["p"] is not None]
    for row, p in zip(changed, holm([row["p"] for row in changed]), strict=True):
        row["p"] = p
    return changes


COLUMNS = ("rank", "variant", "value", "loss", "seeds", "run", "date", "commit")
PAST = ("variant", "value", "change", "run", "date", "commit")


def _columns(group: Group) -> list[str]:
    """Return the columns of the table of ranks, with `seeds` only if a variant has several."""
    return [c for c in COLUMNS if c != "seeds" or any(row["seeds"] > 1 for row in group.rows)]


def _cell(group: Group, column: str, row: BoardRow) -> str:
    if column == "value":
        return number(group.metric, row["value"], row["low"], row["high"]) if row["value"] is not None else "-"
    if column == "change":
        return "-" if row["change"] is None else points(group.metric, row["change"], row["p"])
    if column == "date":
        return str(row["date"] or "-")[:10]
    if column == "rank":
        mark = f" {WORSE}" if row["against_base"] == "worse" else ""
        return "" if row["rank"] is None else f"{row['rank']}{mark}"
    return str(row[column] or "-")


def _heads(group: Group, columns: Sequence[str]) -> list[str]:
    return [group.name if c == "value" else c for c in columns]


def _table(group: Group, columns: Sequence[str], rows: Sequence[BoardRow]) -> str:
    heads = _heads(group, columns)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(escaped(_cell(group, c, r)) for c in columns) + " |" for r in rows])


def markdown(groups: Sequence[Group]) -> str:
    """Return the generated part of the page: for every group its origin, its table, and its history."""
    parts = ["## Leaderboard", NOTE]
    if len(groups) > 1:
        parts.append(
            "Runs that were measured differently are not ranked together: a section for each judge and set of prompts."
        )
    for group in groups:
        table = _table(group, _columns(group), group.rows)
        if len(group.rows) > OPEN_ROWS:
            table = f"<details><summary>{len(group.rows)} variants</summary>\n\n{table}\n\n</details>"
        parts += [
            f"### {escaped(group.title)}",
            escaped(group.measured_with),
            f"**{escaped(group.verdict.answer)}**" if group.verdict.answer else "",
            table,
            escaped(" ".join(filter(None, (group.verdict.statistics, group.power)))),
        ]
        if group.history:
            parts += ["Several runs of one variant, in time; change since the run before, *: p <= 0.05 after Holm:"]
            parts += [_table(group, PAST, group.history)]
    return "\n\n".join(part for part in parts if part)


def page(groups: Sequence[Group], before: str, more: str = "") -> str:
    """Replace the generated part of the folder's README, or append it, without a change to the other text.

    Args:
        groups: groups from `gather`.
        before: present text of the README; empty if there is none.
        more: further sections, in Markdown.

    Returns:
        The whole text of the new README.
    """
    shown = "\n\n".join(filter(None, [markdown(groups) if groups or not more else "## Leaderboard", more]))
    generated = f"{BEGIN}\n\n{shown}\n\n{END}\n"
    head, mark, rest = before.partition(BEGIN)
    if not mark:
        return f"{(before or TITLE).rstrip()}\n\n{generated}"
    return head + generated + rest.partition(END)[2].lstrip("\n")


def as_json(groups: Sequence[Group]) -> str:
    """Return all groups as JSON."""
    plain = [
        {
            "metric": g.name,
            "origin": dict(g.origin),
            "verdict": g.verdict.as_json(),
            "power": g.power,
            "rows": g.rows,
            "history": g.history,
        }
        for g in groups
    ]
    return json.dumps(plain, indent=1, ensure_ascii=False, default=str)


def render(groups: Sequence[Group], console: Console) -> None:
    """Print a table per group; at 80 columns no cell is cut off."""
    for group in groups:
        console.print(f"\n{group.title}", style="bold", markup=False, highlight=False)
        console.print(group.measured_with, style="dim", markup=False, highlight=False)
        if group.verdict.answer:
            console.print(group.verdict.answer, style="bold", markup=False, highlight=False)
        for columns, rows in ((_columns(group), group.rows), (PAST, group.history)):
            if not rows:
                continue
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
            shown = [c for c in columns if c != "loss" or any(r["loss"] != r["variant"] for r in rows)]
            for head in _heads(group, shown):
                table.add_column(head, overflow="fold", no_wrap=head in ("rank", "date", group.name))
            for row in rows:
                table.add_row(*(escape(_cell(group, c, row)) for c in shown))
            console.print(table)
        console.print(" ".join(filter(None, (group.verdict.statistics, group.power))), markup=False, highlight=False)
    console.print(NOTE, highlight=False)
