"""The loop: TRL's numbers step by step, invariances, the self-test at step 0, and no branch on a loss's name."""

from __future__ import annotations

import ast
import copy
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from one_policy import train_one
from zoo_inputs import named

from prefzoo import losses, training
from prefzoo.data.batches import Layout, order
from prefzoo.data.tokens import TokenAnswer, TokenExample, TokenPair
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.errors import VariantFailed
from prefzoo.recipe.sections import Train
from prefzoo.training.job import Job, with_reference
from prefzoo.training.member import schedule
from prefzoo.training.passes import Passes, scoring_passes
from prefzoo.types import LogProbs


def random_pairs(count: int = 12) -> list[TokenPair]:
    gen = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 9, (count, 3), generator=gen).tolist()
    return [
        TokenPair(
            *(torch.randint(2, 258, (n,), generator=gen).tolist() for n in row),
            i,
            scores=(0.5 + i % 3, 0.0),
            quantiles=(1.0, 0.25),
        )
        for i, row in enumerate(lengths)
    ]


def job(
    model: Any,
    name: str = "dpo",
    *,
    layout: Layout = "shared",
    pairs: Sequence[TokenExample] | None = None,
    together: int = 1,
    **settings: Any,
) -> Job:
    loss = named(name)
    train = Train(**{"batch": 4, "steps": 6, "learning_rate": 1e-3, "precision": "fp32", **settings})
    prepared = Job(loss, loss.Params(), train, 0, pairs or random_pairs(), layout, bf16=False)

    def frozen(rows: Sequence[TokenExample], use: str, kind: type[LogProbs], passes: list[Passes]) -> LogProbs:
        return reference_logprobs.logprobs(model, rows, layout, kind, bf16=False, passes=passes[0])

    return with_reference(prepared, Base(lambda: copy.deepcopy(model)), frozen, together=together)


def run(model: Any, this: Job, tmp_path: Path) -> list[dict[str, float]]:
    train_one(this, copy.deepcopy(model), tmp_path / "metrics.jsonl")
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def close(one: list[dict[str, float]], two: list[dict[str, float]], rel: float) -> None:
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"rewards/accuracies"}:  # at the first step every pair is a tie, up to rounding
            assert a[name] == pytest.approx(b[name], rel=rel, abs=1e-4), name


QUICK = {"dpo", "kto", "tdpo2"}  # pairs, single answers, and scores over the vocabulary


