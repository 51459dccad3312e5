"""N LoRA adapters on one frozen model in one pass: the n-th part of a batch's rows goes through the n-th adapter.

peft routes rows to adapters for inference only. Here each of its linear layers multiplies all parts by their own A and
B at once, see `engine.stacked_adapters`. Names and shapes of the weights stay peft's, so each adapter is trained,
checkpointed and saved as if it were alone; and its numbers are the same, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from prefzoo.engine.stacked_adapters import DOWN, PART_BY_PART, UP, AdapterStack, adapted, part_by_part
from prefzoo.engine.stacked_scoring import score_policies
from prefzoo.errors import UserError
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import kind_of
from prefzoo.training.optimizers import make_optimizer
from prefzoo.training.policies import Policies, Scored, enable_gradient_checkpointing, kl_reference
from prefzoo.training.row_adamw import RowAdamW
from prefzoo.types import PairBatch, to_device

NAME = "default"  # the only adapter that peft knows of


class Adapter(nn.Module):
    """One variant's weights, under the names that they have in a model with this adapter alone.

    Attributes:
        row: (P,) all of them, in one piece of memory.
        weights: each of them by name, a view of the row.
        slots: where each lies in the row.
    """

    def __init__(self, stack: AdapterStack, number: int) -> None:
        super().__init__()
        self.row = nn.Parameter(stack.rows.detach()[number])
        self.weights = {name: nn.Parameter(value) for name, value in stack.weights(number).items()}
        self.slots = {value: stack.slots[name] for name, value in self.weights.items()}

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of each A and B; the arguments of torch's method have no effect."""
        yield from self.weights.items()


class Adapters:
    """Copies of a peft model's fresh adapter, of which some are trained together.

    Attributes:
        stack: the weights of all.
        each: the adapters, by number.
        tokens: those of the next pass, all parts together.
    """

    def __init__(self, model: Any, alphas: Sequence[float]) -> None:
        """Copy the adapter of `model`, for which `why_not_groupable` must be empty.

        Args:
            model: the peft model.
            alphas: of each copy; its output is scaled by alpha / rank.
        """
        self.model, self.alphas = model, alphas
        scales = [alpha / model.peft_config[NAME].r for alpha in alphas]
        self._own = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.stack = AdapterStack(self._own, scales)
        self.each = [Adapter(self.stack, number) for number in range(len(scales))]
        self.tokens = 0

    @contextmanager
    def routed(self) -> Iterator[None]:
        """Send the parts of a batch to the active adapters; after it, the model has peft's own forward pass again."""
        changed: list[Any] = []
        for p in self._own.values():
            p.requires_grad_(False)
        try:
            for name, layer in adapted_layers(self.model):
                names = [f"{name}.{part}.{NAME}.weight" for part in (DOWN, UP)]
                layer.forward = MethodType(partial(_adapted_layer, self, name, names), layer)
                changed.append(layer)
            for layer in self._multiplied_by_part():
                layer.forward = MethodType(partial(_frozen_layer, self), layer)
                changed.append(layer)
            yield
        finally:
            for layer in changed:
                del layer.forward
            for p in self._own.values():
                p.requires_grad_(True)

    def _multiplied_by_part(self) -> list[Any]:
        """Return the frozen linear layers without an adapter whose products are made part by part."""
        if self.model.device.type not in PART_BY_PART:
            return []
        own = {id(p) for p in self._own.values()} | {id(m.base_layer.weight) for _, m in adapted_layers(self.model)}
        return [m for m in self.model.modules() if type(m) is nn.Linear and id(m.weight) not in own]

    @torch.no_grad()
    def load_into_model(self, number: int) -> Any:
        """Copy one of the adapters, and its alpha, into the model's own, and return the model."""
        for name, value in self.each[number].named_parameters():
            self._own[name].copy_(value)
        self.model.peft_config[NAME].lora_alpha = self.alphas[number]
        for _, layer in adapted_layers(self.model):
            layer.lora_alpha[NAME] = self.alphas[number]
            layer.set_scale(NAME, 1.0)
        return self.model


