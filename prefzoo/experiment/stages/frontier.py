"""The frontier stage of `prefzoo run`: KL and reward of every snapshot, none of them twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16
from prefzoo.evals.boards.leaderboard import BASE
from prefzoo.evals.generation.generate import decode_answers
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics import frontier
from prefzoo.evals.metrics.frontier import FrontierPoint
from prefzoo.evals.metrics.sampled_kl import kl, sampled
from prefzoo.experiment.context import Run
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.distributed import broadcast, process_state, shard
from prefzoo.runtime.progress import stage
from prefzoo.training.snapshots import Snapshots
from prefzoo.types import LogProbs

FILE = "frontier.csv"


def snapshots_of(run: Run, name: str) -> Snapshots:
    """Where a variant's copies are, while they are needed."""

    def save(model: Any, folder: Path) -> None:
        models.save(model, run.tokenizer, folder, main=process_state().is_main_process)

    points = run.recipe.evals.frontier if run.prompts else 0  # a trial whose setting may never be chosen has none
    return Snapshots(run.folder / name / "snapshots", points, save)


def write_frontier(run: Run, base: Base, trained: Mapping[str, run_folders.RunResult], theirs: LogProbs | None) -> None:
    """Measure what is not measured yet, write `frontier.csv`, and remove the copies. All processes call this."""
    if not run.recipe.evals.frontier or not run.prompts:
        return
    keys = {BASE: run.weights, **{name: result.key for name, result in trained.items()}}
    todo = broadcast([(n, step) for n in keys for step in _steps(run, n) if _known(run, n, step, keys[n]) is None])
    for name, step in shard(todo):
        model = base.model
        if name != BASE:
            place = str(_steps(run, name)[step].resolve())
            model = models.load(place, Path(), trust=run.recipe.trust_remote_code)[0].to(base.model.device)
        with stage(f"frontier of {name}, step {step}", "points", run.console, variant=name, activity="frontier"):
            point = _point(run, model, base.model, theirs)
        run_folders.write_json(_file(run, name, step), {"key": _key(run, keys[name]), **asdict(point)})
    process_state().wait_for_everyone()
    if process_state().is_main_process:
        start = _all(run, BASE, keys[BASE])
        points = {name: start | _all(run, name, keys[name]) for name in trained}
        run_folders.write_text(run.folder / FILE, frontier.table(points).to_csv(index=False))
        for name in trained:
            if len(points[name]) <= run.recipe.evals.frontier:  # with the base's
                run.console.print(f"{name}: trained without all snapshots of evals.frontier; --fresh takes them")
            snapshots_of(run, name).remove()


def _steps(run: Run, name: str) -> dict[int, Path]:
    """The snapshots, and the end of the training by its checkpoint; the base is where all start."""
    if name == BASE:
        return {0: Path()}
    with (run.folder / name / "metrics.jsonl").open(encoding="utf-8") as f:
        last = sum(1 for _ in f)
    return snapshots_of(run, name).taken() | {last: run.folder / name / "checkpoint"}


def _file(run: Run, name: str, step: int) -> Path:
    return run.folder / name / "frontier" / f"step-{step:08d}.json"


def _key(run: Run, training: str) -> str:
    evals = run.recipe.evals
    prompts = [p.prompt for p in run.prompts[: evals.kl]]
    return key_of([training, prompts, evals.max_new_tokens, run.recipe.seed, reference_logprobs.rows_key(run.held_out)])


def _known(run: Run, name: str, step: int, training: str) -> FrontierPoint | None:
    try:
        found = json.loads(_file(run, name, step).read_text(encoding="utf-8"))
        return FrontierPoint(**found) if found.pop("key") == _key(run, training) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _all(run: Run, name: str, training: str) -> dict[int, FrontierPoint]:
    steps = [int(p.stem.removeprefix("step-")) for p in (run.folder / name / "frontier").glob("step-*.json")]
    found = {step: _known(run, name, step, training) for step in steps}
    return {step: point for step, point in found.items() if point is not None}


def _point(run: Run, model: Any, base: Any, theirs: LogProbs | None) -> FrontierPoint:
    bf16, rows = native_bf16(), run.prompts[: run.recipe.evals.kl]
    reward: list[float] = []
    checkable = all(row.checks for row in rows)
    if not checkable and theirs is not None:
        ours = theirs if model is base else reference_logprobs.logprobs(model, run.held_out, run.layout, bf16=bf16)
        reward = [0.5 + 0.5 * float(torch.sign(v)) for v in ours.margin - theirs.margin]
    if bf16:
        model, base = model.to(torch.bfloat16), base.to(torch.bfloat16)
    drawn = sampled(model, run.tokenizer, [r.prompt for r in rows], run.recipe.evals.max_new_tokens, run.recipe.seed)
    if checkable:
        answers = decode_answers(model, run.tokenizer, [s.completion for s in drawn])
        reward = [Verifier().score(row, answer) for row, answer in zip(rows, answers, strict=True)]
    metric = "score" if checkable else "preference_accuracy"
    return FrontierPoint(kl(model, base, drawn, run.layout, bf16=bf16), reward, metric)
