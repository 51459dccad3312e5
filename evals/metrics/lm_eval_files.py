"""Read result files of lm-eval's own command line, as if their benchmarks had been run here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError
from prefzoo.evals.metrics.foreign_files import files_in, merge, read_json
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.suites.benchmarks import from_results

GIVE = "give what lm-eval wrote under --output_path"
NEEDED = ("results", "configs", "n-samples")


def read_results(paths: Sequence[Path]) -> dict[str, Measured]:
    """Read `results_*.json` files of lm-eval, with the samples beside them (`samples_*.jsonl`, from `--log_samples`).

    Files of one model are merged; if two have the same task, the later file counts.

    Args:
        paths: files, and folders that hold such files at any depth.

    Returns:
        The measurements of each model, by name, in the order of the files.

    Raises:
        UserError: a path does not exist, a folder has no such file, or a file was not written by lm-eval.
    """
    files = (file for path in paths for file in files_in(path, "results_*.json", GIVE, GIVE))
    return merge(files, _read)


def is_results(path: Path) -> bool:
    """Return whether a file is a result file of lm-eval, by its name and its keys."""
    if not path.name.startswith("results_"):
        return False
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(results, dict) and all(isinstance(results.get(k), dict) for k in NEEDED)


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    results = read_json(file, "give a results_*.json of lm-eval")
    missing = [k for k in NEEDED if not isinstance(results, dict) or not isinstance(results.get(k), dict)]
    if missing:
        raise UserError(f"{file}: has no {missing[0]!r}; give a results_*.json of lm-eval 0.4 or newer")
    stamp = file.stem.removeprefix("results_")
    samples = {task: _samples(file.with_name(f"samples_{task}_{stamp}.jsonl")) for task in results["results"]}
    chat = bool(results.get("chat_template"))
    by_task = from_results(results, samples, "", chat=chat)
    hashes = results.get("task_hashes") or {}
    model = str(results.get("model_name_sanitized") or file.parent.name)
    return model, {
        task: asdict(b) | {"suite": f"{task}@{str(hashes.get(task, ''))[:16]}".rstrip("@")}
        for task, b in by_task.items()
    }


def _samples(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({**row, "doc_id": row["doc_id"], "doc_hash": row["doc_hash"]})
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}:{at}: not a sample of lm-eval with doc_id and doc_hash; run it again") from None
    return rows
