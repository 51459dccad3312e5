"""Format durations."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86400
FEW_MINUTES = 10 * MINUTE  # from here on, seconds are not shown


def duration(seconds: float) -> str:
    """Format a duration in at most two units: `0.4 s`, `45 s`, `3 min 20 s`, `25 min`, `3 h 20 min`, `2 d 4 h`.

    Args:
        seconds: At least 0.
    """
    whole = round(seconds)
    if 0 < seconds < 1:
        return f"{seconds:.1f} s" if round(seconds, 1) else "0 s"
    if whole < MINUTE:
        return f"{whole} s"
    if whole < FEW_MINUTES:
        return _two(whole, MINUTE, "min", "s")
    if whole < HOUR - MINUTE / 2:
        return f"{round(seconds / MINUTE)} min"
    if whole < DAY - MINUTE / 2:
        return _two(round(seconds / MINUTE), HOUR // MINUTE, "h", "min")
    return _two(round(seconds / HOUR), DAY // HOUR, "d", "h")


def _two(amount: int, large: int, large_unit: str, small_unit: str) -> str:
    """Format an amount of small units as large and small units; zero small units are not shown."""
    rest = amount % large
    return f"{amount // large} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
