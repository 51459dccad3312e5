"""The type of a row: column name -> value, as the file has them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
