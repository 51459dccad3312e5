"""A results folder, read back: what comparing and reporting start from. Everything here comes from disk."""

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

EVALUATION = "evaluation.yaml"  # of a folder that prefzoo eval wrote: what was asked, in a recipe's terms
SWEEP = "sweep.json"
LABELS = "judge_labels.json"  # in a variant's folder: `Measured`'s fields of labelled pairs, by name
TEXTS = dict.fromkeys(("variant", "metric", "judge", "prompt_hash", "commit", "suite", "baseline", "loss", "note"), str)


@dataclass(frozen=True)
class VariantFiles:
    """One variant's folder, or the base's.

    Attributes:
        result: of the training; None for the base.
        steps: a row per optimiser step, as in `metrics.jsonl`; empty for the base.
        annotations, outputs: AlpacaEval's files; empty where nothing was judged or generated.
        labels: of `judge_labels.json`: what people and the judge say of labelled pairs; empty where there are none.
        failure: why it was not trained to its end, if it was not.
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
    """One run's folder.

    Attributes:
        recipe: the resolved one, as plain values.
        variants: by name, the base first where it was measured, the others in the recipe's order; of a sweep, what
            was chosen, a folder per seed.
        long: the leaderboard's long table (variant, metric, value, stderr, low, high, n, ...).
        round_robin: of `round_robin.json`; None where there was none.
        frontier: of `frontier.csv`; empty where there was none.
        audits: of `data_audit.json`: what `prefzoo.data.audit.Audit` holds, of each data set by its use.
        failed: of `verdict.json`, else of the variants' own files: why a variant was not trained to its end.
        verdict: of `verdict.json`; empty where nothing was ranked yet.
        lost: seed of a ranked setting -> why it was not trained to its end.
        orphans: trainings in the folder that the recipe does not have.
        finals: variant's folder -> the variant of the recipe that it is a seed of; of a plain run, both are the same.
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
        return " ".join(filter(None, parts)) or "Nothing was ranked yet; the same prefzoo run goes on."

    @property
    def unfinished(self) -> list[str]:
        """The recipe's variants of which nothing was measured."""
        measured = {self.finals.get(name, name) for name, v in self.variants.items() if v.measured is not None}
        return [name for name in self.recipe["variants"] if name not in measured]

    @property
    def name(self) -> str:
        """The recipe's."""
        return str(self.recipe["name"])


def read_run(folder: Path) -> RunFiles:
    """Return what a run, or an evaluation of models that were there already, left on disk.

    Raises:
        UserError: the folder is neither's, or a file in it cannot be read.
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
    """Return what an hour of the machine costs in dollars, by the run's recipe; None if it names no price."""
    price = run.recipe.get("price_per_hour")
    return None if price is None else float(price)


def _trials(sweep: Mapping[str, Any]) -> list[str]:
    return [trial["name"] for trial in sweep.get("trials", ())]


def orphans(folder: Path, known: Container[str]) -> tuple[str, ...]:
    """Return the names of trainings in a run's folder that are not among the known ones."""
    return tuple(path.name for path in sorted(folder.glob("*")) if path.name not in known and is_trial(path))


def lost_seeds(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Return the seeds of ranked settings that failed, with the reasons.

    Args:
        sweep: what `sweep.json` holds; empty for a plain run.

    Returns:
        Trial -> reason. A ranked number is over the other seeds alone.
    """
    trials, finals = sweep.get("trials", []), sweep.get("finals", {})
    chosen = {t["variant"]: t["values"] for t in trials if t["name"] in finals}
    return {t["name"]: t["failed"] for t in trials if t["failed"] and chosen.get(t["variant"]) == t["values"]}


def failure_text(failure: Failure) -> str:
    """Return where and why a training failed."""
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
    """Read what was measured: fields that are unknown here are left out, absent ones have their default."""
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
