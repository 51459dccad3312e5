"""How long a whole run took, over all the times that it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefzoo.runtime import wall_time
from prefzoo.runtime.wall_time import WallTime, read_wall_time


def test_the_time_of_earlier_starts_counts_unless_nothing_of_them_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(wall_time, "monotonic", lambda: now[0])
    assert read_wall_time(tmp_path) is None
    clock = WallTime(tmp_path, 90.0, anew=False, main=True)
    clock.write()
    assert read_wall_time(tmp_path) == 10
    now[0] = 130.0
    clock.write()
    assert read_wall_time(tmp_path) == 40
    again = WallTime(tmp_path, 120.0, anew=False, main=True)
    WallTime(tmp_path, 0.0, anew=True, main=False).write()  # of another process
    again.write()
    assert read_wall_time(tmp_path) == 50
    WallTime(tmp_path, 125.0, anew=True, main=True).write()
    assert read_wall_time(tmp_path) == 5


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": null}'])
def test_a_broken_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / wall_time.FILE).write_text(text)
    assert read_wall_time(tmp_path) is None
