"""Name pieces of work: two have the same name if their units take the same time on one machine and model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from prefzoo.data.tokens import TokenExample
from prefzoo.evals.generation.batches import prompts_together
from prefzoo.evals.judges.protocol import Judge
from prefzoo.evals.suites.tasks import suite_key
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.devices import device_type
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import kind_of
from prefzoo.types import LogProbs

LOAD = "loading the model"
POWER = "second of training, in joules"


def scoring(kind: type[LogProbs], *, bf16: bool) -> str:
    """Return the name of scoring tokens without gradients."""
    return f"scoring {kind.__name__} in {'bf16' if bf16 else 'fp32'}"


def products(*, bf16: bool) -> str:
    """Return the name of the speed of matrix products, half of which training may reach."""
    return f"operations in {'bf16' if bf16 else 'fp32'}"


def answering(prompts: int, tokens: int) -> str:
    """Return the name of generating answers: the time of a token depends on how many are generated together."""
    return f"answers to {min(prompts, prompts_together(device_type()))} prompts, {tokens} tokens"


def judging(judge: Judge) -> str:
    """Return the name of comparing two answers."""
    return f"verdict of {judge.name} {judge.prompt_hash}"


def benchmarking(suite: str, folder: Path) -> str:
    """Return the name of running a whole benchmark on one model; `folder` is where a path in `suite` starts."""
    return f"benchmark {suite} {suite_key(suite, folder)}"


def training(job: Job, together: int = 1) -> str:
    """Return the name of training on tokens: it differs by what is trained and by what the loss reads."""
    train, loss = job.train, job.loss
    shape = [
        train.lora.model_dump(mode="json") if train.lora else None, job.bf16, train.gradient_checkpointing,
        train.sync_reference is not None, loss.needs_kl, kind_of(loss, "policy").__name__, train.tokens,
        train.micro_batch, train.batch, together,
    ]  # fmt: skip
    return f"training {key_of(shape)}"


def without_hash(name: str) -> str:
    """Return a kind of work's name as people read it."""
    return re.sub(r" [0-9a-f]{8,}$", "", name)


def tokens_of(examples: Sequence[TokenExample]) -> int:
    """Return the tokens of all examples, a prompt counted once for its answers."""
    return sum(example.total_tokens for example in examples)