class AdapterPolicies(Policies):
    """N adapters on one frozen model, in one process."""

    def __init__(self, jobs: Sequence[Job], model: Any, accelerator: Any) -> None:
        """Make an adapter for each job.

        Args:
            jobs: of one group, see `groups.group_trials`.
            model: a peft model with one fresh adapter.
            accelerator: Accelerate's, of one process.
        """
        self.jobs, self.accelerator, self.pad = jobs, accelerator, model.config.pad_token_id or 0
        self.network = model.to(accelerator.device)
        self.adapters = Adapters(model, [_alpha(job) for job in jobs])
        enable_gradient_checkpointing(jobs[0].train, model)
        self.optimizers = [self._optimizer(number) for number in range(len(jobs))]
        limits = [job.train.max_grad_norm for job in jobs]
        (self._limits,) = to_device([torch.tensor(limits)], accelerator.device)
        self._norms: Tensor | None = None

    def _optimizer(self, number: int) -> Any:
        train, adapter = self.jobs[number].train, self.adapters.each[number]
        if train.optimizer == "adamw":
            return RowAdamW(adapter.row, adapter.slots, train)
        return make_optimizer(self.network, self.parameters(number), train)

    @contextmanager
    def training(self) -> Iterator[None]:
        self.network.train()
        with self.adapters.routed():
            yield

    def score(self, numbers: Sequence[int], batch: PairBatch) -> list[Scored]:
        self.adapters.stack.use(numbers)
        self.adapters.tokens = len(numbers) * batch.tokens.numel()
        jobs = [self.jobs[n] for n in numbers]
        kinds, references = [kind_of(job.loss, "policy") for job in jobs], [kl_reference(job) for job in jobs]
        return score_policies(self.network, batch, kinds, references)

    def gradient_sync(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def step_weights(self, *, bf16: bool) -> AbstractContextManager[None]:
        self._norms = None
        return self.adapters.stack.cast(torch.bfloat16 if bf16 else torch.float32)

    def backward(self, numbers: Sequence[int], loss: Tensor) -> None:
        self.adapters.stack.use(numbers)  # where activations are computed again
        self.accelerator.backward(loss)

    def module(self, number: int) -> nn.Module:
        return self.adapters.each[number]

    def model(self, number: int) -> Any:
        return self.adapters.load_into_model(number)

    def clip_gradients(self, number: int, max_norm: float) -> Tensor:
        """Scale the gradient down, and return its norm before; a step's first call does so for all policies."""
        if self._norms is None:
            self._norms = self._clip_all()
        return self._norms[number]

    @torch.no_grad()
    def _clip_all(self) -> Tensor:
        """Scale each policy's gradient to its `train.max_grad_norm` where it is larger; return the norms before."""
        rows = self.adapters.stack.rows
        if rows.grad is None:
            raise RuntimeError("gradients are clipped before any were computed")
        norms: Tensor = torch.linalg.vector_norm(rows.grad, dim=1)
        rows.grad.mul_((self._limits / (norms + 1e-6)).clamp(max=1.0)[:, None])  # as torch's clip_grad_norm_
        for adapter, optimizer, own in zip(self.adapters.each, self.optimizers, rows.grad, strict=True):
            if isinstance(optimizer, RowAdamW):
                adapter.row.grad = own
            else:
                for weight, at in adapter.slots.items():
                    weight.grad = own[at].view_as(weight)
        rows.grad = None  # the optimisers drop theirs
        return norms

    def zero_grad(self) -> None:
        self.adapters.stack.rows.grad = None
        super().zero_grad()


def _alpha(job: Job) -> float:
    if job.train.lora is None:
        raise ValueError(f"{job.loss.name} trains no adapter")
    return job.train.lora.alpha


def adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """Return name and module of each layer that has an adapter."""
    return [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_A")]


def why_not_groupable(model: Any) -> str:
    """Return why several adapters cannot be trained on a peft model at once; an empty string if they can."""
    from peft.tuners.lora.layer import Linear

    head, layers = model.get_base_model().get_output_embeddings(), adapted_layers(model)
    for name, layer in layers:
        if layer is head:
            return "an adapter on the output head is added to its weight, of which there is one"
        if type(layer) is not Linear or not isinstance(layer.base_layer, nn.Linear):
            return f"{name} is not a plain linear layer"
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    known = {f"{name}.{part}.{NAME}.weight" for name, _ in layers for part in (DOWN, UP)}
    return "" if trained == known else f"{min(trained ^ known)} is trained too"


def _adapted_layer(adapters: Adapters, name: str, names: Sequence[str], layer: Any, x: Tensor) -> Tensor:
    """Return the outputs of a layer with an adapter for all parts of a pass's rows.

    Raises:
        UserError: the layer does not get all rows, as an expert's; whose they are is not known.
    """
    if x.shape[:-1].numel() != adapters.tokens:
        raise UserError(f"{name} does not see all tokens of a pass")
    down, up = (adapters.stack.current[n] for n in names)
    rate = float(getattr(layer.lora_dropout[NAME], "p", 0.0)) if layer.training else 0.0
    return adapted(x, layer.base_layer.weight, layer.base_layer.bias, down, up, rate)


def _frozen_layer(adapters: Adapters, layer: Any, x: Tensor) -> Tensor:
    """Return W x + b, in a product for each part of a pass's rows; rows that are not the whole pass's in one."""
    parts = len(adapters.stack.active)
    if parts == 1 or x.shape[:-1].numel() != adapters.tokens:
        return linear(x, layer.weight, layer.bias)
    rows = x.reshape(parts, -1, x.shape[-1])
    return part_by_part(rows, layer.weight, layer.bias).view(*x.shape[:-1], layer.out_features)
