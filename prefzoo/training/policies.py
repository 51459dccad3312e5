"""The policies that the loop trains: their interface, and the case of a single model on any devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor, nn
from transformers.integrations import unset_hf_deepspeed_config

from prefzoo.engine.adapter_product import fused_adapters
from prefzoo.engine.compute_weights import half_precision_weights
from prefzoo.engine.logprobs import score, score_with_kl
from prefzoo.recipe.sections import Train
from prefzoo.runtime.distributed import gradient_sync
from prefzoo.runtime.sharding import clone_fields, gather_full_tensor, sharded
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import kind_of
from prefzoo.training.optimizers import make_optimizer
from prefzoo.types import LogProbs, PairBatch, TokenKL

Scored = tuple[LogProbs, TokenKL | None]


class Policies(ABC):
    """N >= 1 policies, numbered from 0, that are trained on the same rows.

    Attributes:
        jobs: what each policy is trained for.
        accelerator: the devices; all policies are on the same ones.
        optimizers: one for each policy.
        network: the model, with whichever policy's weights.
        pad: token id for the unused end of a row.
    """

    jobs: Sequence[Job]
    accelerator: Any
    optimizers: Sequence[Any]
    network: Any
    pad: int

    @abstractmethod
    def training(self) -> AbstractContextManager[None]:
        """Return the context in which passes are made: changes to the model's modules are undone after it."""

    @abstractmethod
    def score(self, numbers: Sequence[int], batch: PairBatch) -> list[Scored]:
        """Return the log-probs of a batch under each of some policies, and its KL where that policy's loss reads it."""

    @abstractmethod
    def gradient_sync(self, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of a forward and backward pass; processes sum their gradients after a step's last one."""

    @abstractmethod
    def step_weights(self, *, bf16: bool) -> AbstractContextManager[None]:
        """Return the context of a step's passes, in which weights do not change; `bf16`: passes are autocast to it."""

    @abstractmethod
    def backward(self, numbers: Sequence[int], loss: Tensor) -> None:
        """Add the gradients of the sum of these policies' losses to their parameters."""

    @abstractmethod
    def module(self, number: int) -> nn.Module:
        """Return the module whose parameters that require gradients are the policy's trained ones."""

    @abstractmethod
    def model(self, number: int) -> Any:
        """Return the model with the policy's weights, to be saved; valid until the next call."""

    @abstractmethod
    def clip_gradients(self, number: int, max_norm: float) -> Tensor:
        """Scale the policy's gradients down to `max_norm` where theirs is larger, and return the norm before."""

    def parameters(self, number: int) -> list[nn.Parameter]:
        """Return the trained parameters of a policy."""
        return [p for _, p in self.module(number).named_parameters() if p.requires_grad]

    def zero_grad(self) -> None:
        """Drop all gradients, and the memory that they take."""
        for number in range(len(self.jobs)):
            for parameter in self.parameters(number):
                parameter.grad = None


class OnePolicy(Policies):
    """A model of its own: all weights or an adapter, in one process or several, sharded or not."""

    def __init__(self, job: Job, model: Any, accelerator: Any) -> None:
        """Prepare `model` for the accelerator's devices, in place.

        Args:
            job: what it is trained for.
            model: the policy; its parameters that require gradients are trained.
            accelerator: Accelerate's, see `accelerators.accelerator_for`.
        """
        self.jobs, self.accelerator, self.pad = [job], accelerator, model.config.pad_token_id or 0
        enable_gradient_checkpointing(job.train, model)
        optimizer = make_optimizer(model, [p for p in model.parameters() if p.requires_grad], job.train)
        scorer = Scorer(model, kind_of(job.loss, "policy"), kl_reference(job))
        self.scorer, prepared = accelerator.prepare(scorer, optimizer)
        if accelerator.distributed_type is DistributedType.DEEPSPEED:  # else ZeRO-3 loads the next model in shards
            unset_hf_deepspeed_config()
        self.optimizers = [prepared]
        self.network = accelerator.unwrap_model(self.scorer).model

    @contextmanager
    def training(self) -> Iterator[None]:
        self.scorer.train()
        with fused_adapters(self.network, enabled=not sharded(self.accelerator)):
            yield

    def score(self, numbers: Sequence[int], batch: PairBatch) -> list[Scored]:
        policy, kl = self.scorer(batch)
        return [(kind_of(self.jobs[0].loss, "policy")(*policy), TokenKL(*kl) if kl else None)]

    def gradient_sync(self, *, last: bool) -> AbstractContextManager[None]:
        return gradient_sync(self.accelerator, self.scorer, last=last)

    def step_weights(self, *, bf16: bool) -> AbstractContextManager[None]:
        return half_precision_weights(self.network, enabled=bf16)

    def backward(self, numbers: Sequence[int], loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def module(self, number: int) -> nn.Module:
        return self.network  # type: ignore[no-any-return]

    def model(self, number: int) -> Any:
        return self.network

    def clip_gradients(self, number: int, max_norm: float) -> Tensor:
        norm = self.accelerator.clip_grad_norm_(self.scorer.parameters(), max_norm)
        return gather_full_tensor(torch.as_tensor(norm, device=self.accelerator.device))


class Scorer(nn.Module):
    """The policy as a module from batch to log-probs, so that wrappers (DDP, FSDP) see one forward."""

    def __init__(self, model: Any, kind: type[LogProbs], reference: Any) -> None:
        super().__init__()
        self.model = model
        self.kind = kind
        self.reference = [reference]  # in a list, so that it is no part of what is trained
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # what Accelerate shards by

    def forward(self, batch: PairBatch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the fields of the log-probs, and of the KL from the reference if there is one, else nothing."""
        if self.reference[0] is None:
            return clone_fields(score(self.model, batch, self.kind)), ()
        logprobs, kl = score_with_kl(self.model, self.reference[0], batch, self.kind)
        return clone_fields(logprobs), clone_fields(kl)


def kl_reference(job: Job) -> Any:
    """Return the model that the policy's KL is taken from, or None for a loss that reads no KL."""
    return job.live if job.loss.needs_kl else None


def enable_gradient_checkpointing(train: Train, model: Any) -> None:
    """Let a model compute its activations again in the backward pass, if `train.gradient_checkpointing` asks for it."""
    if train.gradient_checkpointing:
        renamed = getattr(model, "activation_checkpointing_enable", None)  # where the other is deprecated
        (renamed or model.gradient_checkpointing_enable)({"use_reentrant": False})