def mostly_slow(names: Iterable[str]) -> list[Any]:
    """Parameters of a test that trains: losses that need what others need, too, are slow tests."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


STORED = Path(__file__).parent / "trajectories.json"  # made by: PREFZOO_STORE=1 pytest tests/prefzoo/test_train.py
MODIFIED = ("dpo with dr", "dpo with kl", "dpo with humanline", "kto with humanline", "simpo + 0.2*sft with dr")
NOT_DOWNHILL = {"discopop"}  # its minimum lies just beside the start: a step of this size oversteps it


@pytest.mark.parametrize("name", mostly_slow([*losses.names(), *MODIFIED]))
def test_every_loss_trains_as_it_did(name: str, tiny_model: Any, tmp_path: Path) -> None:
    """20 steps on a tiny model: it starts where it must, moves, goes down, and no number has moved in silence."""
    trained = run(tiny_model, job(tiny_model, name, steps=20), tmp_path)
    assert trained[-1]["logps/chosen"] != trained[0]["logps/chosen"]
    first, last = (
        sum(m["loss"] for m in part) for part in (trained[:3], trained[-3:])
    )  # three steps: all twelve pairs
    assert last < first or name in NOT_DOWNHILL
    trajectory = [[m["loss"], m["logps/chosen"], m["logps/rejected"]] for m in trained]
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if os.environ.get("PREFZOO_STORE"):
        stored[name] = [[float(f"{v:.6g}") for v in step] for step in trajectory]
        STORED.write_text("{\n" + ",\n".join(f'"{n}": {json.dumps(stored[n])}' for n in sorted(stored)) + "\n}\n")
    for step, (now, then) in enumerate(zip(trajectory, stored[name], strict=True)):
        assert now == pytest.approx(then, rel=2e-3, abs=2e-3), f"step {step + 1}; if this is meant, say why"


# not beta_dpo: at the first step all margins are zero up to rounding, which then decides which pairs it keeps
ACCUMULATED = (
    "dpo", "kto", "aot", "bco_pair_shift", "bco", "alpha_dpo", "tdpo2", "wpo", "sampo", "gamma_simpo", "ld_dpo + aot",
    "tdpo2 + 0.1*aot", "dpo with humanline and dr", "kto with humanline", "simpo + 0.2*sft with humanline and kl",
)  # fmt: skip


@pytest.mark.parametrize("name", mostly_slow(ACCUMULATED))
def test_accumulation_changes_nothing(name: str, tiny_model: Any, tmp_path: Path) -> None:
    whole = run(tiny_model, job(tiny_model, name), tmp_path)
    close(whole, run(tiny_model, job(tiny_model, name, micro_batch=1), tmp_path), rel=1e-3)


def answers() -> list[TokenAnswer]:
    """Single labelled answers: the chosen ones good, the rejected ones not."""
    pairs = random_pairs()
    good = [TokenAnswer(p.prompt, p.chosen, True, 2 * p.row) for p in pairs]
    return [*good, *(TokenAnswer(p.prompt, p.rejected, False, 2 * p.row + 1) for p in pairs)]


SMALL_STEPS = {"rdro": 3e-4}  # its minimum is a nat or less from the start: larger steps overstep it


@pytest.mark.parametrize("name", mostly_slow(x.name for x in losses.all_losses() if x.unpaired))
def test_single_answers_train(name: str, tiny_model: Any, tmp_path: Path) -> None:
    rate = SMALL_STEPS.get(name, 3e-3)
    trained = run(tiny_model, job(tiny_model, name, pairs=answers(), steps=12, learning_rate=rate), tmp_path)
    assert "rewards/accuracies" not in trained[-1]
    assert trained[-1]["loss"] < trained[0]["loss"]
    whole = run(tiny_model, job(tiny_model, name, pairs=answers()), tmp_path)
    close(whole, run(tiny_model, job(tiny_model, name, pairs=answers(), micro_batch=2), tmp_path), rel=1e-3)


def test_a_reference_that_follows_the_policy(tiny_model: Any, tmp_path: Path) -> None:
    still = run(tiny_model, job(tiny_model, steps=4), tmp_path)
    moved = run(tiny_model, job(tiny_model, steps=4, sync_reference={"alpha": 1.0, "every": 2}), tmp_path)
    assert [m["loss"] for m in moved[:2]] == pytest.approx([m["loss"] for m in still[:2]], abs=1e-5)
    assert moved[2]["loss"] == pytest.approx(0.693147, abs=1e-5)  # alpha 1: the reference is the policy again
    assert still[2]["loss"] != pytest.approx(0.693147, abs=1e-3)


def test_a_reference_that_follows_is_nothing_to_a_loss_without_one(tiny_model: Any, tmp_path: Path) -> None:
    assert len(run(tiny_model, job(tiny_model, "simpo", sync_reference={"every": 1}), tmp_path)) == 6


@pytest.mark.slow
def test_computing_activations_twice_changes_nothing(tiny_model: Any, tmp_path: Path) -> None:
    passes = []
    tiny_model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    once = run(tiny_model, job(tiny_model), tmp_path)
    forwards = len(passes)
    twice = run(tiny_model, job(tiny_model, gradient_checkpointing=True), tmp_path)
    assert twice == once
    assert len(passes) == 2 * forwards + 6  # of six steps, each forward is done again in the backward


def test_dropout_is_the_same_when_rows_that_see_each_other_are_scored_twice(tiny_model: Any, tmp_path: Path) -> None:
    """aot's gradient is taken at the log-probs of a first pass; the second must drop out the same."""
    seen: list[torch.Tensor] = []
    lora = {"rank": 2, "dropout": 0.5, "targets": ["q_proj"]}
    this = job(tiny_model, "aot", micro_batch=2, steps=1, lora=lora)
    policy = models.add_lora(copy.deepcopy(tiny_model), rank=2, alpha=4.0, dropout=0.5, targets=["q_proj"], seed=0)
    dropout = next(m for m in policy.modules() if isinstance(m, torch.nn.Dropout))
    dropout.register_forward_hook(lambda module, args, out: seen.append(out.detach() == 0))
    train_one(this, policy, tmp_path / "metrics.jsonl")
    assert [torch.equal(seen[i], seen[i + 2]) for i in (0, 1)] == [True, True] and len(seen) == 4


def test_sharing_prompts_changes_nothing(tiny_model: Any, tmp_path: Path) -> None:
    whole = run(tiny_model, job(tiny_model), tmp_path)
    close(whole, run(tiny_model, job(tiny_model, layout="rows"), tmp_path), rel=1e-3)


def test_a_reference_of_other_weights_is_caught_at_the_first_step(tiny_model: Any, tmp_path: Path) -> None:
    this = job(tiny_model)
    with torch.no_grad():
        next(tiny_model.parameters()).mul_(3)
    with pytest.raises(VariantFailed, match=r"log-probs, but they are [\d.]+ nats apart \(fp32 explains 0\.001"):
        run(tiny_model, this, tmp_path)


