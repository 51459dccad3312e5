"""Format counts."""

from __future__ import annotations

from collections.abc import Mapping

UNITS = (("", 0), ("K", 1), ("M", 1), ("B", 2), ("T", 2))  # (unit, decimals)
THOUSAND = 1000


def short_count(count: float) -> str:
    """Format a count in thousands, millions, billions or trillions: `512`, `135.5K`, `134.5M`, `1.54B`.

    Args:
        count: At least 0.
    """
    for unit, decimals in UNITS:
        if round(count, decimals) < THOUSAND or unit == UNITS[-1][0]:
            break
        count /= THOUSAND
    number = f"{count:.{decimals}f}"
    return (number.rstrip("0").rstrip(".") if decimals else number) + unit


def counted(counts: Mapping[str, int]) -> str:
    """Format counts by reason: `3 dropped: too long, 1 cut`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
