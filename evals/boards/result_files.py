"""Boards of benchmarks that other tools measured: result files of lm-eval and logs of Inspect, paired by document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.run_files import EVALUATION
from prefzoo.evals.metrics.foreign_files import read_json
from prefzoo.evals.metrics.inspect_logs import LISTINGS, UNSCORED, is_log, read_logs
from prefzoo.evals.metrics.lm_eval_files import is_results, read_results
from prefzoo.evals.metrics.measure import Measured
from prefzoo.runtime.run_folders import BASE, RESOLVED

SUFFIXES = (".json", ".eval")  # files of other tools
READ = (
    "give a run's folder, a variant's in one, a results_*.json of lm-eval, a log of Inspect, or a folder that holds "
    "some (`prefzoo eval --annotations` reads AlpacaEval's)"
)


@dataclass(frozen=True)
class Results:
    """Models that another tool measured.

    Attributes:
        baseline: name of the model that is the baseline.
        rows: measurements by the name of the board's row; the baseline comes first, under the name BASE.
    """

    baseline: str
    rows: Mapping[str, Measured]

    def board(self) -> Leaderboard:
        """Build the board of the models, with cautions about samples without a score."""
        board = leaderboard.build(dict(self.rows), {})
        return replace(board, only_benchmarks=True, cautions=tuple(self._unscored()))

    def _unscored(self) -> Iterator[str]:
        for name, one in self.rows.items():
            for benchmark, result in one.benchmarks.items():
                if lost := result.get(UNSCORED):
                    yield f"{lost} of {result['n'] + lost} samples of {benchmark} have no score for {name}; left out."


def holds_results(path: Path) -> bool:
    """Return whether a path is a file of another tool, or a folder with such files rather than with runs."""
    if path.suffix in SUFFIXES:
        return True
    if not path.is_dir() or any((folder / RESOLVED).is_file() for folder in (path, path.parent)):
        return False
    return any(is_log(file) or is_results(file) for file in _files_in(path))


def _files_in(folder: Path) -> list[Path]:
    """Return the JSON files in a folder that other tools may have written, and Inspect's binary logs."""
    return sorted(file for suffix in SUFFIXES for file in folder.rglob(f"*{suffix}") if file.name not in LISTINGS)


def read_any(paths: Sequence[Path]) -> dict[str, Measured]:
    """Read logs of Inspect and result files of lm-eval. If both measured a model, its benchmarks are merged.

    Args:
        paths: files, and folders that hold such files at any depth.

    Returns:
        The measurements of each model, by name.

    Raises:
        UserError: a file does not exist or has another format, or a folder has no such file or is a run's.
    """
    runs = [path for path in paths if path.is_dir() and not holds_results(path)]
    if runs:
        raise UserError(f"{runs[0]}: holds no logs of Inspect or results of lm-eval; compare runs in another command")
    paths = [file for path in paths for file in (_results_in(path) if path.is_dir() else [path])]
    logs = [path for path in paths if is_log(path)]
    others = [path for path in paths if path not in logs]
    for path in others:
        _check_format(path)
    results = dict(read_logs(logs)) if logs else {}
    for name, one in (read_results(others) if others else {}).items():
        known = results.get(name)
        results[name] = one if known is None else replace(one, benchmarks=known.benchmarks | one.benchmarks)
    return results


def _check_format(path: Path) -> None:
    """Raise a UserError if a file does not exist, or has no `results` and so is not a result file of lm-eval."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; {READ}")
    content = read_json(path, READ)
    if not isinstance(content, dict) or "results" not in content:
        raise UserError(f"{path}: neither a log of Inspect nor a result file of lm-eval; {READ}")


def _results_in(folder: Path) -> list[Path]:
    return [file for file in _files_in(folder) if is_log(file) or is_results(file)]


def with_baseline(results: Mapping[str, Measured], baseline: str | None, option: str) -> Results:
    """Put the baseline first, under the name that boards give it.

    Args:
        results: measurements by the model's name.
        baseline: name of the baseline; None for the first model.
        option: option or file that names the baseline, for messages.

    Returns:
        The name of the baseline, and the measurements by the name of the board's row.

    Raises:
        UserError: there is no model of that name, or another model is named like the baseline's row.
    """
    first = baseline or next(iter(results))
    if first not in results:
        near, known = did_you_mean(first, list(results)), ", ".join(results)
        raise UserError(f"{option} {first}: no results of that model{near}; there are {known}")
    if BASE in results and first != BASE:
        raise UserError(
            f"{BASE}: this model is named like the baseline's row; rename its folder, or give it as {option}"
        )
    return Results(first, {BASE: results[first], **{name: one for name, one in results.items() if name != first}})


def boards_below(root: Path) -> dict[str, Results]:
    """Read the files of other tools under a folder, without those inside runs: a board per folder directly in it.

    Args:
        root: folder to read.

    Returns:
        The models of each folder, by the folder's name, with the first model as the baseline. Folders that hold one
        model each, as lm-eval writes them, are combined into one board under the name of the root.

    Raises:
        UserError: a log or a result file cannot be read.
    """
    runs = {path.parent for name in (RESOLVED, EVALUATION) for path in root.rglob(name)}
    files: dict[str, list[Path]] = {}
    for path in _results_in(root):
        if runs.isdisjoint(path.parents):
            parts = path.relative_to(root).parts
            files.setdefault(parts[0] if len(parts) > 1 else root.resolve().name, []).append(path)
    models = {folder: read_any(own) for folder, own in files.items()}
    lone = [folder for folder, own in models.items() if len(own) == 1]
    if len(lone) > 1:
        together = read_any([path for folder in lone for path in files[folder]])
        models = {root.resolve().name: together} | {k: own for k, own in models.items() if k not in lone}
    return {folder: with_baseline(own, None, folder) for folder, own in models.items()}


def markdown(boards: Mapping[str, Results]) -> str:
    """Return a section for each board of other tools' results."""
    parts = [f"### Measured by other tools: {name}\n\nbase: {one.baseline}\n\n{one.board().markdown().strip()}"
             for name, one in boards.items()]  # fmt: skip
    return "\n\n".join(parts)


def text(board: Leaderboard, form: str) -> str:
    """Return a board as Markdown, CSV or JSON.

    Args:
        board: The board.
        form: `md`, `csv` or `json`.
    """
    if form == "md":
        return board.markdown()
    if form == "csv":
        return board.csv()
    rows = json.loads(board.long.to_json(orient="records"))
    return json.dumps({**board.as_json(), "rows": rows}, indent=1) + "\n"
