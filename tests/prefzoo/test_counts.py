"""Counts of parameters are readable from a few hundred to a trillion."""

from __future__ import annotations

import pytest

from prefzoo.runtime.counts import short_count


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"), (1, "1"), (999, "999"), (1000, "1K"), (39_584, "39.6K"), (135_488, "135.5K"), (999_949, "999.9K"),
        (999_950, "1M"), (134_515_008, "134.5M"), (999_960_000, "1B"), (1_543_714_304, "1.54B"),
        (8_030_261_248, "8.03B"), (70_553_706_496, "70.55B"), (1.026e12, "1.03T"), (5e15, "5000T"),
    ],
)  # fmt: skip
def test_a_count_is_readable(count: float, shown: str) -> None:
    assert short_count(count) == shown
