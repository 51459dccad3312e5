"""Show the live view of a run: a row for each variant, redrawn four times a second with the stages' reports."""

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

WAITING, KEPT, TRAINED, FAILED, STOPPED = "waiting", "reused", "trained", "failed", "stopped"
WIDE = 100  # terminal columns that a row with a progress bar needs
OTHER_LINES = 7  # lines of the view besides the variants' rows
LONGEST = 22  # characters that are shown of a name or a state
BAR = 16  # characters of a progress bar
TEXT_COLUMNS = 3  # mark, name and stage are aligned left, numbers right
HOUR, MINUTE = 3600, 60


@dataclass
class VariantRow:
    """One row of the view: a variant, or the base model.

    Attributes:
        name: The variant's name.
        steps: Number of its optimiser steps; 0 for a model that is not trained.
        batch: Pairs per step.
        state: Text that is shown as its stage.
        step: Steps done so far.
        metrics: Metrics of the last step, under TRL's names.
        pace: Pace of the current stage; None between stages.
        rate: Pairs per second in training; None if unknown.
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
        """Whether its training has ended."""
        return self.state == FAILED or self.step >= self.steps


class LiveView:
    """All variants of a run, in order, and the current stage of the whole run (`common`)."""

    def __init__(self, title: str, rows: Sequence[VariantRow], console: Console) -> None:
        self.title, self.console = title, console
        self.rows = {row.name: row for row in rows}
        self.common: tuple[str, Pace] | None = None
        self.start, self.active = time.monotonic(), ""
        self.plain = not console.encoding.startswith("utf")

    @contextmanager
    def stage(self, title: str, variant: str, activity: str) -> Iterator[Report]:
        """Show a stage in the variant's row, or in the footer if no row has the name `variant`.

        Args:
            title: Description of the work, like `training dpo`.
            variant: Name of the variant; empty for the whole run.
            activity: State that the row shows meanwhile; the title if empty.

        Returns:
            A context manager whose value is `report(done, total, note)`.
        """
        pace, row = Pace(), self.rows.get(variant)
        if row is None:
            before, self.common = self.common, (title, pace)
            yield pace.update
            self.common = before
            return
        row.pace, row.state, self.active = pace, activity or title, variant

        def report(done: int, total: int, note: Note = "") -> None:
            pace.update(done, total, note)
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
        """Change the state that a variant's row shows."""
        if name in self.rows:
            row = self.rows[name]
            row.state, row.step = state, row.steps if state in (KEPT, TRAINED) else row.step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Fit the terminal's height: variants far from the active one are counted instead of shown."""
        rows, room = list(self.rows.values()), max(3, console.height - OTHER_LINES)
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
        room -= 2  # the lines with the counts
        at = list(self.rows).index(self.active) if self.active else 0
        first = min(max(0, at - room // 2), count - room)
        return first, first + room

    def _table(self, rows: Sequence[VariantRow], *, wide: bool) -> list[Text]:
        """Lay out the lines without rich's tables, which take 58 ms of a training CPU for 34 rows instead of 7 ms."""
        names = ["", "variant", "stage", "done", *([""] if wide else []), "loss", "margin", "acc.", "pairs/s", "left"]
        cells = [[self._mark(row), *_cells(row, self.plain if wide else None)] for row in rows]
        widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]

        def line(parts: Sequence[str], style: str) -> Text:
            padded = [
                part.ljust(width) if i < TEXT_COLUMNS or (wide and i == TEXT_COLUMNS + 1) else part.rjust(width)
                for i, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            return Text("  ".join(padded).rstrip(), style, no_wrap=True, overflow="ellipsis")

        return [line(names, "dim"), *(line(own, _style(row)) for own, row in zip(cells, rows, strict=True))]

    def _mark(self, row: VariantRow) -> str:
        """Return a character for the state (active, done, failed, waiting) that needs no colour."""
        if row.pace is not None:
            frames = "|/-\\" if self.plain else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
            return frames[int(time.monotonic() * REFRESH) % len(frames)]
        marks = {FAILED: "x" if self.plain else "✗", STOPPED: "!", WAITING: "." if self.plain else "·"}
        return marks.get(row.state, "+" if self.plain else "✓")

    def _footer(self) -> str:
        trained = [row for row in self.rows.values() if row.steps]
        over, failed = sum(row.over for row in trained), sum(row.state == FAILED for row in trained)
        parts = [f"{over - failed} of {len(trained)} trained"] + ([f"{failed} failed"] if failed else [])
        parts.append(f"{format_duration(time.monotonic() - self.start)} so far")
        rates = [row.rate for row in trained if row.rate]
        left = sum((row.steps - row.step) * row.batch for row in trained if not row.over)
        if rates and left:
            parts.append(f"about {format_duration(left / (sum(rates) / len(rates)))} of training left")
        if self.common is not None:
            title, pace = self.common
            count = f" {pace.done}/{pace.total}" if pace.total else ""
            parts.insert(0, f"{title}{count}{f', {format_duration(pace.left)} left' if pace.left is not None else ''}")
        return " · ".join(parts)


def _cells(row: VariantRow, plain: bool | None) -> list[str]:
    """Return a row's cells after the mark; `plain` makes the bar ASCII, None leaves it out."""
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


def _style(row: VariantRow) -> str:
    if row.pace is not None:
        return "bold"
    return {FAILED: "red", STOPPED: "yellow", WAITING: "dim"}.get(row.state, "green")


def _number(value: float | None) -> str:
    """Format a number in at most seven characters."""
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0e}"  # noqa: PLR2004


def _pairs(rate: float | None) -> str:
    return "" if not rate else f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"  # noqa: PLR2004


def _counted(rows: Sequence[VariantRow]) -> str:
    """Return how many rows are in each state, like `2 failed, 3 waiting`."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def format_duration(seconds: float) -> str:
    """Format seconds as `4:05`, or as `2:04:05` from an hour on."""
    whole = round(seconds)
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    return f"{hours}:{minutes:02}:{whole % MINUTE:02}" if hours else f"{minutes}:{whole % MINUTE:02}"


@contextmanager
def show_live_view(title: str, rows: Sequence[VariantRow], console: Console) -> Iterator[None]:
    """Show the stages of the block in one view of all variants; without a terminal, do nothing.

    However the block ends, the cursor is restored and the last state stays on the screen.

    Args:
        title: Heading of the view.
        rows: The variants, in order.
        console: The terminal to draw on.

    Returns:
        A context manager for the run.
    """
    if not interactive(console):
        yield
        return
    view = LiveView(title, rows, console)
    token = VIEW.set(view)
    try:
        with Live(view, console=console, refresh_per_second=REFRESH):
            yield
    finally:
        VIEW.reset(token)
