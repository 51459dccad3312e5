"""Log-probs and KL from tiles of logits, against whole logits: values, statistics and gradients."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from prefzoo.engine import lm_head as head_module
from prefzoo.engine.lm_head import LMHead, token_logprobs
from prefzoo.engine.token_kl import token_kl

TILE = (4, 3)  # neither divides the sizes below
KINDS = [LMHead(torch.empty(0)), LMHead(torch.empty(0), scale=0.7, cap=5.0)]


def whole(states: Tensor, head: LMHead) -> Tensor:
    logits = head.scale * torch.nn.functional.linear(states, head.weight, head.bias)
    return (head.cap * torch.tanh(logits / head.cap) if head.cap else logits).log_softmax(-1)


def world(kind: LMHead, biased: bool) -> tuple[Tensor, LMHead, Tensor]:
    gen = torch.Generator().manual_seed(0)
    states, weight, bias = (
        torch.randn(*size, generator=gen, dtype=torch.float64) for size in ((11, 5), (13, 5), (13,))
    )
    targets = torch.randint(0, 13, (11,), generator=gen)
    head = LMHead(weight.requires_grad_(), bias.requires_grad_() if biased else None, kind.scale, kind.cap)
    return states.requires_grad_(), head, targets


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=["plain", "capped"])
def test_values_and_statistics(kind: LMHead, biased: bool) -> None:
    states, head, targets = world(kind, biased)
    expected = whole(states, head)
    logprobs, entropy, squares = token_logprobs(states, head, targets, statistics=True, tile=TILE)
    torch.testing.assert_close(logprobs, expected[torch.arange(11), targets])
    torch.testing.assert_close(entropy, -(expected.exp() * expected).sum(-1))
    torch.testing.assert_close(squares, (2 * expected).logsumexp(-1))
    assert not entropy.requires_grad and token_logprobs(states, head, targets)[1].numel() == 0


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=["plain", "capped"])
def test_gradients(kind: LMHead, biased: bool, frozen: bool) -> None:
    states, head, targets = world(kind, biased)
    inputs = [states] if frozen else [states, head.weight] + ([] if head.bias is None else [head.bias])
    if frozen:  # the gradient is then finished in the forward pass
        head.weight.requires_grad_(False)
        head = LMHead(head.weight, None if head.bias is None else head.bias.detach(), head.scale, head.cap)

    theirs, other = states.detach() * 1.3 + 0.1, LMHead(head.weight.detach() * 0.8)  # made once: they are constants

    def logprobs(*_: Tensor) -> Tensor:
        return token_logprobs(states, head, targets, tile=TILE)[0]

    def kl(*_: Tensor) -> Tensor:
        return token_kl(states, head, theirs, other, tile=TILE)

    fast = not (biased and frozen)  # entry by entry in one case, along random directions in the others
    for one in (logprobs, kl):
        assert torch.autograd.gradcheck(one, inputs, fast_mode=fast)


@pytest.mark.parametrize("kind", KINDS, ids=["plain", "capped"])
def test_kl_of_the_reference_from_the_policy(kind: LMHead) -> None:
    states, head, _ = world(kind, True)
    theirs, other = states.detach().flip(0), LMHead(head.weight.detach().flip(0), None, kind.scale, kind.cap)
    log_p, log_q = whole(states, head), whole(theirs, other)
    torch.testing.assert_close(
        token_kl(states, head, theirs, other, tile=TILE), (log_q.exp() * (log_q - log_p)).sum(-1)
    )


@pytest.mark.parametrize("tile", [(2, 5), (100, 100), None])
def test_bf16_states_are_summed_in_fp32(tile: tuple[int, int] | None) -> None:
    """Against fp64 of the same bf16 numbers: only the products' own rounding is left, and no tile adds to it."""
    gen = torch.Generator().manual_seed(1)
    states, weight = (torch.randn(*size, generator=gen).bfloat16() for size in ((9, 16), (50, 16)))
    targets = torch.randint(0, 50, (9,), generator=gen)
    logprobs = token_logprobs(states, LMHead(weight), targets, tile=tile)[0]
    assert logprobs.dtype == torch.float32
    expected = whole(states.double(), LMHead(weight.double()))[torch.arange(9), targets]
    torch.testing.assert_close(logprobs.double(), expected, rtol=0, atol=0.05)


