"""What `instructions.yaml` calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from prefzoo.evals.judges.checks import holds
from prefzoo.evals.suites.documents import beside

documents = beside(__file__)


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """1 where the answer does everything that was asked, else 0."""
    return {"followed": float(all(holds(results[0], spec) for spec in json.loads(doc["checks"])))}
