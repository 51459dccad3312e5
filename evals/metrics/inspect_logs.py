"""Read JSON logs of Inspect AI, sample by sample, as if their benchmarks had been run here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.errors import UserError
from prefzoo.evals.metrics.foreign_files import files_in, merge, read_json
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.suites.benchmarks import Benchmark

GIVE = "give a JSON log of Inspect"
CONVERT = "`inspect log convert --to json --output-dir FOLDER LOG` writes one"
LISTINGS = ("logs.json", "eval-set.json")  # files of Inspect that list logs but are not logs
UNSCORED = "unscored"  # key for the number of samples of a benchmark without a score
WORDS = {  # values that Inspect itself gives to these scores: correct, incorrect, partly correct, no answer
    "c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0,
}  # fmt: skip


def read_logs(paths: Sequence[Path]) -> dict[str, Measured]:
    """Read logs of Inspect from files and folders.

    Logs of one model are merged; if two have the same task, the later file counts. Epochs are averaged, so that each
    sample has one score. Each scorer becomes a benchmark, named `TASK` if it is the only one, else `TASK_SCORER`.

    Args:
        paths: files, and folders that hold logs at any depth.

    Returns:
        The measurements of each model, by name, in the order of the files.

    Raises:
        UserError: a path does not exist, a folder has no log, or a log is incomplete or has another format.
    """
    return merge((file for path in paths for file in _files(path)), _read)


def is_log(path: Path) -> bool:
    """Return whether a file is a log of Inspect, rather than of another tool."""
    if path.suffix == ".eval" or not path.is_file():
        return path.suffix == ".eval"
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        return False
    return isinstance(log, dict) and isinstance(log.get("eval"), dict)


def _files(path: Path) -> list[Path]:
    if path.suffix == ".eval":
        raise UserError(f"{path}: is Inspect's binary log; {CONVERT}")
    return [file for file in files_in(path, "*.json", GIVE, f"{GIVE}: {CONVERT}") if file.name not in LISTINGS]


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    log = read_json(file, GIVE)
    about = log.get("eval") if isinstance(log, dict) else None
    if not isinstance(about, dict) or not all(isinstance(about.get(k), str) for k in ("task", "model")):
        raise UserError(f"{file}: has no eval.task and eval.model; {GIVE}")
    if log.get("status") != "success":
        raise UserError(f"{file}: its status is {log.get('status')!r}; finish it by `inspect eval-retry`")
    samples = log.get("samples")
    if not samples or not all(isinstance(s, dict) and "id" in s for s in samples):
        raise UserError(f"{file}: has no samples to compare models by; run Inspect without --no-log-samples")
    for sample in samples:
        scores = sample.get("scores") or {}
        if not isinstance(scores, dict) or not all(
            score is None or isinstance(score, dict) for score in scores.values()
        ):
            raise UserError(f"{file}: sample {sample['id']}: its scores are not as Inspect writes them; {GIVE}")
    scorers = list(dict.fromkeys(name for s in samples for name in (s.get("scores") or {})))
    if not scorers:
        raise UserError(f"{file}: no sample has a score; `inspect score` adds them")
    task = about["task"].rpartition("/")[2]
    names = {scorer: task if len(scorers) == 1 else f"{task}_{scorer.rpartition('/')[2]}" for scorer in scorers}
    return about["model"].replace("/", "__"), {
        name: _benchmark(file, samples, scorer, task) for scorer, name in names.items()
    }


def _benchmark(file: Path, samples: Sequence[Mapping[str, Any]], scorer: str, task: str) -> dict[str, Any]:
    by_id: dict[str, list[float]] = {}
    hashes: dict[str, str] = {}
    for sample in samples:
        score = (sample.get("scores") or {}).get(scorer)
        if score is not None:
            key = str(sample["id"])
            by_id.setdefault(key, []).append(_number(file, key, score.get("value")))
            hashes[key] = hashlib.sha256(json.dumps([key, sample.get("input")], sort_keys=True).encode()).hexdigest()
    values = np.array([np.mean(epochs) for epochs in by_id.values()])
    rows = [
        {"doc_id": key, "doc_hash": hashes[key], "score": float(value)}
        for key, value in zip(by_id, values, strict=True)
    ]
    stderr = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    asked = hashlib.sha256("".join(sorted(hashes.values())).encode()).hexdigest()[:16]
    lost = len({str(sample["id"]) for sample in samples}) - len(values)
    benchmark = Benchmark(float(values.mean()), stderr, len(values), "acc", suite=f"{task}@{asked}", samples=rows)
    return asdict(benchmark) | {UNSCORED: lost}


def _number(file: Path, key: str, value: Any) -> float:
    number = nan
    if isinstance(value, bool | int | float):
        number = float(value)
    elif isinstance(value, str):
        with suppress(ValueError):
            number = WORDS[value.lower()] if value.lower() in WORDS else float(value)
    if isfinite(number):
        return number
    raise UserError(f"{file}: sample {key}: the score {str(value)[:40]!r} is not a number; give each sample one")
