"""Attention within packed blocks: every way of computing it against plain attention of each answer by itself."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from emulated_gpu import emulated_gpu
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from prefzoo.engine import attention_pieces, cpu_attention, packed_attention, padded_attention, varlen_attention
from prefzoo.engine.block_index import BlockIndex

BLOCKS = ((3, 4, 2), (5, 1, 6), (2, 7, 0), (1, 1, 1))
QUERIES, SAVED = 24, 64  # pieces in these tests, smaller than real ones and cut in the same way
LONG = ((20, SAVED + 20, 70), (5, 3, QUERIES - 5), (30, 7, SAVED))
HEADS, KEYS, SCALE = 4, 2, 0.3


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_pieces, "QUERIES_PER_PIECE", QUERIES)
    for module in (attention_pieces, cpu_attention):
        monkeypatch.setattr(module, "MAX_SAVED_KEYS", SAVED)


def inputs(blocks: Any, width: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    gen, size = torch.Generator().manual_seed(0), sum(map(sum, blocks))
    shapes = ((HEADS, width), (KEYS, width), (KEYS, width))
    wide = [torch.randn(1, size, n, d, generator=gen, dtype=torch.float64).transpose(1, 2) for n, d in shapes]
    return [x.to(dtype).requires_grad_() for x in wide]


def answer_by_answer(query: Tensor, key: Tensor, value: Tensor, blocks: Any, window: int | None, cap: float) -> Tensor:
    """In fp64: scores, mask and softmax of every answer's own sequence."""
    out, start = [], 0
    for prompt, first, second in blocks:
        at = torch.arange(start, start + prompt + first + second)
        one, other = at[: prompt + first], torch.cat((at[:prompt], at[prompt + first :]))
        for own, new in ((one, one), (other, other[prompt:]))[: 2 if second else 1]:
            q, (k, v) = query[0, :, new], (x[0, :, own].repeat_interleave(HEADS // KEYS, 0) for x in (key, value))
            scores = q @ k.transpose(1, 2) * SCALE
            scores = cap * torch.tanh(scores / cap) if cap else scores
            distance = torch.arange(len(own) - len(new), len(own))[:, None] - torch.arange(len(own))
            hidden = (distance < 0) | (distance >= (window or len(own)))
            out.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1))
        start += prompt + first + second
    return torch.cat(out)[None]


def of_cpus(q: Tensor, k: Tensor, v: Tensor, index: BlockIndex, window: int | None, cap: float) -> Tensor:
    return cpu_attention.attend(q, k, v, index.blocks, cpu_attention.AttentionKind(SCALE, window, cap))


def padded(q: Tensor, k: Tensor, v: Tensor, index: BlockIndex, window: int | None, cap: float) -> Tensor:
    return padded_attention.attend(q, k, v, index, SCALE, window, cap)


def varlen(q: Tensor, k: Tensor, v: Tensor, index: BlockIndex, window: int | None, cap: float) -> Tensor:
    return varlen_attention.attend(q, k, v, index, SCALE, window)


WAYS = [(of_cpus, cap) for cap in (0.0, 2.0)] + [(padded, cap) for cap in (0.0, 2.0)] + [(varlen, 0.0)]


@pytest.mark.parametrize("blocks", [BLOCKS, LONG, ((4, 3, 0), (2, 5, 0))], ids=["short", "long", "without second"])
@pytest.mark.parametrize("window", [None, 3, 40, 10_000])
@pytest.mark.parametrize(("way", "cap"), WAYS, ids=[f"{way.__name__}, cap {cap}" for way, cap in WAYS])
def test_each_way_attends_as_plain_attention_of_each_answer(
    way: Callable[..., Tensor], cap: float, window: int | None, blocks: Any
) -> None:
    exact = inputs(blocks, 8)
    dtype = torch.bfloat16 if way is varlen else torch.float64
    if dtype is torch.bfloat16:  # the emulated kernel computes in fp64: only what it is given and returns is rounded
        exact = [x.detach().bfloat16().double().requires_grad_() for x in exact]
    own = [x.detach().to(dtype).requires_grad_() for x in exact]
    expected = answer_by_answer(*exact, blocks, window, cap)
    with emulated_gpu():
        values = way(*own, BlockIndex(blocks), window, cap)
        weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
        grads = torch.autograd.grad((values * weights.to(dtype)).sum(), own)
    bound: dict[str, float] = {"rtol": 0.02, "atol": 0.02} if dtype is torch.bfloat16 else {}
    torch.testing.assert_close(values.double(), expected, **bound)
    wanted = torch.autograd.grad((expected * weights.double()).sum(), exact)
    for grad, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad.double(), other, **bound)


@pytest.mark.parametrize("blocks", [BLOCKS, LONG])
def test_half_precision_on_cpus_stays_near(blocks: Any) -> None:
    """Across the borders of pieces, with weights that are saved, and others that are computed again."""
    exact, own = inputs(blocks, 8), inputs(blocks, 8, torch.bfloat16)
    expected, values = (of_cpus(*x, BlockIndex(blocks), None, 0.0) for x in (exact, own))
    torch.testing.assert_close(values.double(), expected, rtol=0.02, atol=0.05)
    wanted, grads = (torch.autograd.grad(y.sum(), x) for y, x in ((expected, exact), (values, own)))
    for grad, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad.double(), other, rtol=0.05, atol=0.1)


