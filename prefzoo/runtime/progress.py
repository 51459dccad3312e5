"""Report progress: in a row of the live view, as a bar on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

LINE_EVERY = 15.0  # seconds between plain lines
REFRESH = 4  # redraws per second: more would slow down the work that is shown


@dataclass(frozen=True)
class StepNote:
    """The note in a training's report: the step that it has reached, and the metrics of that step.

    A note without metrics marks the step at which a training starts or resumes.
    """

    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        loss = f", loss {self.metrics['loss']:.4f}" if "loss" in self.metrics else ""
        return f"step {self.step}/{self.steps}{loss}"


Note = str | StepNote
Report = Callable[[int, int, Note], None]  # called with units done, all units (0 if unknown), and a note


class Pace:
    """How fast a stage runs, measured since it started or resumed."""

    def __init__(self) -> None:
        self.start, self.before, self.done, self.total = time.monotonic(), 0, 0, 0

    def update(self, done: int, total: int, note: Note = "") -> None:
        """Record a report.

        Args:
            done: Units done so far, including those of an earlier run.
            total: Units of the whole stage.
            note: Text, or the training step that was reached.
        """
        self.done, self.total = done, total
        if isinstance(note, StepNote) and not note.metrics:
            self.start, self.before = time.monotonic(), done

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.done - self.before) / max(1e-9, time.monotonic() - self.start)

    @property
    def left(self) -> float | None:
        """Seconds to the end at this pace; None before anything is done."""
        return (self.total - self.done) / self.rate if self.total and self.done > self.before else None


class StageView(Protocol):
    """The methods of a live view that stages call."""

    def stage(self, title: str, variant: str, activity: str) -> AbstractContextManager[Report]:
        """Show a stage of a variant, or of the whole run if no row has the name `variant`.

        Args:
            title: Description of the work, like `training dpo`.
            variant: Name of the variant; empty for the whole run.
            activity: State that the row shows meanwhile; the title if empty.

        Returns:
            A context manager whose value is `report(done, total, note)`.
        """

    def set_variant_state(self, name: str, state: str) -> None:
        """Change the state that a variant's row shows."""


VIEW: ContextVar[StageView | None] = ContextVar("VIEW", default=None)


def interactive(console: Console) -> bool:
    """Return whether a console can redraw its output: it is a terminal, and not quiet."""
    return console.is_interactive and not console.quiet and console.file.isatty()


def set_variant_state(name: str, state: str, console: Console, line: str = "") -> None:
    """Report a variant's new state, in the live view or as a line.

    Args:
        name: The variant.
        state: State that its row in the live view shows.
        console: Console to print to if there is no live view.
        line: Line to print there; nothing if empty.
    """
    view = VIEW.get()
    if view is not None:
        view.set_variant_state(name, state)
    elif line:
        console.print(line, soft_wrap=True, markup=False)


@contextmanager
def stage(title: str, unit: str, console: Console, *, variant: str = "", activity: str = "") -> Iterator[Report]:
    """Show the progress of a piece of work while the block runs; yield the function that reports it.

    Args:
        title: Description of the work, like `training dpo`.
        unit: Name of the units that are counted, like `pairs`; the rate is shown in units per second.
        console: Console to print to; a quiet console prints nothing.
        variant: Name of the variant whose row in the live view shows the stage; empty for the whole run.
        activity: State that this row shows meanwhile; the title if empty.

    Returns:
        A context manager whose value is `report(done, total, note)`.
    """
    view = VIEW.get()
    if view is not None:
        with view.stage(title, variant, activity) as report:
            yield report
    elif interactive(console):
        with _bar(title, unit, console) as report:
            yield report
    else:
        pace = Pace()
        console.print(f"{title} …")
        yield _lines(title, unit, console, pace)
        console.print(f"  {title}: done in {time.monotonic() - pace.start:.1f} s")


@contextmanager
def _bar(title: str, unit: str, console: Console) -> Iterator[Report]:
    pace = Pace()
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=console, refresh_per_second=REFRESH,
        transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=None, note="")

        def live(done: int, total: int, note: Note = "") -> None:
            pace.update(done, total, note)
            bar.update(task, completed=done, total=total or None, note=f"{pace.rate:.2f} {unit}/s {note}".strip())

        yield live
    console.print(f"{title}: done in {time.monotonic() - pace.start:.1f} s", soft_wrap=True, markup=False)


def _lines(title: str, unit: str, console: Console, pace: Pace) -> Report:
    last = pace.start

    def plain(done: int, total: int, note: Note = "") -> None:
        nonlocal last
        pace.update(done, total, note)
        now = time.monotonic()
        if now - last >= LINE_EVERY and (done < total or not total):
            last = now
            left = f", {pace.left:.0f} s left" if pace.left is not None else ""
            of = f"/{total}" if total else ""
            console.print(f"  {title}: {done}{of} {unit}, {pace.rate:.2f} {unit}/s{left} {note}".rstrip())

    return plain


@contextmanager
def large_stage(title: str, unit: str, console: Console | None, more_than: int) -> Iterator[Report]:
    """Show the progress of work only if there is much of it.

    Args:
        title, unit: As for `stage`.
        console: As for `stage`; None shows nothing.
        more_than: Largest number of units whose progress is not shown.

    Returns:
        A context manager whose value is `report(done, total, note)`.
    """
    with ExitStack() as stages:
        begun: list[Report] = []

        def report(done: int, total: int, note: Note) -> None:
            if console is not None and max(done, total) > more_than and not begun:
                begun.append(stages.enter_context(stage(title, unit, console)))
            for one in begun:
                one(done, total, note)

        yield report


Stages = Callable[[str], AbstractContextManager[Report]]  # called with a title, like `reading pairs.jsonl`


@contextmanager
def unseen(_title: str) -> Iterator[Report]:
    """Yield a function that takes reports and shows nothing."""
    yield lambda done, total, note: None
