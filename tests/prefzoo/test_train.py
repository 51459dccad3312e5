"""The loop: TRL's numbers step by step, invariances, the self-test at step 0, and no branch on a loss's name."""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from prefzoo import losses, reference
from prefzoo import train as train_module
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.recipe import Train
from prefzoo.train import Job, schedule, train
from prefzoo.types import LogProbs


def random_pairs(count: int = 12) -> list[TokenPair]:
    gen = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 9, (count, 3), generator=gen).tolist()
    return [
        TokenPair(*(torch.randint(2, 258, (n,), generator=gen).tolist() for n in row), i)
        for i, row in enumerate(lengths)
    ]


def job(model: Any, name: str = "dpo", *, shared: bool = True, **settings: Any) -> Job:
    found = losses.get(name)
    how = Train(**{"batch": 4, "steps": 6, "learning_rate": 1e-3, "precision": "fp32", **settings})
    pairs = random_pairs()
    values = reference.logprobs(model, pairs, shared=shared, bf16=False) if found.needs_reference else None
    return Job(found, found.Params(), how, 0, pairs, values, shared=shared, bf16=False)


def run(model: Any, this: Job, tmp_path: Path) -> list[dict[str, float]]:
    train(this, copy.deepcopy(model), tmp_path / "metrics.jsonl", lambda done, total, note: None)
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def close(one: list[dict[str, float]], two: list[dict[str, float]], rel: float) -> None:
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"rewards/accuracies"}:  # at the first step every pair is a tie, up to rounding
            assert a[name] == pytest.approx(b[name], rel=rel, abs=1e-4), name


FED = [found.name for found in losses.all_losses() if set(found.needs.values()) == {LogProbs} and not found.state_type]

NOT_DOWNHILL = {"discopop"}  # its minimum lies just beside the start: a step of this size oversteps it


@pytest.mark.parametrize("name", FED)
def test_every_loss_trains_and_starts_where_it_must(name: str, tiny_model: Any, tmp_path: Path) -> None:
    found = run(tiny_model, job(tiny_model, name, steps=9), tmp_path)
    assert len(found) == 9 and (found[-1]["loss"] < found[0]["loss"] or name in NOT_DOWNHILL)
    assert found[-1]["logps/chosen"] != found[0]["logps/chosen"]


def test_accumulation_changes_nothing(tiny_model: Any, tmp_path: Path) -> None:
    whole = run(tiny_model, job(tiny_model), tmp_path)
    close(whole, run(tiny_model, job(tiny_model, micro_batch=1), tmp_path), rel=1e-3)


def test_sharing_prompts_changes_nothing(tiny_model: Any, tmp_path: Path) -> None:
    whole = run(tiny_model, job(tiny_model), tmp_path)
    close(whole, run(tiny_model, job(tiny_model, shared=False), tmp_path), rel=1e-3)


def test_a_reference_of_other_weights_is_caught_at_the_first_step(tiny_model: Any, tmp_path: Path) -> None:
    this = job(tiny_model)
    with torch.no_grad():
        next(tiny_model.parameters()).mul_(3)
    with pytest.raises(UserError, match=r"the first loss is .* it must be 0\.693147"):
        run(tiny_model, this, tmp_path)


def test_a_loss_that_becomes_nan_stops_the_run(tiny_model: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        next(tiny_model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="the loss is nan at step 1"):
        run(tiny_model, job(tiny_model, "simpo"), tmp_path)


def test_schedules() -> None:
    how = Train(warmup=0.2, schedule="linear")
    assert [schedule(how, s, 10) for s in (0, 1, 2, 6)] == [0.5, 1.0, 1.0, 0.5]  # 2 of 10 warm up, 8 go down
    assert schedule(Train(warmup=0.0, schedule="cosine"), 5, 10) == pytest.approx(0.5)
    assert schedule(Train(warmup=0.0, schedule="constant"), 9, 10) == 1.0


def test_the_loop_never_asks_for_a_name() -> None:
    tree = ast.parse(Path(str(train_module.__file__)).read_text())
    names = set(losses.names())
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            said = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
            assert not said & names, ast.unparse(node)
