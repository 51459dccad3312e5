"""The base stays in memory between trainings where there is room, and policies are copies of it, to the last bit."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from one_policy import train_one
from rich.console import Console
from test_frozen_bf16 import PAIRS

from prefzoo import losses
from prefzoo.engine import base_model, models
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.errors import UserError
from prefzoo.experiment import base_room, ray_executor
from prefzoo.experiment.base_room import ON_CPU, bytes_that_stay, make_room, memory_of
from prefzoo.experiment.opening import open_experiment
from prefzoo.experiment.plan_types import LOADING
from prefzoo.experiment.request import Request
from prefzoo.experiment.stages import train as train_stage
from prefzoo.experiment.stages.reference import score_references
from prefzoo.experiment.stages.train import train_trials
from prefzoo.experiment.works import Trained, works_of
from prefzoo.recipe import load as recipe_load
from prefzoo.recipe.sections import Lora, Train
from prefzoo.runtime.memory import drop_spare, spare
from prefzoo.training import oom_retry
from prefzoo.training.job import Job
from prefzoo.training.memory_model import model_shape

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, max_length: 300}
train: {batch: 4, steps: 1, learning_rate: 1e-2, precision: bf16}
variants: {dpo: , ipo: , small: {loss: dpo, train: {lora: {rank: 2}}}}
"""


def counted(model: Any) -> tuple[Callable[[], Any], list[int]]:
    """A function that loads, and a list that has an entry for each call."""
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return copy.deepcopy(model)

    return load, loads


def weights(model: Any) -> dict[str, Any]:
    """Everything of the model by name, with what tells whether it is trained, and what it is tied to."""
    parts = {name: (p.detach(), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)}
    return parts | {name: (b, False) for name, b in model.named_buffers()}


def same(one: Any, two: Any) -> bool:
    ours, theirs = weights(one), weights(two)
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name][0].dtype and torch.equal(value, theirs[name][0]) and trained == theirs[name][1]
        for name, (value, trained) in ours.items()
    )


