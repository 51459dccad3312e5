"""N LoRA adapters on one frozen model in one pass: the n-th part of a batch's rows goes through the n-th adapter.

peft routes rows to adapters for inference alone. Here each of its linear layers multiplies all parts by their own A and
B at once; names and shapes of the weights stay peft's, so each adapter is trained, kept and saved as if it were alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

NAME = "default"  # the only adapter that peft knows of


class Adapter(nn.Module):
    """One variant's weights, under the names that they have in a model with this adapter alone."""

    def __init__(self, found: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.found = found

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter of each A and B; the arguments are of no use here."""
        yield from self.found.items()


class Adapters:
    """Copies of a peft model's fresh adapter, of which `active` are trained together.

    Attributes:
        each: the adapters, by number.
        active: the numbers of those that the next forward pass is for, in the order of the batch's parts.
    """

    def __init__(self, model: Any, count: int) -> None:
        """Replaces the forward pass of every adapted layer of `model`, in place; `unfit` must have nothing to say."""
        self.model = model
        own = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.each = [Adapter({n: nn.Parameter(p.detach().clone()) for n, p in own}) for _ in range(count)]
        self.active: Sequence[int] = range(count)
        for _, p in own:
            p.requires_grad_(False)
        for name, layer in adapted(model):
            names = [f"{name}.{part}.{NAME}.weight" for part in ("lora_A", "lora_B")]
            layer.parts = [[adapter.found[n] for n in names] for adapter in self.each]
            layer.adapters = [self]  # in a list, so that it is no submodule
            layer.forward = MethodType(_forward, layer)

    @torch.no_grad()
    def settle(self, number: int) -> Any:
        """The model with one of the adapters as its own, to be saved."""
        place = dict(self.model.named_parameters())
        for name, value in self.each[number].named_parameters():
            place[name].copy_(value)
        return self.model


def adapted(model: Any) -> list[tuple[str, Any]]:
    """Name and module of each layer that has an adapter."""
    return [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_A")]


def unfit(model: Any) -> str:
    """Why adapters on a peft model cannot be trained together, or nothing."""
    from peft.tuners.lora.layer import Linear

    head = model.get_base_model().get_output_embeddings()
    for name, layer in adapted(model):
        if layer is head:
            return "an adapter on the output head is added to its weight, of which there is one"
        if type(layer) is not Linear or not isinstance(layer.base_layer, nn.Linear):
            return f"{name} is no plain linear layer"
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    known = {f"{name}.{part}.{NAME}.weight" for name, _ in adapted(model) for part in ("lora_A", "lora_B")}
    return "" if trained == known else f"{min(trained ^ known)} is trained too"


def _forward(self: Any, x: Tensor) -> Tensor:
    """W x + scaling * B_n A_n x for the n-th part of the rows (Hu 2021, arXiv:2106.09685), as peft's own for one."""
    result: Tensor = self.base_layer(x)
    downs, ups = zip(*(self.parts[number] for number in self.adapters[0].active), strict=True)
    a, b = torch.stack(downs), torch.stack(ups)  # (n, r, in), (n, out, r)
    rows = (x if torch.is_autocast_enabled(x.device.type) else x.to(a.dtype)).reshape(len(a), -1, x.shape[-1])
    rate = getattr(self.lora_dropout[NAME], "p", 0.0)
    if rate and self.training:  # the same for all parts, as all are seeded alike
        rows = rows * dropout(torch.ones_like(rows[0]), rate)
    more = torch.bmm(torch.bmm(rows, a.transpose(1, 2)), b.transpose(1, 2)).view_as(result)
    found: Tensor = (result + more * self.scaling[NAME]).to(result.dtype)
    return found
