"""What measuring a run takes: how often models are loaded, and answers generated. Counted, not timed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prefzoo.engine import models
from prefzoo.evals.generation import generate
from prefzoo.evals.metrics import sampled_kl
from prefzoo.experiment import base_room
from prefzoo.experiment.frontier_files import point_file
from prefzoo.experiment.opening import open_experiment
from prefzoo.experiment.pipeline import run
from prefzoo.experiment.plan_types import GENERATION
from prefzoo.experiment.request import Options, Request
from prefzoo.experiment.works import Trained, works_of
from prefzoo.recipe.load import load

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-3, precision: fp32}
variants: {dpo: , ipo: , simpo: }
evals: {prompts: "instruct:eval:3", max_new_tokens: 4, frontier: 2}
"""


@pytest.mark.slow
def test_a_run_loads_and_generates_no_more_than_it_must(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.setattr(base_room, "free_memory", lambda: 1e12)
    (run_folder / "r.yaml").write_text(RECIPE)
    counts: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*args: Any, **words: Any) -> Any:
            counts[f"{module.__name__}.{name}"] += 1
            return real(*args, **words)

        monkeypatch.setattr(module, name, call)

    counted(models, "load")
    counted(generate, "sample_tokens")
    counted(sampled_kl, "sample_tokens")
    run(Request(str(run_folder / "r.yaml"), (), str(run_folder / "results")), Options(quiet=True, silent=True))
    answered, sampled = (counts[f"{module.__name__}.sample_tokens"] for module in (generate, sampled_kl))
    assert answered == 4  # the base and three policies, all prompts at once
    assert sampled == 3 + 1 + 3  # at the end of each training, of the base, and half way; no point of them twice
    # read with the recipe, for all policies and the base itself; one for all that are measured; one for all snapshots
    assert counts["prefzoo.engine.models.load"] == 1 + 1 + 1


def test_an_estimate_counts_the_samples_of_each_point_once(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_room, "free_memory", lambda: 1e12)
    (run_folder / "r.yaml").write_text(RECIPE)
    request = Request(str(run_folder / "r.yaml"), (), str(run_folder / "results"))
    experiment = open_experiment(request, load(request.recipe, ()), Console(quiet=True))
    todo = Trained(dict.fromkeys(experiment.trials, 1.0), ["base", *experiment.trials])
    answers, samples, scored = (work.units for work in works_of(experiment, None, todo) if work.row == GENERATION)
    tokens, points = 3 * 4, 3 + 1 + 3  # of all prompts, and as the test above counts them
    assert (answers, samples, scored) == (4 * tokens, points * tokens, 2 * points * tokens)

    snapshot = experiment.folder / "dpo" / "snapshots" / "step-00000001"  # a run that was killed before its points
    snapshot.mkdir(parents=True)
    done = Trained({}, [], tuple(experiment.trials))
    assert [work.units for work in works_of(experiment, None, done)] == [2 * tokens, 4 * tokens, 4]  # and of the base
    point = point_file(experiment, "dpo", 1)
    point.parent.mkdir()
    point.touch()
    assert works_of(experiment, None, done) == []