@pytest.mark.parametrize("frozen_bf16", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_copy_is_what_loading_gives(frozen_bf16: bool, exact: bool, tied: bool, tiny_model: Any) -> None:
    if tied:
        tiny_model.config.tie_word_embeddings = True
        tiny_model.tie_weights()
    tiny_model.model.norm.weight.requires_grad_(False)
    model = tiny_model.bfloat16().float() if exact else tiny_model
    load, loads = counted(model)
    base = Base(load, frozen_bf16=frozen_bf16, loaded=load())
    base.room = 1e9
    expected = base.model(input_ids=torch.arange(9)[None]).logits if not frozen_bf16 else None
    for _ in range(2):
        policy = base.copy()
        assert same(policy, model) and type(policy) is type(model) and not policy.training
        assert (policy.lm_head.weight is policy.model.embed_tokens.weight) == tied
        with torch.no_grad():
            for p in policy.parameters():
                p.add_(1.0)
    if expected is not None:
        assert torch.equal(base.model(input_ids=torch.arange(9)[None]).logits, expected)
    assert same(base.take().requires_grad_(True), copy.deepcopy(model).requires_grad_(True)) and len(loads) == 1


@pytest.mark.parametrize("held", [False, True], ids=["alone", "in a cycle"])
def test_the_collector_visits_all_objects_only_where_something_else_holds_the_model(
    held: bool, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(tiny_model)
    if held:
        model.itself = [model]
    freed = weakref.ref(model)
    base = Base(lambda: None, loaded=model)
    del model
    base.model(input_ids=torch.arange(9)[None])
    collect, collected = gc.collect, list[int]()
    monkeypatch.setattr(gc, "collect", lambda: collected.append(collect()))
    base.drop()
    assert freed() is None and len(collected) == held
    base.drop()
    assert len(collected) == held  # nothing was left to release


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_training_of_a_copy_is_that_of_a_loaded_model(
    lora: Lora | None, bf16: bool, tiny_model: Any, tmp_path: Path
) -> None:
    loss, base = losses.get("simpo"), Base(lambda: copy.deepcopy(tiny_model), frozen_bf16=bf16)
    base.room = 1e9
    settings = Train(batch=4, steps=2, learning_rate=1e-2, precision="bf16" if bf16 else "fp32", lora=lora)
    job = Job(loss, loss.Params(), settings, 0, PAIRS, "shared", bf16=bf16)
    trained = []
    for number, load in enumerate([lambda _: copy.deepcopy(tiny_model), lambda _: base.copy()]):
        policy = load_policy(load, settings, bf16=bf16, seed=0)
        file = tmp_path / f"{number}.jsonl"
        train_one(job, policy, file)
        trained.append((file.read_text(encoding="utf-8"), policy))
    assert trained[0][0] == trained[1][0] and same(trained[0][1], trained[1][1])


def test_a_base_without_room_is_loaded_each_time(tiny_model: Any) -> None:
    load, loads = counted(tiny_model)
    base = Base(load, loaded=load())
    assert base.copy() is None and base.size and base.modules and len(loads) == 1
    size = sum(v.nbytes for v, _ in weights(tiny_model).values())
    base.room = size - 1
    for _ in range(2):
        assert base.copy() is None and len(loads) == 1
    assert base.model is not None and len(loads) == 2
    base.release()
    base.room = size
    held = base.model
    base.release()
    assert base.model is held and base.copy() is not None and len(loads) == 3
    base.room = size - 1
    base.release()
    assert base.model is not held and len(loads) == 4


def test_weights_that_bf16_holds_take_no_memory_twice(tiny_model: Any) -> None:
    bases = []
    for model in (tiny_model, copy.deepcopy(tiny_model).bfloat16().float()):
        bases.append(Base(lambda model=model: copy.deepcopy(model), frozen_bf16=True))
        bases[-1].room = 1e9
        assert bases[-1].copy() is not None
    rounded, exact = (base._original.size(base.model) for base in bases)
    linear = sum(m.weight.numel() for m in tiny_model.modules() if type(m) is torch.nn.Linear)
    assert rounded - exact == 4 * linear


def test_answers_leave_the_base_as_it_was(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_model, "native_bf16", lambda: True)
    load, loads = counted(tiny_model)
    base = Base(load)
    base.room = 1e9
    held = base.model
    assert base.answering.dtype == torch.bfloat16 and base.model is held and same(base.copy(), tiny_model)
    assert not any(p.requires_grad for p in base.answering.parameters()) and len(loads) == 1


# when it stays


def room_of(
    monkeypatch: pytest.MonkeyPatch, model: Any, *, device: str = "cpu", free: float = 1e12, need: float | None = 3e9,
    processes: int = 1, trials: int = 3, start: str = "", trained: int = 3,
) -> float:  # fmt: skip
    base = Base(lambda: model, loaded=model)
    base.room = 7.0
    these = {f"t{i}": SimpleNamespace(arm=f"t{i}") for i in range(trials)}
    monkeypatch.setattr(base_room, "device_type", lambda: device)
    monkeypatch.setattr(base_room, "process_count", lambda: processes)
    monkeypatch.setattr(base_room, "free_memory", lambda: free)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free - 1e9, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1e9)
    needs = None if need is None else SimpleNamespace(most=need)
    monkeypatch.setattr(base_room, "memory_of", lambda *_: needs)
    experiment: Any = SimpleNamespace(base=base, trials=these, start=start)
    make_room(experiment, list(these.values())[:trained])
    return base.room


@pytest.mark.parametrize(
    ("settings", "room"),
    [
        ({}, ON_CPU), ({"free": 4e9}, 0.9 * 4e9 - 3e9), ({"free": 3e9}, 0), ({"processes": 2}, 0), ({"trials": 1}, 0),
        ({"start": "of the round before"}, 0), ({"need": None}, 0), ({"trained": 0}, 0),
        ({"device": "cuda", "free": 80e9}, 0.9 * 80e9 - 3e9), ({"device": "cuda", "free": 3e9}, 0),
        ({"device": "cuda", "free": 80e9, "processes": 2}, 0.9 * 80e9 - 3e9),
    ],
    ids=str,
)  # fmt: skip
def test_the_room_is_what_trainings_leave(
    settings: dict[str, Any], room: float, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert room_of(monkeypatch, tiny_model, **settings) == pytest.approx(room)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_have_no_copies(kind: str, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    assert room_of(monkeypatch, tiny_model, device="cuda", free=80e9) == 0


def test_a_new_policy_needs_fp32_weights_for_a_moment(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fp32 = 4.0 * model_shape(tiny_model.config).parameters
    assert room_of(monkeypatch, tiny_model, device="cuda", free=2e9, need=0.0) == pytest.approx(1.8e9 - fp32)


# in a run


@pytest.fixture
def opened(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A function that opens the recipe with results in a folder of that name."""
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setattr(base_room, "free_memory", lambda: 1e12)

    def _open(results: str) -> Any:
        request = Request(str(run_folder / "r.yaml"), (), str(run_folder / results))
        recipe = recipe_load.load(request.recipe, request.overrides)
        return open_experiment(request, recipe, Console(quiet=True))

    return _open


@pytest.mark.slow
def test_three_variants_are_loaded_once(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, real = [], models.load
    monkeypatch.setattr(models, "load", lambda *a, **k: loads.append(1) or real(*a, **k))
    results = {}
    for name, count in (("copied", 1), ("loaded", 4)):
        loads.clear()
        experiment = opened(name)
        experiment.base.may_stay = name == "copied"
        for trial in experiment.trials:
            assert not train_trials(experiment, [trial])[trial].kept
        assert len(loads) == count
        results[name] = {
            file.relative_to(experiment.folder): file.read_bytes()
            for file in sorted(experiment.folder.glob("*/**/*"))
            if file.name in ("metrics.jsonl", "model.safetensors", "adapter_model.safetensors")
        }
    assert len(results["copied"]) == 6 and results["copied"] == results["loaded"]


def test_references_leave_the_base_in_memory(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened("results")
    score_references(experiment)
    monkeypatch.setattr(models, "load", None)
    assert experiment.load_base() is not None


def test_the_formula_knows_every_trial_of_a_recipe(opened: Any) -> None:
    experiment = opened("results")
    needs = [memory_of(experiment, trial) for trial in experiment.trials.values()]
    assert all(need is not None and need.most > 0 for need in needs)


def test_an_estimate_counts_the_base_that_stays_once(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened("results")
    todo = Trained(dict.fromkeys(experiment.trials, 1.0), ["base", *experiment.trials])
    size = 4.0 * model_shape(experiment.base.config).parameters
    for free, held, starts in ((1e12, size, 1), (1.0, 0.0, 3)):
        monkeypatch.setattr(base_room, "free_memory", lambda free=free: free)
        loads = next(work.units for work in works_of(experiment, None, todo) if work.row == LOADING)
        assert bytes_that_stay(experiment) == held and loads == starts + 2 * 3 + 4


def test_a_worker_keeps_no_base_beside_a_training(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, request = opened("results"), Request("r.yaml", (), "results")
    monkeypatch.setattr(ray_executor, "open_experiment", lambda *_: experiment)
    monkeypatch.setattr(ray_executor, "load_checked", lambda *_: None)
    monkeypatch.setattr(ray_executor, "_OPENED", {})
    assert ray_executor._open_in_worker(request, quiet=True) is experiment
    make_room(experiment, list(experiment.trials.values()))
    assert experiment.base.room == 0


# where memory runs out


def test_a_step_without_memory_is_repeated_without_the_base(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In passes of the same size, so that the training is the same to the last bit."""
    loss, settings = losses.get("simpo"), Train(batch=4, steps=2, learning_rate=1e-2, precision="fp32")
    job = Job(loss, loss.Params(), settings, 0, PAIRS, "shared", bf16=False)
    train_one(job, copy.deepcopy(tiny_model), tmp_path / "whole.jsonl")
    base, real, tries = Base(lambda: copy.deepcopy(tiny_model)), oom_retry.backward, []
    base.room = 1e9
    policy = base.copy()

    def short(context: Any) -> Any:
        tries.append(context.halvings)
        if base._model is not None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(context)

    monkeypatch.setattr(oom_retry, "backward", short)
    with spare(base.give_up):
        train_one(job, policy, tmp_path / "short.jsonl")
    assert tries == [0, 0, 0] and not base.may_stay
    line = "simpo: out of memory at step 1; the untrained model leaves memory, and the step is repeated\n"
    assert capsys.readouterr().out == line
    assert (tmp_path / "short.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not drop_spare(), "nothing is left of the training's"


@pytest.mark.slow
def test_a_training_without_memory_starts_again_without_the_base(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its optimiser's moments did not fit, say."""
    experiment, real, held = opened("results"), train_stage.train, []

    def short(*args: Any) -> Any:
        held.append(experiment.base._model is not None)
        if held[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*args)

    monkeypatch.setattr(train_stage, "train", short)
    train_trials(experiment, ["dpo"])
    train_trials(experiment, ["ipo"])
    assert held == [True, False, False] and experiment.base.room == 0


def test_a_copy_that_does_not_fit_is_loaded(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened("results")
    make_room(experiment, list(experiment.trials.values()))

    def full() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(experiment.base, "copy", full)
    assert same(experiment.load_base(), models.load("model", experiment.recipe.folder)[0])
    assert not experiment.base.may_stay


def test_other_errors_of_a_copy_are_raised(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened("results")

    def broken() -> Any:
        raise UserError("no")

    monkeypatch.setattr(experiment.base, "copy", broken)
    with pytest.raises(UserError, match="^no$"):
        experiment.load_base()
