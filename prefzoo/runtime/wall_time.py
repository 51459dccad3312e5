"""Record how long a whole run took from its start to its report, summed over all its starts."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic

from prefzoo.runtime import run_folders

FILE = "wall_time.json"


class WallTime:
    """The seconds that a run has taken so far."""

    def __init__(self, folder: Path, start: float, *, anew: bool, main: bool) -> None:
        """Read the time of earlier starts from the run's folder.

        Args:
            folder: The run's folder.
            start: Value of `time.monotonic` at this start.
            anew: Whether nothing of earlier starts is reused, so that their time does not count.
            main: Whether this process writes the run's files.
        """
        self._folder, self._start, self._main = folder, start, main
        self._before = 0.0 if anew else read_wall_time(folder) or 0.0

    def write(self) -> None:
        """Write the time so far into the run's folder."""
        if not self._main:
            return
        seconds = self._before + monotonic() - self._start
        run_folders.write_json(self._folder / FILE, {"seconds": round(seconds, 1)})


def read_wall_time(folder: Path) -> float | None:
    """Return the seconds that a run has taken, or None if they are unknown."""
    try:
        return float(json.loads((folder / FILE).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
