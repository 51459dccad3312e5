"""A training step waits for a GPU once, and what it sends there goes through pinned memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_device import waits
from emulated_gpu import emulated_gpu
from first_fast import first_fast
from one_policy import train_one
from test_engine import random_pairs

from prefzoo import losses
from prefzoo.data.tokens import TokenAnswer
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.recipe.sections import Lora, Train
from prefzoo.training.job import Job, with_reference
from prefzoo.types import to_device

STEPS = 3


def job_of(loss: str, model: Any, examples: Any, **settings: Any) -> Job:
    train = Train(batch=4, steps=STEPS, learning_rate=1e-3, **{"precision": "bf16"} | settings)
    chosen = losses.get(loss)
    job = Job(chosen, chosen.Params(), train, 0, examples, "shared", bf16=train.precision == "bf16")

    def frozen(rows: Any, title: str, kind: Any, passes: Any) -> Any:
        return reference_logprobs.logprobs(model, rows, "shared", kind, bf16=job.bf16, passes=passes[0])

    return with_reference(job, Base(lambda: model), frozen)


def waits_of(job: Job, model: Any, folder: Path) -> list[str]:
    model.requires_grad_(True)
    if job.train.lora is not None:
        model = models.add_lora(model, rank=2, alpha=4.0, dropout=0.0, targets="all-linear", seed=0)
    with emulated_gpu(), waits(model) as mode:
        train_one(job, model, folder / "metrics.jsonl")
    return mode.lines


@pytest.mark.parametrize(
    "settings", first_fast([{}, {"lora": Lora(rank=2)}, {"micro_batch": 2}, {"precision": "fp32"}]), ids=str
)
def test_a_step_waits_once(settings: dict[str, Any], tiny_model: Any, tmp_path: Path) -> None:
    job = job_of("dpo", tiny_model, random_pairs(), **settings)
    lines = waits_of(job, tiny_model, tmp_path)
    assert len(lines) == STEPS and len(set(lines)) == 1, lines


@pytest.mark.parametrize("name", first_fast(["kto", "simpo", "tdpo2", "bco", "gamma_dpo", "beta_dpo", "sampo"]))
def test_losses_of_every_kind_wait_once(name: str, tiny_model: Any, tmp_path: Path) -> None:
    lines = waits_of(job_of(name, tiny_model, random_pairs()), tiny_model, tmp_path)
    assert len(lines) == STEPS, lines


@pytest.mark.slow
def test_single_answers_wait_once(tiny_model: Any, tmp_path: Path) -> None:
    answers = [TokenAnswer(p.prompt, p.chosen, bool(p.row % 2), p.row) for p in random_pairs()]
    assert len(waits_of(job_of("kto", tiny_model, answers), tiny_model, tmp_path)) == STEPS


def test_the_emulation_sees_waits(tiny_model: Any) -> None:
    weight = tiny_model.get_output_embeddings().weight
    with waits(tiny_model) as mode:
        float(weight.detach().sum())
        weight.sum().cpu()
        weight[weight > 0]
        weight + torch.tensor([1.0])
        assert len(mode.lines) == 4
        weight + to_device([torch.tensor([1.0])], "cpu")[0]
        torch.tensor([1.0]).tolist()
        weight * 2.0 + torch.ones(1)
        assert len(mode.lines) == 4
