"""The live view of a run: a row for every variant. It only reads what stages report, four times a second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.text import Text

from prefzoo.errors import VariantFailed
from prefzoo.runtime.progress import REFRESH, VIEW, Note, Pace, Report, StepNote, interactive

WAITING, KEPT, FAILED, STOPPED = "waiting", "kept", "failed", "stopped"
WIDE = 100  # columns from which a bar fits
AROUND = 7  # lines of the view that are no variant's
LONGEST = 22  # characters of a variant's name
BAR = 16
LEFT = 3  # columns that are text: mark, name, stage
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


class LiveView:
    """All variants of a run, in order, and what is done to none of them alone (`common`)."""

    def __init__(self, title: str, rows: Sequence[Row], console: Console) -> None:
        self.title, self.console = title, console
        self.rows = {row.name: row for row in rows}
        self.common: tuple[str, Pace] | None = None
        self.start, self.active = time.monotonic(), ""
        self.plain = not console.encoding.startswith("utf")

    @contextmanager
    def stage(self, title: str, variant: str, activity: str) -> Iterator[Report]:
        """See `prefzoo.runtime.progress.View`."""
        pace, row = Pace(), self.rows.get(variant)
        if row is None:
            before, self.common = self.common, (title, pace)
            yield pace.at
            self.common = before
            return
        row.pace, row.state, self.active = pace, activity or title, variant

        def report(done: int, total: int, note: Note = "") -> None:
            pace.at(done, total, note)
            if isinstance(note, StepNote):
                row.step, row.metrics = note.step, note.metrics
                row.rate = pace.rate if note.metrics else None

        try:
            yield report
        except BaseException as e:
            row.state = FAILED if isinstance(e, VariantFailed) else STOPPED
            raise
        finally:
            row.pace = None

    def set_variant_state(self, name: str, state: str) -> None:
        """See `prefzoo.runtime.progress.View`."""
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
        parts += self._table(rows[first:end], wide=options.max_width >= WIDE)
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

    def _table(self, rows: Sequence[Row], *, wide: bool) -> list[Text]:
        """Lines made by hand: rich's tables took 58 ms for 34 rows, these 7, and a CPU that trains misses them."""
        names = ["", "variant", "stage", "done", *([""] if wide else []), "loss", "margin", "acc.", "pairs/s", "left"]
        cells = [[self._mark(row), *_cells(row, self.plain if wide else None)] for row in rows]
        widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]

        def line(parts: Sequence[str], style: str) -> Text:
            padded = [
                part.ljust(width) if i < LEFT or (wide and i == LEFT + 1) else part.rjust(width)
                for i, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            return Text("  ".join(padded).rstrip(), style, no_wrap=True, overflow="ellipsis")

        return [line(names, "dim"), *(line(own, _style(row)) for own, row in zip(cells, rows, strict=True))]

    def _mark(self, row: Row) -> str:
        """State without colour: at work, done, failed, waiting."""
        if row.pace is not None:
            frames = "|/-\\" if self.plain else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
            return frames[int(time.monotonic() * REFRESH) % len(frames)]
        marks = {FAILED: "x" if self.plain else "✗", STOPPED: "!", WAITING: "." if self.plain else "·"}
        return marks.get(row.state, "+" if self.plain else "✓")

    def _footer(self) -> str:
        trained = [row for row in self.rows.values() if row.steps]
        over, failed = sum(row.over for row in trained), sum(row.state == FAILED for row in trained)
        said = [f"{over - failed} of {len(trained)} trained"] + ([f"{failed} failed"] if failed else [])
        said.append(f"{format_duration(time.monotonic() - self.start)} so far")
        rates = [row.rate for row in trained if row.rate]
        left = sum((row.steps - row.step) * row.batch for row in trained if not row.over)
        if rates and left:
            said.append(f"about {format_duration(left / (sum(rates) / len(rates)))} of training left")
        if self.common is not None:
            title, pace = self.common
            count = f" {pace.done}/{pace.total}" if pace.total else ""
            said.insert(0, f"{title}{count}{f', {format_duration(pace.left)} left' if pace.left is not None else ''}")
        return " · ".join(said)


def _cells(row: Row, plain: bool | None) -> list[str]:
    """From the name on; `plain`: whether the bar is ASCII, None for no bar."""
    pace, metrics = row.pace, row.metrics
    training = row.steps and (pace is None or row.state == "training")
    done, total = (row.step, row.steps) if training else (pace.done, pace.total) if pace else (0, 0)
    accuracy = metrics.get("rewards/accuracies")
    name = row.name if len(row.name) <= LONGEST else row.name[: LONGEST - 1] + "~"
    return [
        name, row.state[:LONGEST], f"{done}/{total}" if total else "",
        *([] if plain is None else [_bar(done / total if total else 0.0, plain=plain)]),
        _number(metrics.get("loss")), _number(metrics.get("rewards/margins")),
        "" if accuracy is None else f"{100 * accuracy:.0f}%", _pairs(row.rate),
        format_duration(pace.left) if pace is not None and pace.left is not None else "",
    ]  # fmt: skip


def _bar(share: float, *, plain: bool) -> str:
    full = round(BAR * share)
    return "#" * full if plain else "━" * full + ("─" * (BAR - full) if full else "")


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


def format_duration(seconds: float) -> str:
    """`4:05`, or `2:04:05` from an hour on."""
    whole = round(seconds)
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    return f"{hours}:{minutes:02}:{whole % MINUTE:02}" if hours else f"{minutes}:{whole % MINUTE:02}"


@contextmanager
def show_live_view(title: str, rows: Sequence[Row], console: Console) -> Iterator[None]:
    """While it lasts, stages show in one view of all variants. Not on a terminal, nothing changes.

    However it ends, the cursor is back and the last state stays on the screen.
    """
    if not interactive(console):
        yield
        return
    board = LiveView(title, rows, console)
    token = VIEW.set(board)
    try:
        with Live(board, console=console, refresh_per_second=REFRESH):
            yield
    finally:
        VIEW.reset(token)
