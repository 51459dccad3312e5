"""Boards of what other tools measured: result files of lm-eval and logs of Inspect, document by document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.run_files import EVALUATION
from prefzoo.evals.metrics.inspect_logs import is_log, read_logs
from prefzoo.evals.metrics.lm_eval_files import is_results, read_results
from prefzoo.evals.metrics.measure import Measured
from prefzoo.runtime.run_folders import BASE, RESOLVED


@dataclass(frozen=True)
class Results:
    """Models that another tool measured.

    Attributes:
        baseline: the baseline's own name.
        rows: what was measured, by the name of the board's row; the baseline comes first, as BASE.
    """

    baseline: str
    rows: Mapping[str, Measured]

    def board(self) -> Leaderboard:
        """Rank the models."""
        return leaderboard.build(dict(self.rows), {})


def read_any(paths: Sequence[Path]) -> dict[str, Measured]:
    """Read logs of Inspect and result files of lm-eval; of a model that both measured the benchmarks are merged.

    Raises:
        UserError: a file is of another format.
    """
    logs = [path for path in paths if is_log(path)]
    others = [path for path in paths if path not in logs]
    results = dict(read_logs(logs)) if logs else {}
    for name, one in (read_results(others) if others else {}).items():
        known = results.get(name)
        results[name] = one if known is None else replace(one, benchmarks=known.benchmarks | one.benchmarks)
    return results


def with_baseline(results: Mapping[str, Measured], baseline: str | None, option: str) -> Results:
    """Put the baseline first, under the name that boards give it.

    Args:
        results: what was measured, by the model's name.
        baseline: the baseline's name; None: the first model.
        option: that names it, for messages.

    Returns:
        The baseline's name, and what was measured by row.

    Raises:
        UserError: there is no such baseline, or another model has the name of its row.
    """
    first = baseline or next(iter(results))
    if first not in results:
        near, known = did_you_mean(first, list(results)), ", ".join(results)
        raise UserError(f"{option} {first}: no results of that model{near}; there are {known}")
    if BASE in results and first != BASE:
        raise UserError(f"{BASE}: a model named like the baseline's row; name it by {option}, or rename its folder")
    return Results(first, {BASE: results[first], **{name: one for name, one in results.items() if name != first}})


def boards_below(root: Path) -> dict[str, Results]:
    """Read what other tools left below a folder, beside runs: a board for each folder in it that holds any.

    Args:
        root: the folder.

    Returns:
        The models of each folder, the first as the baseline, by the folder's name.

    Raises:
        UserError: a log or a result file cannot be read.
    """
    runs = {path.parent for name in (RESOLVED, EVALUATION) for path in root.rglob(name)}
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.json")):
        if runs.isdisjoint(path.parents) and (is_log(path) or is_results(path)):
            parts = path.relative_to(root).parts
            files.setdefault(parts[0] if len(parts) > 1 else root.resolve().name, []).append(path)
    return {folder: with_baseline(read_any(own), None, folder) for folder, own in files.items()}


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