def test_far_apart_logits_stay_finite() -> None:
    states, weight = torch.tensor([[1e4]], requires_grad=True), torch.tensor([[1.0], [0.0], [-1.0]])
    for target, value in ((0, 0.0), (1, -1e4), (2, -2e4)):
        logprobs = token_logprobs(states, LMHead(weight), torch.tensor([target]), tile=(1, 1))[0]
        assert logprobs.item() == value
        assert torch.isfinite(torch.autograd.grad(logprobs.sum(), states)[0]).all()


@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_products_that_are_kept_change_no_bit(cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gen = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(50, 8, generator=gen), torch.randn(50, generator=gen)
    states, targets = torch.randn(21, 8, generator=gen).bfloat16(), torch.randint(0, 50, (21,), generator=gen)
    calls: list[int] = []
    real = LMHead.products

    def counted(self: LMHead, states: Tensor, part: slice) -> Tensor:
        calls.append(1)
        return real(self, states, part)

    monkeypatch.setattr(LMHead, "products", counted)

    def projections(kept: int) -> list[Tensor]:
        monkeypatch.setattr(head_module, "MAX_SAVED_BYTES", {"cpu": kept})
        calls.clear()
        leaves = [t.clone().requires_grad_() for t in (states, weight, bias)]
        values = token_logprobs(leaves[0], LMHead(leaves[1], leaves[2], 0.5, cap), targets, tile=(8, 16))[0]
        return [values.detach(), *torch.autograd.grad(values.sum(), leaves), torch.tensor(len(calls))]

    *kept, once = projections(21 * 50 * 2)
    *again, twice = projections(21 * 50 * 2 - 1)
    assert (int(once), int(twice)) == (12, 24)  # 3 x 4 tiles
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


class WideTiles(TorchDispatchMode):
    """Notes how many tiles of logits are in memory at some products.

    Attributes:
        wide: Numbers of fp32 tiles, at each product that makes a weight's gradient.
        before: Numbers of all tiles, at each product that makes a new one.
    """

    def __init__(self, tile: tuple[int, int], weight: Tensor) -> None:
        super().__init__()
        self.tile, self.shape, self.wide, self.before = tile, weight.shape, list[int](), list[int]()
        self._alive: weakref.WeakKeyDictionary[object, bool] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or result.shape not in (self.tile, self.shape):
            return result
        product = any(kind in func._schema.name for kind in ("mm", "linear"))
        if result.shape == self.tile:
            self.before += [len(self._alive)] * product
            self._alive[result.untyped_storage()] = result.dtype == torch.float32
        elif product:
            self.wide.append(sum(self._alive.values()))
        return result


def test_tiles_leave_memory_before_the_next_large_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "MAX_SAVED_BYTES", {})  # as on a GPU
    states, weight, targets = torch.randn(9, 6).bfloat16().requires_grad_(), torch.randn(20, 6), torch.arange(9)
    head, other = LMHead(weight.requires_grad_()), LMHead(torch.randn(20, 6))
    logprobs = token_logprobs(states, head, targets, tile=(3, 20))[0]
    kl = token_kl(states, head, states.detach(), other, tile=(3, 20))
    for result in (logprobs, kl):
        with WideTiles((3, 20), weight) as mode:
            result.sum().backward()
        assert mode.wide == [0, 0, 0], "no fp32 tile beside the weight's gradient"
        assert mode.before == ([0, 0, 0] if result is logprobs else [0, 1] * 3), "none of the tile before"
