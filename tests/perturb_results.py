"""Run the tests in a copy of the checkout in which every number under results/ is changed.

Usage: `python tests/perturb_results.py [--seed N] [PYTEST ARGUMENTS ...]`. The same run gives other numbers on another
processor, so no test may depend on the stored ones. All tests run unless arguments for pytest select some. The settings
in `recipe.resolved.yaml` do not change, and the page of all runs is written again from the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "shared")
DECIMAL = re.compile(r"\d+\.\d+")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    asked, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        done = run(Path(folder), asked.seed, words or ["tests"])
    print(done.stdout)
    return done.returncode


def run(folder: Path, seed: int, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Copy the checkout, perturb the copy's results and run pytest there.

    Args:
        folder: An empty folder for the copy.
        seed: Seed of the random changes.
        words: Arguments for pytest; paths are relative to the checkout.

    Returns:
        The finished process of pytest, with its output in `stdout`.
    """
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    perturb(copy / "results", random.Random(seed))
    env = {**os.environ, "PYTHONPATH": str(copy)}
    for name in [name for name in env if name.startswith("PYTEST_")]:
        del env[name]  # set by a pytest that calls this function
    page = [sys.executable, "-m", "prefzoo", "leaderboard", "results", "--write"]
    subprocess.run(page, cwd=copy, env=env, stdout=subprocess.DEVNULL, check=True)
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        pytest, cwd=copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def perturb(results: Path, rng: random.Random) -> None:
    """Change every number in the files below a folder, in place."""
    for path in sorted(p for p in results.rglob("*") if p.is_file()):
        match path.suffix:
            case ".json":
                path.write_text(json.dumps(_changed(json.loads(path.read_text()), rng)))
            case ".jsonl":
                rows = [_changed(json.loads(line), rng) for line in path.read_text().splitlines()]
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            case ".csv":
                _changed_table(pd.read_csv(path), rng).to_csv(path, index=False)
            case ".parquet":
                _changed_table(pd.read_parquet(path), rng).to_parquet(path, index=False)
            case ".md" | ".svg" | ".log":
                path.write_text(DECIMAL.sub(lambda match: f"{_changed(float(match[0]), rng):.4f}", path.read_text()))


def _changed(value: Any, rng: random.Random) -> Any:
    match value:
        case dict():
            return {key: _changed(item, rng) for key, item in value.items()}
        case list():
            return [_changed(item, rng) for item in value]
        case bool():
            return value
        case int():
            return value + rng.randint(1, 3)
        case float():
            return value * rng.uniform(0.8, 1.2) + rng.uniform(1e-4, 1e-2)
        case _:
            return value


def _changed_table(table: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    numbers = table.select_dtypes("number").columns
    return table.assign(**{name: [_changed(v, rng) for v in table[name].tolist()] for name in numbers})


if __name__ == "__main__":
    sys.exit(main())
