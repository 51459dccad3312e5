"""N LoRA adapters on one frozen model in one pass: the n-th part of a batch's rows goes through the n-th adapter.

peft routes rows to adapters for inference only. Here each of its linear layers multiplies all parts by their own A and
B at once. Names and shapes of the weights stay peft's, so each adapter is trained, checkpointed and saved as if it were
alone; and its numbers are the same.

Rounding may depend on how many rows a product has. On CPUs, where that costs nothing, frozen layers therefore multiply
part by part, in the products that scored the reference: at the first step both are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from prefzoo.engine.logprobs import score_policies
from prefzoo.training.job import Job
from prefzoo.training.loss_inputs import kind_of
from prefzoo.training.optimizers import make_optimizer
from prefzoo.training.policies import Policies, Scored, enable_gradient_checkpointing, kl_reference
from prefzoo.types import PairBatch

NAME = "default"  # the only adapter that peft knows of
PART_BY_PART = ("cpu",)  # devices where several products cost no more than one over all of their rows


class Adapter(nn.Module):
    """One variant's weights, under the names that they have in a model with this adapter alone."""

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.weights = weights

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of each A and B; the arguments of torch's method have no effect."""
        yield from self.weights.items()


class Adapters:
    """Copies of a peft model's fresh adapter, of which `active` are trained together.

    Attributes:
        each: the adapters, by number.
        active: the numbers of those that the next forward pass is for, in the order of the batch's parts.
        rows: the tokens of that pass, all parts together.
    """

    def __init__(self, model: Any, count: int) -> None:
        """Copy the adapter of `model`, for which `why_not_groupable` must be empty, `count` times."""
        self.model = model
        self._own = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.each = [Adapter({n: nn.Parameter(p.detach().clone()) for n, p in self._own.items()}) for _ in range(count)]
        self.active: Sequence[int] = range(count)
        self.rows = 0

    @contextmanager
    def routed(self) -> Iterator[None]:
        """Send the parts of a batch to the active adapters; after it, the model has peft's own forward pass again."""
        layers, frozen = adapted_layers(self.model), self._multiplied_by_part()
        for p in self._own.values():
            p.requires_grad_(False)
        for layer in frozen:
            layer.adapters = [self]
            layer.forward = MethodType(_product_by_part, layer)
        for name, layer in layers:
            names = [f"{name}.{part}.{NAME}.weight" for part in ("lora_A", "lora_B")]
            layer.parts = [[adapter.weights[n] for n in names] for adapter in self.each]
            layer.adapters = [self]  # in a list, so that it is no submodule
            layer.forward = MethodType(_forward, layer)
        try:
            yield
        finally:
            for layer in frozen:
                del layer.forward, layer.adapters
            for _, layer in layers:
                del layer.forward, layer.adapters, layer.parts
            for p in self._own.values():
                p.requires_grad_(True)

    def _multiplied_by_part(self) -> list[Any]:
        """Return the frozen linear layers whose products are made part by part."""
        if self.model.device.type not in PART_BY_PART:
            return []
        own = {id(p) for p in self._own.values()}
        return [m for m in self.model.modules() if type(m) is nn.Linear and id(m.weight) not in own]

    @torch.no_grad()
    def load_into_model(self, number: int) -> Any:
        """Copy one of the adapters into the model's own, and return the model."""
        for name, value in self.each[number].named_parameters():
            self._own[name].copy_(value)
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
        self.adapters = Adapters(model, len(jobs))
        enable_gradient_checkpointing(jobs[0].train, model)
        self.optimizers = [make_optimizer(model, self.parameters(n), job.train) for n, job in enumerate(jobs)]

    @contextmanager
    def training(self) -> Iterator[None]:
        self.network.train()
        with self.adapters.routed():
            yield

    def score(self, numbers: Sequence[int], batch: PairBatch) -> list[Scored]:
        self.adapters.active, self.adapters.rows = numbers, len(numbers) * batch.tokens.numel()
        jobs = [self.jobs[n] for n in numbers]
        kinds, references = [kind_of(job.loss, "policy") for job in jobs], [kl_reference(job) for job in jobs]
        return score_policies(self.network, batch, kinds, references)

    def gradient_sync(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def step_weights(self, *, bf16: bool) -> AbstractContextManager[None]:
        return nullcontext()  # all adapters' weights are stacked in each pass

    def backward(self, numbers: Sequence[int], loss: Tensor) -> None:
        self.adapters.active = numbers  # read where activations are computed again
        self.accelerator.backward(loss)

    def module(self, number: int) -> nn.Module:
        return self.adapters.each[number]

    def model(self, number: int) -> Any:
        return self.adapters.load_into_model(number)

    def clip_gradients(self, number: int, max_norm: float) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self.parameters(number), max_norm)


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
            return f"{name} is no plain linear layer"
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    known = {f"{name}.{part}.{NAME}.weight" for name, _ in layers for part in ("lora_A", "lora_B")}
    return "" if trained == known else f"{min(trained ^ known)} is trained too"


def _forward(self: Any, x: Tensor) -> Tensor:
    """Return W x + scaling * B_n A_n x for the n-th part of the rows (Hu 2021, arXiv:2106.09685), as peft for one."""
    result: Tensor = self.base_layer(x)
    downs, ups = zip(*(self.parts[number] for number in self.adapters[0].active), strict=True)
    a, b = torch.stack(downs), torch.stack(ups)  # (n, r, in), (n, out, r)
    rows = (x if torch.is_autocast_enabled(x.device.type) else x.to(a.dtype)).reshape(len(a), -1, x.shape[-1])
    rate = getattr(self.lora_dropout[NAME], "p", 0.0)
    if rate and self.training:  # the same for all parts, as all are seeded alike
        rows = rows * dropout(torch.ones_like(rows[0]), rate)
    change = torch.bmm(torch.bmm(rows, a.transpose(1, 2)), b.transpose(1, 2)).view_as(result)
    adapted: Tensor = (result + change * self.scaling[NAME]).to(result.dtype)
    return adapted


def _product_by_part(self: Any, x: Tensor) -> Tensor:
    """Return W x + b, in a product for each part of a pass's rows; rows that are not the whole pass's in one."""
    parts, shape = len(self.adapters[0].active), (*x.shape[:-1], self.out_features)
    if parts == 1 or x.shape[:-1].numel() != self.adapters[0].rows:
        return linear(x, self.weight, self.bias)
    rows = torch.split(x.reshape(parts, -1, x.shape[-1]), 1)
    return torch.cat([linear(own, self.weight, self.bias) for own in rows]).view(shape)