class Counted(TorchDispatchMode):
    """Counts dispatched operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[str(func)] += 1
        return func(*args, **(kwargs or {}))


CASES = [
    (torch.bfloat16, 8, {}), (torch.bfloat16, 8, {"sliding_window": 3}), (torch.float16, 8, {}),
    (torch.float32, 8, {}), (torch.float32, 8, {"sliding_window": 3}), (torch.bfloat16, 8, {"softcap": 2.0}),
    (torch.bfloat16, 6, {}),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "width", "kwargs"), CASES)
def test_operations_of_a_layer_do_not_depend_on_the_number_of_pairs(
    dtype: torch.dtype, width: int, kwargs: dict[str, Any]
) -> None:
    counts = []
    for pairs in (2, 32):
        blocks = tuple((5 + i % 3, 1 + i % 4, 2 + i % 5) for i in range(pairs))
        q, k, v = inputs(blocks, width, dtype)
        given = packed_attention.forward_kwargs(blocks) | kwargs
        with emulated_gpu():
            once = partial(packed_attention.attend, None, q, k, v, scaling=SCALE, **given)
            once()  # the first layer computes indices and masks for all
            with Counted() as counted:
                torch.autograd.grad(once()[0].sum(), (q, k, v))
        counts.append(counted.names)
    assert counts[0] == counts[1]
    is_varlen = dtype is not torch.float32 and width == 8 and "softcap" not in kwargs
    assert any("_flash_attention_forward" in name for name in counts[0]) == is_varlen
    assert sum(counts[0].values()) < (60 if is_varlen else 110)


@pytest.mark.parametrize("window", [None, 3])
def test_the_operator_is_called_as_torch_calls_it(window: int | None) -> None:
    from torch.nn.attention.varlen import varlen_attn

    own = inputs(BLOCKS, 8, torch.bfloat16)
    index = BlockIndex(BLOCKS).sequences(torch.device("cpu"))
    assert index.keys is not None
    grouped = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    with emulated_gpu():
        values = varlen(*own, BlockIndex(BLOCKS), window, 0.0)
        q, k, v = (x[0].transpose(0, 1) for x in own)
        expected: Any = varlen_attn(
            q, k[index.keys], v[index.keys], index.query_starts, index.key_starts, index.most_queries, index.most_keys,
            scale=SCALE, window_size=(-1 if window is None else window - 1, 0), **grouped,
        )  # fmt: skip
        assert torch.equal(values[0], expected)
        both = [torch.autograd.grad(output.float().square().sum(), own) for output in (values, expected)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*both, strict=True))


def test_indices_and_masks_are_computed_once_for_all_layers() -> None:
    index, cpu = BlockIndex(BLOCKS), torch.device("cpu")
    assert index.sequences(cpu) is index.sequences(cpu) and index.padded(cpu) is index.padded(cpu)
    assert index.mask(cpu, None) is index.mask(cpu, 100) is not index.mask(cpu, 3)
    order = index.sequences(cpu).keys
    assert order is not None
    assert order.tolist()[:12] == [*range(7), 0, 1, 2, 7, 8] and index.sequences(cpu).most_queries == 9
    assert BlockIndex(((3, 4, 0), (2, 2, 0))).sequences(cpu).keys is None, "nothing to gather"


@pytest.mark.parametrize(
    ("capability", "largest"), [((7, 5), 0), ((8, 0), 256), ((8, 6), 192), ((9, 0), 256), ((12, 0), 192)]
)
def test_cards_that_have_the_kernel(capability: tuple[int, int], largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    varlen_attention.largest_head.cache_clear()
    assert varlen_attention.largest_head(torch.device("cuda")) == largest
    varlen_attention.largest_head.cache_clear()
    assert varlen_attention.largest_head(torch.device("cpu")) == 0


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 3, 300])
def test_the_kernel_on_a_gpu_attends_as_plain_attention_does(window: int | None) -> None:
    for blocks, width in itertools.product((BLOCKS, LONG), (8, 64, 128, 256)):
        exact = [x.detach().bfloat16().double().requires_grad_() for x in inputs(blocks, width)]
        own = [x.detach().bfloat16().cuda().requires_grad_() for x in exact]
        assert varlen_attention.fits(*own)
        values, expected = varlen(*own, BlockIndex(blocks), window, 0.0), answer_by_answer(*exact, blocks, window, 0.0)
        torch.testing.assert_close(values.double().cpu(), expected, rtol=0.02, atol=0.02)
        grads, wanted = torch.autograd.grad(values.sum(), own), torch.autograd.grad(expected.sum(), exact)
        for grad, other in zip(grads, wanted, strict=True):  # a key's gradient sums many products of bf16
            assert torch.linalg.vector_norm(grad.double().cpu() - other) < 0.02 * torch.linalg.vector_norm(other)
