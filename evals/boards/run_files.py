"""Read a run's folder back from disk, for comparisons and reports."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from prefzoo.errors import UserError
from prefzoo.evals.boards.notebook import board_html, paragraphs
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.metrics.registry import Metrics
from prefzoo.runtime.run_folders import (
    BASE,
    RESOLVED,
    VERDICT,
    Failure,
    RunResult,
    is_trial,
    read_failure,
    read_result,
)

EVALUATION = "evaluation.yaml"  # in a folder that prefzoo eval wrote: its settings, with the keys of a recipe
SWEEP = "sweep.json"
LABELS = "judge_labels.json"  # in a variant's folder: the fields of `Measured` about labelled pairs, by name
TEXTS = dict.fromkeys(("variant", "metric", "judge", "prompt_hash", "commit", "suite", "baseline", "loss", "note"), str)


@dataclass(frozen=True)
class VariantFiles:
    """The content of one variant's folder, or of the base's.

    Attributes:
        name: name of the folder.
        folder: path of the folder.
        result: result of the training; None for the base, and until the training is done.
        measured: measurements in `evals.json`; None if there are none.
        steps: table of `metrics.jsonl`, a row per optimiser step; empty for the base.
        annotations, outputs: content of AlpacaEval's files; empty if nothing was judged or generated.
        failure: why the training failed; None if it did not fail.
        labels: content of `judge_labels.json`, the verdicts of people and of the judge on labelled pairs; empty without
            labels.
    """

    name: str
    folder: Path
    result: RunResult | None
    measured: Measured | None
    steps: pd.DataFrame
    annotations: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    failure: Failure | None = None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFiles:
    """The content of one run's folder.

    Attributes:
        folder: path of the run's folder.
        recipe: the resolved recipe, as plain values.
        variants: content of the variants' folders, by name: the base first if it was measured, then the recipe's order.
            A sweep has only the chosen settings, with a folder per seed.
        long: the leaderboard's long table (variant, metric, value, stderr, low, high, n, ...).
        round_robin: content of `round_robin.json`; None without the file.
        frontier: table of `frontier.csv`; empty without the file.
        audits: content of `data_audit.json`: the fields of a `prefzoo.data.audit.Audit` for each use of a data set.
        finals: variant of the recipe by the name of the folder that holds one of its seeds; in a plain run, both names
            are the same.
        failed: why training failed, by the name of each variant that was not trained to its end; from `verdict.json`,
            else from the variants' own files.
        verdict: content of `verdict.json`; empty if nothing was ranked yet.
        lost: why training failed, by the name of each failed seed of a ranked setting.
        orphans: names of folders with a training that the recipe does not have.
    """

    folder: Path
    recipe: dict[str, Any]
    variants: dict[str, VariantFiles]
    long: pd.DataFrame
    round_robin: dict[str, Any] | None
    frontier: pd.DataFrame
    audits: dict[str, dict[str, Any]]
    finals: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    orphans: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Run {self.name} in {self.folder}: {self._answer()}>"

    def _repr_html_(self) -> str:
        title = (
            f"<p><strong>{escape(self.name)}</strong> in {escape(str(self.folder))}</p>{paragraphs(self._answer(), ())}"
        )
        if self.long.empty:
            return title
        metrics = Metrics.of(v.measured for v in self.variants.values() if v.measured is not None)
        below = [self.verdict.get("statistics", ""), *self.verdict.get("cautions", ())]
        return title + board_html(self.verdict, self.long, metrics, BASE) + paragraphs("", below)

    def _answer(self) -> str:
        parts = [self.verdict.get(part, "") for part in ("decision", "advice")]
        return " ".join(filter(None, parts)) or "Nothing was ranked yet; start the same prefzoo run again to continue."

    @property
    def unfinished(self) -> list[str]:
        """Names of the recipe's variants without measurements."""
        measured = {self.finals.get(name, name) for name, v in self.variants.items() if v.measured is not None}
        return [name for name in self.recipe["variants"] if name not in measured]

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return str(self.recipe["name"])