@pytest.mark.parametrize("name", ["ipo", "kto", "aot"])
def test_the_reference_is_scored_in_the_passes_of_the_training(name: str, tiny_model: Any, tmp_path: Path) -> None:
    """Kernels may round differently for other sizes; the first margin is zero even so, to the last bit."""
    for layer in tiny_model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda layer, x, y: y * (1 + 1e-2 * (x[0].numel() // x[0].shape[-1] % 7)))
    first = run(tiny_model, job(tiny_model, name, micro_batch=2), tmp_path)[0]
    assert first["rewards/margins"] == 0 and first["rewards/chosen"] == 0
    assert first["rewards/accuracies"] == 0.5  # a tie counts as half


def test_passes_of_later_epochs_are_not_scored_again() -> None:
    pairs, train = random_pairs(6), Train(batch=4, micro_batch=2)
    parts = scoring_passes(train, pairs, order(6, 4, 6, 0), "cpu", 1, 1)[0]
    assert sorted({i for part in parts for i in part}) == list(range(6)) and len(parts) <= 4
    two = scoring_passes(train, pairs, order(6, 4, 1, 0), "cpu", 2, 1)
    assert two == [[order(6, 4, 1, 0)[0][rank::2]] for rank in range(2)]


def test_dropout_of_the_model_is_off_unless_asked_for(tiny_model: Any, tmp_path: Path) -> None:
    for layer in tiny_model.model.layers:
        layer.self_attn.attention_dropout = 0.5
        layer.self_attn.o_proj = torch.nn.Sequential(layer.self_attn.o_proj, torch.nn.Dropout(0.5)).eval()
    for dropout in ("off", "model"):
        this = job(tiny_model, dropout=dropout)
        policy = load_policy(lambda _: copy.deepcopy(tiny_model), this.train, bf16=False, seed=0)
        train_one(this, policy, tmp_path / "metrics.jsonl")
        first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
        assert (first["rewards/margins"] == 0) == (dropout == "off")


def test_a_loss_whose_formula_disagrees_with_its_start_fails(tiny_model: Any, tmp_path: Path) -> None:
    this = job(tiny_model)
    wrong = replace(this, loss=replace(this.loss, at_reference=lambda params: 3.0))
    with pytest.raises(VariantFailed, match=r"the first loss is 0\.693147, but at policy = reference it must be 3\.0"):
        run(tiny_model, wrong, tmp_path)


def test_a_loss_that_becomes_nan_stops_the_run(tiny_model: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        next(tiny_model.parameters()).fill_(float("nan"))
    with pytest.raises(VariantFailed, match="the loss is nan at step 1") as caught:
        run(tiny_model, job(tiny_model, "simpo"), tmp_path)
    assert caught.value.step == 1


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_lost(tiny_model: Any, tmp_path: Path) -> None:
    policy = copy.deepcopy(tiny_model)
    weight = policy.model.norm.weight
    weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(VariantFailed, match="the gradient's norm is (nan|inf) at step 1"):
        train_one(job(tiny_model), policy, tmp_path / "metrics.jsonl")
    assert all(bool(torch.isfinite(p).all()) for p in policy.parameters())


def test_schedules() -> None:
    train = Train(warmup=0.2, schedule="linear")
    assert [schedule(train, s, 10) for s in (0, 1, 2, 6)] == [0.5, 1.0, 1.0, 0.5]  # 2 of 10 warm up, 8 go down
    assert schedule(Train(warmup=0.0, schedule="cosine"), 5, 10) == pytest.approx(0.5)
    assert schedule(Train(warmup=0.0, schedule="constant"), 9, 10) == 1.0


def test_the_loop_never_asks_for_a_name() -> None:
    names = set(losses.names())
    for file in Path(training.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                assert not constants & names, f"{file.name}: {ast.unparse(node)}"


def test_numbers_go_to_a_tracker(tiny_model: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = run(tiny_model, job(tiny_model, steps=3, trackers=["tensorboard"]), tmp_path)
    events = min(tmp_path.rglob("events.*"), key=lambda f: len(f.parts))  # the settings lie in a folder below
    result = EventAccumulator(str(events.parent)).Reload().Scalars("rewards/margins")
    assert [e.step for e in result] == [1, 2, 3]
    assert result[-1].value == pytest.approx(written[-1]["rewards/margins"], abs=1e-6)


@pytest.mark.parametrize("breaks", [False, True])
def test_trackers_are_told_the_variant_and_ended(
    breaks: bool, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for wandb, in its place among Accelerate's."""
    from accelerate import accelerator, tracking
    from accelerate.utils import LoggerType

    heard: list[Any] = []

    class Stand(tracking.GeneralTracker):
        name, requires_logging_directory, tracker = "wandb", False, None

        def __init__(self, run_name: str, **kwargs: Any) -> None:
            super().__init__()
            heard.append((run_name, kwargs))

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            heard.append(values)

        def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
            heard.append(step)

        def finish(self) -> None:
            heard.append("finished")

    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setitem(accelerator.LOGGER_TYPE_TO_CLASS, "wandb", Stand)
    this = job(tiny_model, "simpo", steps=2, trackers=["wandb"])
    if breaks:
        with torch.no_grad():
            next(tiny_model.parameters()).fill_(float("nan"))
        with pytest.raises(VariantFailed):
            run(tiny_model, this, tmp_path / "mine" / "dpo")
    else:
        run(tiny_model, this, tmp_path / "mine" / "dpo")
    assert heard[0] == ("prefzoo", {"name": "dpo", "group": "mine"}) and heard[1]["loss"] == "simpo"
    assert heard[2:] == ([] if breaks else [1, 2]) + ["finished"]


def test_variants_of_different_precision_follow_each_other(tiny_model: Any, tmp_path: Path) -> None:
    run(tiny_model, job(tiny_model), tmp_path)
    other = replace(job(tiny_model), bf16=True)
    assert len(run(tiny_model, other, tmp_path)) == 6
