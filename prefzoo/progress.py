"""What is being done at this moment: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

Report = Callable[[int, int, str], None]
LINE_EVERY = 15.0  # seconds between plain lines


@contextmanager
def stage(title: str, unit: str, console: Console) -> Iterator[Report]:
    """Yields `report(done, total, note)`; says the rate in `unit`/s and the time left."""
    start = time.monotonic()

    def rate(done: int) -> str:
        return f"{done / max(1e-9, time.monotonic() - start):.2f} {unit}/s"

    if console.is_terminal:
        bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=console,
        )  # fmt: skip
        with bar:
            task = bar.add_task(title, total=None, note="")

            def live(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, note=f"{rate(done)} {note}".strip())

            yield live
        return
    console.print(f"{title} …")
    last = start

    def plain(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY and done < total:
            last = now
            left = (now - start) / max(done, 1) * (total - done)
            console.print(f"  {title}: {done}/{total} {unit}, {rate(done)}, {left:.0f} s left {note}".rstrip())

    yield plain
    console.print(f"  {title}: done in {time.monotonic() - start:.1f} s")
