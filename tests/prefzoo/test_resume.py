"""A training that was stopped goes on bit for bit; what cannot be gone on from is said in one line and not read."""

from __future__ import annotations

import copy
import json
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from one_policy import train_one
from test_train import job

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import models
from prefzoo.runtime import atomic_files, signals
from prefzoo.runtime.signals import Interrupted
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.job import Job, with_twin

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.3, "targets": ["q_proj", "v_proj"]}


class Killed(BaseException):
    """Nothing in the loop may catch it, as nothing can catch a SIGKILL."""


def policy(model: Any, this: Job) -> Any:
    copied = copy.deepcopy(model)
    return (
        models.add_lora(copied, **this.train.lora.model_dump(exclude={"quantize"}), seed=0)
        if this.train.lora
        else copied
    )


def run(model: Any, this: Job, folder: Path, *, until: int = 0, stop: Any = None, every: float = 0.0) -> dict[str, Any]:
    """Trains, `how` being done when `until` steps are; gives the weights, the metrics and what was said."""
    lines: list[str] = []
    kept = Checkpoints(folder / "resume", "key", every, lines.append)

    def report(done: int, total: int, note: str) -> None:
        if done == until * this.train.batch:
            stop()

    member = policy(model, this)
    with suppress(Killed):
        this = with_twin(replace(this, live=copy.deepcopy(this.live)), member)
        train_one(this, member, folder / "metrics.jsonl", report, kept)
    weights = {name: p.detach().clone() for name, p in member.named_parameters()}
    return {"weights": weights, "log": (folder / "metrics.jsonl").read_bytes(), "said": lines, "kept": kept}


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["log"] == two["log"]
    assert all(torch.equal(value, two["weights"][name]) for name, value in one["weights"].items())


CASES: list[tuple[str, dict[str, Any]]] = [
    ("bco_pair_shift", {}),
    ("kto", {"lora": LORA, "sync_reference": {"alpha": 0.5, "every": 2}}),
]
MORE_CASES: list[tuple[str, dict[str, Any]]] = [
    ("dpo", {}),
    ("beta_dpo", {"micro_batch": 2}),
    ("sampo", {}),
    ("gamma_simpo", {}),  # its state grows
    ("bco_pair_shift with humanline and kl", {"micro_batch": 2}),
    ("kto", {}),
    ("tdpo2", {}),
    ("dpo", {"lora": LORA}),
    ("dpo", {"sync_reference": {"alpha": 0.5, "every": 2}}),
    ("tdpo2", {"sync_reference": {"alpha": 0.5, "every": 2}}),
    ("dpo with humanline", {"sync_reference": {"alpha": 1.0, "every": 1, "when": "before"}}),
    ("dpo", {"sync_reference": {"every": 2, "bema": {"lag": 1}}}),
    ("tdpo2", {"lora": LORA, "sync_reference": {"every": 2, "bema": {}}}),
    ("simpo", {"weight_decay": 0.1, "micro_batch": 1}),
]


@pytest.mark.parametrize(
    ("name", "settings"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_CASES)],
    ids=lambda case: case if isinstance(case, str) else ",".join(case),
)
def test_a_killed_training_goes_on_bit_for_bit(
    name: str, settings: dict[str, Any], tiny_model: Any, tmp_path: Path
) -> None:
    this = job(tiny_model, name, **settings)
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    for step in (1, 3, 5):  # three times, so that a resumed run is resumed as well
        run(tiny_model, this, tmp_path / "parts", until=step + 1, stop=kill)
    last = run(tiny_model, this, tmp_path / "parts")
    assert last["said"] == ["resuming after step 5 of 6"]
    same(whole, last)


