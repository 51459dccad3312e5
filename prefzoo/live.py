"""The live view of a run: a row for every variant. It only reads what stages report, four times a second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from prefzoo.errors import VariantFailed
from prefzoo.progress import REFRESH, VIEW, AtStep, Note, Pace, Report, interactive

WAITING, KEPT, FAILED, STOPPED = "waiting", "kept", "failed", "stopped"
WIDE = 100  # columns from which a bar fits
AROUND = 7  # lines of the view that are no variant's
LONGEST = 22  # characters of a variant's name
HOUR, MINUTE = 3600, 60


@dataclass
class Row:
    """One variant, or the base.

    Attributes:
        steps, batch: of its training; 0 for a model that is not trained.
        pace: of the stage under way; None between stages.
        rate: of its training, in pairs a second.
    """

    name: str
    steps: int = 0
    batch: int = 0
    state: str = WAITING
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    pace: Pace | None = None
    rate: float | None = None

    @property
    def over(self) -> bool:
        """Nothing more will come of its training."""
        return self.state == FAILED or self.step >= self.steps


class Board:
    """All variants of a run, in order, and what is done to none of them alone (`common`)."""

    def __init__(self, title: str, rows: Sequence[Row], console: Console) -> None:
        self.title, self.console = title, console
        self.rows = {row.name: row for row in rows}
        self.common: tuple[str, Pace] | None = None
        self.start, self.active = time.monotonic(), ""
        self.spinner = Spinner("dots" if console.encoding.startswith("utf") else "line")

    @contextmanager
    def stage(self, title: str, of: str, doing: str) -> Iterator[Report]:
        """See `prefzoo.progress.View`."""
        pace, row = Pace(), self.rows.get(of)
        if row is None:
            before, self.common = self.common, (title, pace)
            yield lambda done, total, note="": pace.at(done, total, note)
            self.common = before
            return
        row.pace, row.state, self.active = pace, doing or title, of

        def report(done: int, total: int, note: Note = "") -> None:
            pace.at(done, total, note)
            if isinstance(note, AtStep):
                row.step, row.metrics = note.step, note.metrics
                row.rate = pace.rate if note.metrics else None

        try:
            yield report
        except BaseException as e:
            row.state = FAILED if isinstance(e, VariantFailed) else STOPPED
            raise
        finally:
            row.pace = None

    def settle(self, name: str, state: str) -> None:
        """See `prefzoo.progress.View`."""
        if name in self.rows:
            row = self.rows[name]
            row.state, row.step = state, row.steps if state == KEPT else row.step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """As high as the terminal at most: variants far from the one at work are counted, not shown."""
        rows, room = list(self.rows.values()), max(3, console.height - AROUND)
        first, end = self._window(len(rows), room)
        above, below = _counted(rows[:first]), _counted(rows[end:])
        parts: list[RenderableType] = [Text(self.title, "bold", no_wrap=True, overflow="ellipsis")]
        if above:
            parts.append(Text(f"  … {above} above", "dim"))
        parts.append(self._table(rows[first:end], wide=options.max_width >= WIDE))
        if below:
            parts.append(Text(f"  … {below} below", "dim"))
        parts.append(Text(self._footer(), "dim", no_wrap=True, overflow="ellipsis"))
        yield Group(*parts)

    def _window(self, count: int, room: int) -> tuple[int, int]:
        if count <= room:
            return 0, count
        room -= 2  # lines of the counts
        at = list(self.rows).index(self.active) if self.active else 0
        first = min(max(0, at - room // 2), count - room)
        return first, first + room

    def _table(self, rows: Sequence[Row], *, wide: bool) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
        table.add_column("", width=1)
        table.add_column("variant", no_wrap=True, overflow="ellipsis", max_width=LONGEST)
        table.add_column("stage", no_wrap=True, overflow="ellipsis", min_width=8)
        for name in ("done", "loss", "margin", "acc.", "pairs/s", "left"):
            table.add_column(name, justify="right", no_wrap=True)
            if wide and name == "done":
                table.add_column("", width=16)
        for row in rows:
            cells = [self._mark(row), *_cells(row)]
            if wide:
                cells.insert(4, _bar(row))
            table.add_row(*cells, style=_style(row))
        return table

    def _mark(self, row: Row) -> RenderableType:
        """State without colour: at work, done, failed, waiting."""
        if row.pace is not None:
            return self.spinner
        plain = not self.console.encoding.startswith("utf")
        marks = {FAILED: "x" if plain else "✗", STOPPED: "!", WAITING: "." if plain else "·"}
        return marks.get(row.state, "+" if plain else "✓")

    def _footer(self) -> str:
        trained = [row for row in self.rows.values() if row.steps]
        over, failed = sum(row.over for row in trained), sum(row.state == FAILED for row in trained)
        said = [f"{over - failed} of {len(trained)} trained"] + ([f"{failed} failed"] if failed else [])
        said.append(f"{clock(time.monotonic() - self.start)} so far")
        rates = [row.rate for row in trained if row.rate]
        left = sum((row.steps - row.step) * row.batch for row in trained if not row.over)
        if rates and left:
            said.append(f"about {clock(left / (sum(rates) / len(rates)))} of training left")
        if self.common is not None:
            title, pace = self.common
            count = f" {pace.done}/{pace.total}" if pace.total else ""
            said.insert(0, f"{title}{count}{f', {clock(pace.left)} left' if pace.left is not None else ''}")
        return " · ".join(said)


def _cells(row: Row) -> list[RenderableType]:
    pace, metrics = row.pace, row.metrics
    training = row.steps and (pace is None or row.state == "training")
    count = f"{row.step}/{row.steps}" if training else f"{pace.done}/{pace.total}" if pace and pace.total else ""
    accuracy = metrics.get("rewards/accuracies")
    return [
        row.name, row.state, count, _number(metrics.get("loss")), _number(metrics.get("rewards/margins")),
        "" if accuracy is None else f"{100 * accuracy:.0f}%", _pairs(row.rate),
        clock(pace.left) if pace is not None and pace.left is not None else "",
    ]  # fmt: skip


def _bar(row: Row) -> RenderableType:
    pace = row.pace
    if pace is not None and pace.total:
        return ProgressBar(total=pace.total, completed=pace.done, width=16)
    return ProgressBar(total=row.steps, completed=row.step, width=16) if row.step and row.steps else ""


def _style(row: Row) -> str:
    if row.pace is not None:
        return "bold"
    return {FAILED: "red", STOPPED: "yellow", WAITING: "dim"}.get(row.state, "green")


def _number(value: float | None) -> str:
    """Seven characters at most."""
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0e}"  # noqa: PLR2004


def _pairs(rate: float | None) -> str:
    return "" if not rate else f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"  # noqa: PLR2004


def _counted(rows: Sequence[Row]) -> str:
    """How many of the rows are in which state."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def clock(seconds: float) -> str:
    """`4:05`, or `2:04:05` from an hour on."""
    whole = round(seconds)
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    return f"{hours}:{minutes:02}:{whole % MINUTE:02}" if hours else f"{minutes}:{whole % MINUTE:02}"


@contextmanager
def watched(title: str, rows: Sequence[Row], console: Console) -> Iterator[None]:
    """While it lasts, stages show in one view of all variants. Not on a terminal, nothing changes.

    However it ends, the cursor is back and the last state stays on the screen.
    """
    if not interactive(console):
        yield
        return
    board = Board(title, rows, console)
    token = VIEW.set(board)
    try:
        with Live(board, console=console, refresh_per_second=REFRESH):
            yield
    finally:
        VIEW.reset(token)
