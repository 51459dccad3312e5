"""Kernels for tiles of the head's products: the same numbers whichever computes them, and how one is chosen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prefzoo.engine import autotune, flex_attention, head_kernels, packed_attention
from prefzoo.engine import lm_head as head_module
from prefzoo.engine.autotune import Choices
from prefzoo.engine.head_kernels import Kernels
from prefzoo.engine.lm_head import LMHead, token_logprobs
from prefzoo.runtime.paths import cache_dir

TILE = (4, 3)  # neither divides the sizes below


@pytest.fixture(autouse=True)
def _unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(autotune, "CHOICES", Choices())


def called(head: LMHead, states: Tensor, targets: Tensor, grad: Tensor) -> list[Tensor]:
    inputs = [t for t in (states, head.weight, head.bias) if t is not None and t.requires_grad]
    found = token_logprobs(states, head, targets, tile=TILE)[0]
    return [found, *torch.autograd.grad(found, inputs, grad)]


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_the_kernels_path_gives_what_the_plain_one_gives(
    cap: float, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gen = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(*size, generator=gen) for size in ((11, 5), (13, 5), (13,)))
    head = LMHead(weight.requires_grad_(not frozen), bias.requires_grad_(not frozen), 0.7, cap)
    states.requires_grad_()
    targets, grad = torch.randint(0, 13, (11,), generator=gen), torch.randn(11, generator=gen)
    expected = called(head, states, targets, grad)
    asked: list[str] = []

    def noted(*args: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked.append("summary")
        return head_kernels.summarize(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(head_module, "AUTOTUNED_DEVICES", ("cpu",))
    monkeypatch.setattr(head_kernels, "candidates", lambda: {"noted": Kernels(noted, head_kernels.grad_products)})
    for a, b in zip(expected, called(head, states, targets, grad), strict=True):
        torch.testing.assert_close(a, b)
    assert asked


def test_what_is_slow_wrong_or_broken_is_not_chosen_and_the_choice_is_kept() -> None:
    called: list[str] = []

    def plain(_: int) -> list[Tensor]:
        called.append("plain")
        return [torch.arange(4.0)]

    def late(_: int) -> list[Tensor]:
        time.sleep(0.01)
        return [torch.arange(4.0)]

    def wrong(_: int) -> list[Tensor]:
        return [torch.arange(4.0) * 1.1]

    def broken(_: int) -> list[Tensor]:
        raise RuntimeError("no such instruction")

    ways, cpu = {"plain": plain, "late": late, "wrong": wrong, "broken": broken}, torch.device("cpu")
    assert Choices().of("work", ways, cpu, rough=False) == "plain"
    count = len(called)
    assert Choices().of("work", ways, cpu, rough=False) == "plain" and len(called) == count, "another process reads it"
    assert Choices().of("other work", {"late": late, "plain": plain}, cpu, rough=False) == "plain"
    assert Choices().of("work", {"late": late}, cpu, rough=False) == "late", "what is kept is not there any more"
    (file,) = cache_dir("kernels").iterdir()
    file.write_text("{broken")
    assert Choices().of("work", ways, cpu, rough=False) == "plain"


@pytest.mark.slow
@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_compiled_kernels_give_the_same(cap: float) -> None:
    products = torch.randn(6, 40)
    with torch.no_grad():
        expected, found = (
            head_kernels._run_both(head_kernels.candidates()[name], products.clone, 0.7, cap)
            for name in ("torch", "torch.compile")
        )
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 3])
def test_one_kernel_for_all_blocks_attends_as_one_call_for_each_answer(window: int | None, cap: float | None) -> None:
    gen = torch.Generator().manual_seed(0)
    blocks = ((3, 4, 2), (5, 1, 6), (2, 7, 0))
    size = sum(map(sum, blocks))
    qkv = [torch.randn(1, heads, size, 16, generator=gen) for heads in (4, 2, 2)]  # on CPUs it has no backward pass
    kwargs = {packed_attention.BLOCKS: blocks, "sliding_window": window, "softcap": cap}
    found = flex_attention.attend(*qkv, blocks, 0.3, window, cap, kernel=flex_attention.flex_attention)
    torch.testing.assert_close(found, packed_attention._one_by_one(*qkv, 0.3, kwargs))


@pytest.mark.gpu
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 3])
def test_all_ways_of_attending_agree_on_a_gpu(window: int | None, cap: float | None) -> None:
    gen = torch.Generator().manual_seed(0)
    blocks = ((3, 4, 2), (5, 1, 6), (2, 7, 0))
    qkv = [torch.randn(1, heads, sum(map(sum, blocks)), 16, generator=gen).cuda() for heads in (4, 2, 2)]
    kwargs = {packed_attention.BLOCKS: blocks, "sliding_window": window, "softcap": cap}
    ways = [
        packed_attention._forward_and_backward(way, *qkv, 0.3, kwargs, 1)
        for way in packed_attention.IMPLEMENTATIONS.values()
    ]
    torch.testing.assert_close(*ways, rtol=1e-2, atol=1e-2)


def test_attention_is_measured_on_changing_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[int, int, int], ...]] = []

    def noted(*args: Any) -> Tensor:
        seen.append(args[4][packed_attention.BLOCKS])
        time.sleep(0.01)
        return packed_attention._one_by_one(*args)

    blocks = ((3, 4, 2), (5, 1, 6), (2, 7, 0))
    qkv = [torch.randn(1, heads, sum(map(sum, blocks)), 16) for heads in (4, 2, 2)]
    monkeypatch.setattr(
        packed_attention, "IMPLEMENTATIONS", {"one by one": packed_attention._one_by_one, "noted": noted}
    )
    kwargs = {packed_attention.BLOCKS: blocks}
    found = packed_attention._fastest(*qkv, 0.3, kwargs)
    torch.testing.assert_close(found, packed_attention._one_by_one(*qkv, 0.3, kwargs))
    assert len({len(layout) for layout in seen}) == 2 and len(set(seen)) > 4, "sizes and orders change"
    assert set(autotune.CHOICES.known.values()) == {"one by one"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_long_answers_are_attended_to_in_pieces(dtype: torch.dtype) -> None:
    """Across the borders of pieces, with weights that are kept, and others that are made again."""
    gen = torch.Generator().manual_seed(0)
    blocks = (
        (40, packed_attention.MAX_SAVED_KEYS + 30, 300),
        (5, 3, packed_attention.QUERIES_PER_PIECE - 5),
        (60, 7, packed_attention.MAX_SAVED_KEYS),
    )
    size = sum(map(sum, blocks))
    qkv = [torch.randn(1, heads, size, 8, generator=gen, dtype=torch.float64).requires_grad_() for heads in (4, 2, 2)]
    own = [x.detach().to(dtype).requires_grad_() for x in qkv]
    expected = packed_attention._one_by_one(*qkv, 0.3, {packed_attention.BLOCKS: blocks})
    found = packed_attention._packed(*own, 0.3, 0.0, {packed_attention.BLOCKS: blocks})
    near = {"rtol": 0.02, "atol": 0.05} if dtype is torch.bfloat16 else {}
    torch.testing.assert_close(found.double(), expected, **near)
    weights = torch.randn(found.shape, generator=gen, dtype=torch.float64)
    one = torch.autograd.grad((expected * weights).sum(), qkv)
    two = torch.autograd.grad((found * weights.to(dtype)).sum(), own)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(b.double(), a, **near)


INTERPRETED = """
import torch
from prefzoo.engine import head_kernels, triton_head
torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    for cap in (0.0, 5.0):
        products, grad = (torch.randn(7, 5000) * 4).to(dtype), torch.randn(7)
        columns = torch.tensor([-1, 0, 4999, 17, -1, 4096, 4095])  # around the blocks' borders
        expected = head_kernels.summarize(products, columns, 0.7, cap)
        for a, b in zip(expected, triton_head.summarize(products, columns, 0.7, cap), strict=True):
            torch.testing.assert_close(a, b)
        lse = expected[0] + expected[1].log()
        both = head_kernels.grad_products, triton_head.grad_products
        torch.testing.assert_close(*(f(products.clone(), lse, columns, grad, 0.7, cap) for f in both))
"""


@pytest.mark.skipif(not find_spec("triton"), reason="Triton comes with torch for GPUs; its interpreter runs anywhere")
def test_triton_kernels_give_the_same_in_its_interpreter() -> None:
    probe = interpreted(str(Path(__file__).with_name("triton_probe.py")))
    if probe.returncode:
        pytest.skip(f"Triton's interpreter fails by itself: {probe.stderr.splitlines()[-1]}")
    done = interpreted("-c", INTERPRETED)
    assert done.returncode == 0, done.stderr[-2000:]


def interpreted(*words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TRITON_INTERPRET": "1"}
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_kernels_agree_on_a_gpu(dtype: torch.dtype) -> None:
    products = torch.randn(1024, 16384, device="cuda").to(dtype)
    with torch.no_grad():
        ways = head_kernels.candidates().values()
        expected, *others = (head_kernels._run_both(which, products.clone, 1.0, 0.0) for which in ways)
    for found in others:
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-3)
