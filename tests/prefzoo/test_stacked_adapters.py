"""Many adapters in one product: outputs, gradients and updates are those of each one alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from emulated_gpu import emulated_gpu
from torch import Tensor, nn

from prefzoo.engine.stacked_adapters import AdapterStack, adapted
from prefzoo.recipe.sections import Train
from prefzoo.training.multi_lora import Adapter
from prefzoo.training.row_adamw import RowAdamW

INS, OUTS, RANK, TOKENS = 6, 5, 2, 4
NAMES = ("first.lora_A.default.weight", "first.lora_B.default.weight", "unused.lora_A.default.weight")


def stack(scales: Sequence[float], dtype: torch.dtype = torch.float32) -> AdapterStack:
    """Adapters with random weights, each with others."""
    shapes = (RANK, INS), (OUTS, RANK), (RANK, INS)
    adapters = AdapterStack({name: torch.zeros(shape) for name, shape in zip(NAMES, shapes, strict=True)}, scales)
    gen = torch.Generator().manual_seed(0)
    adapters.rows.data.copy_(torch.randn(adapters.rows.shape, generator=gen))
    return adapters


def by_name(adapters: AdapterStack, row: Tensor) -> dict[str, Tensor]:
    return {name: row[at].view(adapters.shapes[name]) for name, at in adapters.slots.items()}


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def alone(
    adapters: AdapterStack, number: int, x: Tensor, weight: Tensor, bias: Tensor, kept: Tensor | float
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The formula, part by part, with leaves of its own."""
    own = {name: value.clone().requires_grad_() for name, value in adapters.weights(number).items()}
    low = (x * kept) @ own[NAMES[0]].t()
    return x @ weight.t() + bias + float(adapters.scales[number]) * low @ own[NAMES[1]].t(), own


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("numbers", [(0, 1, 2), (2, 0)], ids=["all", "some"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_outputs_and_gradients_are_those_of_each_alone(device: str, numbers: tuple[int, ...], dropout: float) -> None:
    adapters, count = stack([2.0, 0.5, 1.0]), len(numbers)
    x = random(1, count * TOKENS, INS, seed=1).requires_grad_()
    weight, bias, slope = random(OUTS, INS, seed=2), random(OUTS, seed=3), random(count * TOKENS, OUTS, seed=4)
    torch.manual_seed(7)
    kept = torch.nn.functional.dropout(torch.ones(TOKENS, INS), dropout)  # what a layer alone draws
    torch.manual_seed(7)
    with nullcontext() if device == "cpu" else emulated_gpu(), adapters.cast(torch.float32):
        adapters.use(numbers)
        down, up = (adapters.current[name] for name in NAMES[:2])
        values = adapted(x, weight, bias, down, up, dropout)
        assert values.shape == (1, count * TOKENS, OUTS)
        for _ in range(2):  # two passes of a step
            (values * slope).sum().backward(retain_graph=True)
    to_x = x.grad[0].split(TOKENS)  # type: ignore[index]
    for part, number in enumerate(numbers):
        rows = x.detach()[0].split(TOKENS)[part].requires_grad_()
        expected, own = alone(adapters, number, rows, weight, bias, kept)
        assert torch.allclose(values[0].split(TOKENS)[part], expected, rtol=1e-5, atol=1e-5)
        (expected * slope.split(TOKENS)[part]).sum().mul(2).backward()
        assert torch.allclose(to_x[part], rows.grad, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
        values_of = by_name(adapters, adapters.rows.grad[number])  # type: ignore[index]
        for name in NAMES[:2]:
            assert torch.allclose(values_of[name], own[name].grad, rtol=1e-5, atol=1e-5), name  # type: ignore[arg-type]
        assert not values_of[NAMES[2]].any()
    rest = sorted({0, 1, 2} - {*numbers})
    assert not adapters.rows.grad[rest].any(), "who takes no step has no gradient"  # type: ignore[index]


def test_copies_are_made_once_a_step_in_the_precision_of_products() -> None:
    adapters = stack([2.0, 0.5])
    with adapters.cast(torch.bfloat16):
        adapters.use([0, 1])
        first = adapters.current
        adapters.use([1])
        adapters.use([0, 1])
        assert adapters.current is first
        up = first[NAMES[1]]
        assert torch.equal(up[1], (0.5 * adapters.weights(1)[NAMES[1]]).bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            values = adapted(random(2 * TOKENS, INS, seed=1), random(OUTS, INS, seed=2), None, first[NAMES[0]], up)
        assert values.dtype == torch.bfloat16
        values.float().sum().backward()
    assert adapters.rows.grad is not None and adapters.rows.grad.dtype == torch.float32
    with adapters.cast(torch.float32):
        assert adapters.rows.grad is None, "each step starts from nothing"
        adapters.use([0, 1])
        assert adapters.current is not first


def test_a_row_s_optimiser_does_what_one_of_the_single_weights_does() -> None:
    """Its state is read and written weight by weight, so that a checkpoint does not tell how they lie in memory."""
    adapters, train = stack([1.0, 1.0]), Train(learning_rate=0.01, weight_decay=0.1)
    one, two = Adapter(adapters, 0), Adapter(adapters, 1)
    assert [name for name, _ in one.named_parameters()] == [*NAMES], "the order in which the model has them"
    optimizer = RowAdamW(one.row, one.slots, train)
    single = {name: nn.Parameter(value.clone()) for name, value in one.weights.items()}
    plain = torch.optim.AdamW([*single.values()], lr=0.01, weight_decay=0.1)
    other = two.row.detach().clone()

    def step(optimizer: RowAdamW, adapter: Adapter, seed: int) -> None:
        adapter.row.grad = random(len(adapter.row), seed=seed)
        optimizer.step()
        optimizer.zero_grad()

    for seed in (1, 2):
        grads = by_name(adapters, random(len(one.row), seed=seed))
        step(optimizer, one, seed)
        for name, p in single.items():
            p.grad = grads[name]
        plain.step()
    for name, p in one.named_parameters():
        assert torch.allclose(p, single[name], rtol=1e-6, atol=1e-7)
        for key, value in plain.state[single[name]].items():
            assert torch.allclose(optimizer.state[p][key], value, rtol=1e-6, atol=1e-7), key
    assert torch.equal(two.row, other), "the others' weights stay"
    again = RowAdamW(two.row, two.slots, train)
    assert all(not again.state[p] for p in two.weights.values()), "nothing before the first step"
    two.row.data.copy_(one.row)
    for (_, p), (_, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        again.state[q] = {key: value.clone() for key, value in optimizer.state[p].items()}
    step(optimizer, one, 3)
    step(again, two, 3)
    assert torch.equal(one.row, two.row)