def read_run(folder: Path) -> RunFiles:
    """Read the folder of a run, or of an evaluation that `prefzoo eval` wrote.

    Raises:
        UserError: the folder belongs to neither, or a file in it cannot be read.
    """
    file = next((folder / name for name in (RESOLVED, EVALUATION) if (folder / name).is_file()), None)
    if file is None:
        raise UserError(
            f"{folder}: not a run's folder ({RESOLVED} is missing) and not an evaluation's ({EVALUATION} is missing); "
            "name one that prefzoo run or prefzoo eval wrote"
        )
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    sweep = _json(folder / SWEEP, {})
    finals = sweep.get("finals", {name: name for name in recipe["variants"]})
    names = [n for n in (BASE, *finals) if (folder / n).is_dir()]
    variants = {n: _variant(folder / n) for n in names}
    own = {n: failure_text(v.failure) for n, v in variants.items() if v.failure is not None and v.result is None}
    verdict = _json(folder / VERDICT, {})
    return RunFiles(
        folder, recipe, variants, _csv(folder / "leaderboard.csv"),
        _json(folder / "round_robin.json", None), _csv(folder / "frontier.csv"),
        _json(folder / "data_audit.json", {}), finals, verdict.get("failed", own), verdict,
        lost_seeds(sweep), orphans(folder, {*recipe["variants"], *finals, *_trials(sweep)}),
    )  # fmt: skip


def price_of(run: RunFiles) -> float | None:
    """Return the price of the machine in dollars per hour, from the run's recipe; None if it names no price."""
    price = run.recipe.get("price_per_hour")
    return None if price is None else float(price)


def _trials(sweep: Mapping[str, Any]) -> list[str]:
    return [trial["name"] for trial in sweep.get("trials", ())]


def orphans(folder: Path, known: Container[str]) -> tuple[str, ...]:
    """Return the names of the folders with a training in a run's folder that are not in `known`."""
    return tuple(path.name for path in sorted(folder.glob("*")) if path.name not in known and is_trial(path))


def lost_seeds(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Return the failed seeds of ranked settings. The ranked numbers are over the other seeds alone.

    Args:
        sweep: content of `sweep.json`; empty for a plain run.

    Returns:
        The reason of each failure, by the name of the trial.
    """
    trials, finals = sweep.get("trials", []), sweep.get("finals", {})
    chosen = {t["variant"]: t["values"] for t in trials if t["name"] in finals}
    return {t["name"]: t["failed"] for t in trials if t["failed"] and chosen.get(t["variant"]) == t["values"]}


def failure_text(failure: Failure) -> str:
    """Return the step and the reason of a failure as text, like `step 12: loss is not finite`."""
    return (f"step {failure.step}: " if failure.step else "") + failure.reason


def _variant(folder: Path) -> VariantFiles:
    steps = folder / "metrics.jsonl"
    lines = steps.read_text(encoding="utf-8") if steps.is_file() else ""
    return VariantFiles(
        folder.name, folder, read_result(folder), _measured(folder / "evals.json"),
        pd.read_json(StringIO(lines), lines=True) if lines else pd.DataFrame(),
        _json(folder / "annotations.json", []), _json(folder / "model_outputs.json", []),
        read_failure(folder), _json(folder / LABELS, {}),
    )  # fmt: skip


def _measured(path: Path) -> Measured | None:
    """Read a model's measurements, ignoring unknown fields and filling in defaults for absent ones."""
    stored = _json(path, None)
    known = {f.name for f in fields(Measured)}
    return None if stored is None else Measured(**{k: v for k, v in stored.items() if k in known})


def _csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=TEXTS) if path.is_file() else pd.DataFrame()


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise UserError(f"{path}: is not JSON ({e}); the same prefzoo run writes it again") from None