@pytest.mark.slow
def test_the_state_of_a_sum_of_losses(tiny_model: Any, tmp_path: Path) -> None:
    loss = losses.get("bco_pair_shift + 0.5*sft + 0.1*beta_dpo")
    this = replace(job(tiny_model), loss=loss, params=loss.Params())
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    run(tiny_model, this, tmp_path / "parts", until=4, stop=kill)
    same(whole, run(tiny_model, this, tmp_path / "parts"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_writes_a_checkpoint_and_says_so(
    number: signal.Signals, tiny_model: Any, tmp_path: Path
) -> None:
    this = job(tiny_model)
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    with pytest.raises(Interrupted, match="stopped after step 2 of 6; run the same command to resume from there") as e:
        run(tiny_model, this, tmp_path, until=2, stop=lambda: os.kill(os.getpid(), number), every=1e9)
    assert e.value.signum == number
    assert [p.name[:13] for p in (tmp_path / "resume").iterdir()] == ["step-00000002"]
    last = run(tiny_model, this, tmp_path, every=1e9)
    assert last["said"] == ["resuming after step 2 of 6"]
    same(whole, last)


def test_a_signal_in_the_last_step_is_heard(tiny_model: Any, tmp_path: Path) -> None:
    this = job(tiny_model)
    with pytest.raises(Interrupted, match="stopped after step 6 of 6"):
        run(tiny_model, this, tmp_path, until=6, stop=terminate, every=1e9)
    same(run(tiny_model, this, tmp_path / "whole", every=1e9), run(tiny_model, this, tmp_path, every=1e9))


def test_the_same_signal_from_scheduler_and_launcher_is_one_wish(tiny_model: Any, tmp_path: Path) -> None:
    def often() -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="stopped after step 2 of 6") as e:
        run(tiny_model, job(tiny_model), tmp_path, until=2, stop=often, every=1e9)
    assert e.value.signum == signal.SIGTERM and (tmp_path / "resume").exists()


def test_a_second_ctrl_c_ends_the_run_at_once(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEAT_SECONDS", -1.0)  # as if the user had waited in between

    def twice() -> None:
        terminate()
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="in the middle of a step"):
        run(tiny_model, job(tiny_model), tmp_path, until=2, stop=twice, every=1e9)
    assert not (tmp_path / "resume").exists()


def stopped(model: Any, folder: Path) -> tuple[Job, dict[str, Any], Path]:
    """A training killed after three of its steps; what an untouched one gives; its checkpoint."""
    this = job(model)
    whole = run(model, this, folder / "whole", every=1e9)
    run(model, this, folder, until=4, stop=kill)
    (file,) = (folder / "resume").iterdir()
    return this, whole, file


def test_a_broken_checkpoint_is_not_read(tiny_model: Any, tmp_path: Path) -> None:
    this, whole, file = stopped(tiny_model, tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    last = run(tiny_model, this, tmp_path, every=1e9)
    assert last["said"] == [f"{file}: damaged (its checksum is wrong); not read"]
    same(whole, last)


def test_a_checkpoint_of_other_settings_is_not_read_and_goes(tiny_model: Any, tmp_path: Path) -> None:
    _, _, file = stopped(tiny_model, tmp_path)
    lines: list[str] = []
    other = Checkpoints(tmp_path / "resume", "other", 0, lines.append)
    assert other.usable(tmp_path / "metrics.jsonl") == {}
    assert lines == [f"{file}: a checkpoint of other settings; not read"] and not file.exists()


def test_a_foreign_file_is_not_read(tmp_path: Path, tiny_model: Any) -> None:
    _, _, file = stopped(tiny_model, tmp_path)
    text = b"not safetensors"
    file.write_bytes(text)
    import hashlib

    foreign = file.with_name(f"step-00000009-{hashlib.sha256(text).hexdigest()[:16]}.safetensors")
    file.rename(foreign)
    lines: list[str] = []
    assert Checkpoints(tmp_path / "resume", "key", 0, lines.append).usable(tmp_path / "metrics.jsonl") == {}
    assert lines == [f"{foreign}: not a checkpoint of prefzoo; not read"]


@pytest.mark.slow
def test_a_checkpoint_without_its_metrics_is_not_read(tiny_model: Any, tmp_path: Path) -> None:
    this, whole, file = stopped(tiny_model, tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    last = run(tiny_model, this, tmp_path, every=1e9)
    assert last["said"] == [f"{file}: metrics.jsonl beside it lacks the steps before it; not read"]
    same(whole, last)


@pytest.mark.slow
def test_what_a_killed_write_left_is_swept(tiny_model: Any, tmp_path: Path) -> None:
    this, whole, file = stopped(tiny_model, tmp_path)
    (tmp_path / "resume" / ".checkpoint.1.partial").write_bytes(b"half")
    (tmp_path / "resume" / file.name.replace("3-", "2-")).write_bytes(b"older")  # killed before it was removed
    run(tiny_model, this, tmp_path, until=5, stop=kill)
    assert [p.name[:13] for p in (tmp_path / "resume").iterdir()] == ["step-00000004"]
    same(whole, run(tiny_model, this, tmp_path))


def test_checkpoints_follow_the_clock(tiny_model: Any, tmp_path: Path) -> None:
    kept = run(tiny_model, job(tiny_model), tmp_path, every=1e9)["kept"]
    assert not (tmp_path / "resume").exists() and not kept.due()
    kept.every = 0
    assert kept.due()


def test_a_folder_is_published_whole(tmp_path: Path) -> None:
    target, partial = tmp_path / "made", atomic_files.partial_path(tmp_path / "made")
    for text in ("old", "new"):
        (partial / "inside").mkdir(parents=True)
        (partial / "inside" / "file").write_text(text)
        atomic_files.move_into_place(partial, target)
    assert (target / "inside" / "file").read_text() == "new" and not partial.exists()


@pytest.mark.slow
def test_rows_of_the_log_are_whole(tiny_model: Any, tmp_path: Path) -> None:
    """A kill in the middle of a line leaves half of it behind the checkpoint's steps: it is cut off."""
    this, whole, _ = stopped(tiny_model, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"loss": 0.6')
    last = run(tiny_model, this, tmp_path)
    assert [json.loads(line)["step"] for line in last["log"].splitlines()] == [1, 2, 3, 4, 5, 6]
    same(whole, last)


def test_dropout_differs_between_steps_and_not_between_runs(tiny_model: Any, tmp_path: Path) -> None:
    one = TokenPair([5, 6, 7], [8, 9], [10, 11], 0)
    this = job(tiny_model, "sft", lora=LORA, learning_rate=1e-30, pairs=[one] * 4, warmup=0.0, schedule="constant")
    with torch.no_grad():  # a fresh adapter adds nothing, dropped or not
        member = policy(tiny_model, this)
        for name, p in member.named_parameters():
            if "lora_B" in name:
                p.fill_(0.5)
    logs = []
    for where in ("a", "b"):
        train_one(this, copy.deepcopy(member), tmp_path / where)
        logs.append((tmp_path / where).read_bytes())
    assert logs[0] == logs[1] and len({json.loads(line)["loss"] for line in logs[0].splitlines()}) > 1
