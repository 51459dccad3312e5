"""Train in two processes, and save each process's trajectory and the weights; run by test_two_processes.py."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from one_policy import ignore, train_one
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from zoo_inputs import named

from prefzoo.data.tokens import TokenPair
from prefzoo.engine import models, packed_attention, reference_logprobs
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.recipe.sections import Train
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.signals import Interrupted
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.job import Job, with_reference, with_twin
from prefzoo.types import LogProbs

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "micro": {"micro_batch": 1, "max_grad_norm": 0.5, "schedule": "linear"},
    "budget": {"tokens": 40},  # passes of one pair or two: more in one process than in the other
    "lora": {"lora": {"rank": 2, "targets": ["q_proj", "v_proj"]}},
    "lean": {"lora": {"rank": 2, "targets": ["q_proj", "v_proj"]}, "precision": "bf16"},  # frozen weights in bf16
    "fat": {"lora": {"rank": 2, "targets": ["q_proj", "v_proj"]}, "precision": "bf16"},  # and in fp32
    "recompute": {"gradient_checkpointing": True},
    "tied": {},
    "stopped": {},
    "sync": {"sync_reference": {"alpha": 0.5, "every": 2}},
    "weighted": {},
    "bema": {"sync_reference": {"every": 2, "bema": {}}},
    "adapter_bema": {"lora": {"rank": 2, "targets": ["q_proj"]}, "sync_reference": {"every": 2, "bema": {}}},
}


class Tokenizer:
    """A tokenizer whose saving does nothing."""

    def save_pretrained(self, folder: Path) -> None: ...


def pretend_accelerators() -> None:
    """Tell Accelerate that these CPU processes are accelerators, because it shards only over accelerators."""
    deepspeed = bool(os.environ.get("ACCELERATE_USE_DEEPSPEED"))
    if deepspeed:
        from deepspeed import comm

        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    process_state()
    if deepspeed:
        os.environ["ACCELERATE_USE_CPU"] = "false"
        PartialState._shared_state["_cpu"] = False
    PartialState._shared_state["distributed_type"] = (
        DistributedType.DEEPSPEED if deepspeed else DistributedType.MULTI_GPU
    )


def stop_and_go_on(job: Job, policy: Any, log: Path) -> None:
    """Send a signal to one of two processes, check that both stop at the same step, and resume."""
    untouched = copy.deepcopy(policy)
    kept = Checkpoints(log.with_name("resume"), "key", 1e9, lambda line: None)

    def report(done: int, total: int, note: str) -> None:
        if done == 2 * job.train.batch and os.environ.get("RANK", "1") == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        train_one(job, untouched, log, report, kept)
    except Interrupted as e:
        assert "after step 2 of 4" in e.line
        train_one(job, policy, log, ignore, kept)
        return
    raise AssertionError("the signal did not stop the training")


def job_of(folder: Path, case: str) -> tuple[Job, Any]:
    """Return the job of a case and its policy."""
    name, settings = case.split(":")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", attn_implementation="sdpa").eval()
    if settings == "tied":
        model.config.tie_word_embeddings = True
        model.tie_weights()
    packed_attention.install(model)
    pairs = [TokenPair(**row) for row in json.loads((folder / "pairs.json").read_text())]
    loss = named(name)
    train = Train(**{"batch": 4, "steps": 4, "learning_rate": 1e-3, "precision": "fp32", **SETTINGS[settings]})
    bf16 = train.precision == "bf16"

    def frozen(rows: list[TokenPair], use: str, kind: type[LogProbs], passes: Any) -> LogProbs:
        return reference_logprobs.logprobs(model, rows, "shared", kind, bf16=bf16)

    base = Base(lambda: copy.deepcopy(model))
    job = with_reference(Job(loss, loss.Params(), train, 0, pairs, "shared", bf16), base, frozen)
    policy = load_policy(lambda _: copy.deepcopy(model), train, bf16=settings == "lean", seed=0)
    assert (torch.bfloat16 in {p.dtype for p in policy.parameters()}) == (settings == "lean")
    if settings == "weighted":
        job = replace(job, pair_weights=torch.linspace(0.2, 1.8, len(pairs)))
    return with_twin(job, policy), policy


def resume_alone(folder: Path, case: str) -> None:
    """Resume in one process from the checkpoint of two processes."""
    job, policy = job_of(folder, case)
    log = folder / f"{case}.alone.jsonl"
    log.write_bytes((folder / f"{case}.0.jsonl").read_bytes())
    lines: list[str] = []
    train_one(job, policy, log, ignore, Checkpoints(folder / "resume", "key", 1e9, lines.append))
    assert lines == ["resuming after step 2 of 4"]


def main(folder: Path, case: str) -> None:
    """Train a case and save its weights."""
    job, policy = job_of(folder, case)
    who = os.environ.get("RANK", "one")
    log = folder / f"{case}.{who}.jsonl"
    if case.endswith("stopped"):
        stop_and_go_on(job, policy, log)
    elif os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        lines: list[str] = []
        kept = Checkpoints(folder / "resume", "key", 0, lines.append)
        train_one(job, policy, log, ignore, kept)
        assert lines == ["DeepSpeed: no checkpoint is written; a training that is stopped starts over"]
    else:
        train_one(job, policy, log)
    if os.environ.get("ACCELERATE_USE_FSDP"):
        assert any(isinstance(p, DTensor) for p in policy.parameters())
    if os.environ.get("ZERO_STAGE") == "3":
        assert all(p.numel() == 0 for p in policy.parameters())
    models.save(policy, Tokenizer(), folder / f"{case}.{who}", main=who in ("0", "one"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP") or os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        pretend_accelerators()
    for each in sys.argv[2:]:
        main(Path(sys.argv[1]), each)
