"""A row as a file has it."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
