"""The frontier stage: measure KL and reward of every snapshot of a training once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.precision import native_bf16
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.evals.generation.generate import decode_answers
from prefzoo.evals.judges.coverage import Coverage
from prefzoo.evals.judges.protocol import Judge
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics import frontier
from prefzoo.evals.metrics.frontier import FrontierPoint
from prefzoo.evals.metrics.held_out import preference_margins
from prefzoo.experiment.base_logprobs import base_on_held_out, logprobs_of
from prefzoo.experiment.checkpoint_reader import CheckpointReader
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.frontier_files import point_file, snapshots_folder
from prefzoo.experiment.stages.answers import draw, own_samples
from prefzoo.experiment.stages.measure import identity, numbers_of
from prefzoo.experiment.stages.stage import Done, Result, Skipped
from prefzoo.experiment.stages.win_rates import with_win_rates
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.distributed import broadcast, process_state, shard
from prefzoo.runtime.progress import stage
from prefzoo.runtime.run_folders import BASE
from prefzoo.training.snapshots import Snapshots
from prefzoo.types import LogProbs

FILE = "frontier.csv"


def snapshots_of(experiment: Experiment, name: str) -> Snapshots:
    """Return where a trial's copies are, while they are needed."""

    def save(model: Any, folder: Path) -> None:
        models.save(model, experiment.tokenizer, folder, main=process_state().is_main_process)

    return Snapshots(snapshots_folder(experiment, name), experiment.frontier_points, save)


def measure_frontier(experiment: Experiment, names: Sequence[str]) -> dict[str, Result]:
    """Measure KL and reward of the snapshots of trials, or of the base.

    All processes call this, and each measures some points; if models are sharded, all measure each point together.

    Args:
        experiment: what the trials are of.
        names: `base`, and trials that are trained.

    Returns:
        The results, by name.
    """
    if not experiment.frontier_points:
        return dict.fromkeys(names, Skipped("evals.frontier and evals.prompts are not both set"))
    points = [(name, step) for name in names for step in _checkpoints(experiment, name)]
    todo = broadcast([point for point in points if _known(experiment, *point) is None])
    base = base_on_held_out(experiment) if todo and experiment.held_out else None
    together, reader = are_models_sharded(), CheckpointReader(experiment.load_checkpoint)
    for name, step in todo if together else shard(todo):
        title = f"frontier of {name}, step {step}"
        with stage(title, "points", experiment.console, variant=name, activity="frontier"):
            point = _point(experiment, name, step, base, reader)
        if not together or process_state().is_main_process:
            run_folders.write_json(point_file(experiment, name, step), {"key": _key(experiment, name), **asdict(point)})
    process_state().wait_for_everyone()
    experiment.base.drop()
    measured = {name for name, _ in todo}
    return {name: Done(kept=name not in measured) for name in names}


def write_frontier(experiment: Experiment, names: Sequence[str], judge: Judge | None = None) -> Coverage | Skipped:
    """Write `frontier.csv` of the trials on the board, and remove the snapshots of all trials.

    Args:
        experiment: what the trials are of.
        names: the trials on the board.
        judge: compares the sampled answers with the base's; None: the measured rewards stay.

    Returns:
        The number of the judge's verdicts; or why there is no frontier.
    """
    if not experiment.frontier_points:
        return Skipped("evals.frontier and evals.prompts are not both set")
    start = _all(experiment, BASE)
    points, cover = with_win_rates(experiment, judge, {name: start | _all(experiment, name) for name in names})
    run_folders.write_text(experiment.folder / FILE, frontier.table(points).to_csv(index=False))
    for name in names:
        wanted = snapshots_of(experiment, name).steps(max(points[name]))  # beside the base and the last step
        if not {*wanted} <= {*points[name]}:
            line = f"{name}: trained without all snapshots of evals.frontier; --fresh takes them"
            experiment.console.print(line)
    for name in experiment.trials:
        snapshots_of(experiment, name).remove()
    return cover


def _checkpoints(experiment: Experiment, name: str) -> dict[int, Path]:
    """Return the snapshots by their steps, and the checkpoint at the training's end; the base is where all start."""
    if name == BASE:
        return {0: Path()}
    with (experiment.folder / name / "metrics.jsonl").open(encoding="utf-8") as f:
        last = sum(1 for _ in f)
    return snapshots_of(experiment, name).taken() | {last: experiment.folder / name / "checkpoint"}


def _seed(experiment: Experiment, name: str) -> int:
    return experiment.recipe.seed if name == BASE else experiment.trials[name].seed


def _key(experiment: Experiment, name: str) -> str:
    """Return the hash of all that a point depends on: the training, and how it is measured."""
    evals, training = experiment.recipe.evals, experiment.weights
    if name != BASE:
        result = run_folders.read_result(experiment.folder / name)
        training = "" if result is None else result.key
    prompts = [p.prompt for p in experiment.prompts[: evals.kl]]
    rows = reference_logprobs.rows_key(experiment.held_out)
    variables = experiment.recipe.data.chat_template_kwargs
    given = [dict(variables)] if variables else []  # nothing without any, so that older points hold
    return key_of([training, prompts, evals.max_new_tokens, _seed(experiment, name), rows, *given])


def _known(experiment: Experiment, name: str, step: int) -> FrontierPoint | None:
    try:
        values = json.loads(point_file(experiment, name, step).read_text(encoding="utf-8"))
        same = values.pop("key") == _key(experiment, name) and "answers" in values
        return FrontierPoint(**values) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _all(experiment: Experiment, name: str) -> dict[int, FrontierPoint]:
    files = (experiment.folder / name / "frontier").glob("step-*.json")
    points = {step: _known(experiment, name, step) for step in (int(p.stem.removeprefix("step-")) for p in files)}
    return {step: point for step, point in points.items() if point is not None}


def _point(
    experiment: Experiment, name: str, step: int, base_logprobs: LogProbs | None, reader: CheckpointReader
) -> FrontierPoint:
    """Measure a point. The last point of a training reuses the numbers on the board."""
    rows, points = experiment.prompts[: experiment.recipe.evals.kl], _checkpoints(experiment, name)
    checkable, last, bf16 = all(row.checks for row in rows), step == max(points), native_bf16()

    @cache
    def model() -> Any:
        return reader.read(points[step])

    def answering() -> Any:
        return experiment.base.answering if name == BASE else experiment.answering(model(), points[step])

    reward = list[float]()
    if not checkable and base_logprobs is not None:
        measured = numbers_of(experiment, name) if last and name != BASE else None
        if name == BASE:
            margins = [0.0] * len(experiment.held_out)
        elif measured is not None:
            margins = measured.margins
        else:
            policy = logprobs_of(model(), experiment.held_out, experiment.layout, LogProbs, bf16=bf16)
            margins = preference_margins(policy, base_logprobs)
        reward = [0.5 + 0.5 * float(np.sign(v)) for v in margins]
    if last:
        samples = own_samples(experiment, name, answering, identity(experiment, name))
    else:
        samples = draw(experiment, answering(), [row.prompt for row in rows], _seed(experiment, name))
    answers = decode_answers(experiment.base.answering, experiment.tokenizer, [s.tokens for s in samples])
    if checkable:
        reward = [Verifier().score(row, answer) for row, answer in zip(rows, answers, strict=True)]
    texts = [answer.text for answer in answers]
    return FrontierPoint([s.kl for s in samples], reward, "score" if checkable else "preference_accuracy", texts)
