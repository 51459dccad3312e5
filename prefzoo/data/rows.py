"""A row as a file has it, and how many faulty rows one message lists."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
MAX_FAULTS = 5  # listed at once
