"""The one-pass operations against the modules that they replace: values, gradients, and what is left alone."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

import pytest
import torch

from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import cpu_ops, fused_ops, packed_attention
from prefzoo.engine.logprobs import score

PAIRS = [TokenPair([5, 6], [7, 8, 3], [9, 3], 0), TokenPair([10], [11, 3], [12, 13, 14, 3], 1)]
OFFSET = 10  # a global name that a function reads
KINDS = ["llama", "qwen3", "mistral", "gemma2", "phi3", "olmo2"]


def model_of(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind, vocab_size=340, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=64, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.data.uniform_(0.5, 1.5)
    packed_attention.install(model)
    return model


def outcome(model: Any, bf16: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        scored = score(model, collate(PAIRS, "shared", pad=0))
    scored.margin.sum().backward()
    return scored.margin.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_stay(kind: str) -> None:
    model = model_of(kind)
    before, grads = outcome(model)
    cpu_ops.install(model)
    after, others = outcome(model)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-4)
    assert grads.keys() == others.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(others[name], grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max()), msg=name)


def test_what_a_llama_has_is_replaced() -> None:
    model = model_of("llama")
    cpu_ops.install(model)
    own = {type(m).__name__: m.forward for m in model.modules() if "forward" in vars(m)}
    assert own.keys() == {"LlamaRMSNorm", "LlamaMLP", "LlamaAttention"}
    names = inspect.unwrap(own["LlamaAttention"].__func__).__globals__
    assert names[cpu_ops.ROTARY] is fused_ops.rotate


def test_a_decorated_attention_keeps_its_decorator() -> None:
    """As transformers does with renamed keywords."""

    def renamed(function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(self: Any, old: Any) -> Any:
            return function(self, new=old + 1)

        return wrapped

    def inner(self: Any, new: Any) -> Any:
        return new + OFFSET

    copied = cpu_ops._copy_with_global(renamed(inner), "OFFSET", 20)
    assert copied is not None and str(inspect.signature(copied)).startswith("(self")
    assert copied(None, old=1) == 22 and renamed(inner)(None, old=1) == 12


def test_another_rotation_stays() -> None:
    """One of interleaved pairs instead of halves."""

    def apply_rotary_pos_emb(q: Any, k: Any, cos: Any, sin: Any) -> Any:
        turned = [torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2) for x in (q, k)]
        return tuple(x * cos.unsqueeze(1) + y * sin.unsqueeze(1) for x, y in zip((q, k), turned, strict=True))

    assert cpu_ops._rotates_alike(fused_ops.rotate) and not cpu_ops._rotates_alike(apply_rotary_pos_emb)


def test_a_norm_of_another_kind_stays() -> None:
    model = model_of("gemma2")  # its norms multiply by 1 + weight, and its gate is a GELU
    cpu_ops.install(model)
    assert {type(m).__name__ for m in model.modules() if "forward" in vars(m)} == {"Gemma2Attention"}


def test_a_copy_has_its_own_weights() -> None:
    model = model_of("llama")
    cpu_ops.install(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.norm.weight.mul_(2.0)
    assert not torch.allclose(outcome(model)[0], outcome(other)[0])


def test_under_autocast_the_residual_stream_stays_fp32() -> None:
    model = model_of("llama")
    exact, _ = outcome(model)
    plain, _ = outcome(model, bf16=True)
    cpu_ops.install(model)
    lean, grads = outcome(model, bf16=True)
    assert (lean - exact).abs().max() < 2 * (plain - exact).abs().max() + 0.1
    assert all(g.dtype == torch.float32 for g in grads.values())


def test_gradients_by_finite_differences() -> None:
    gen = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 3, 5, 4, generator=gen, dtype=torch.float64, requires_grad=True) for _ in range(2))
    angle = torch.randn(2, 1, 5, 2, generator=gen, dtype=torch.float64).repeat(1, 1, 1, 2)
    assert torch.autograd.gradcheck(fused_ops._Gate.apply, (x, y))
    assert torch.autograd.gradcheck(lambda a: fused_ops._Rotate.apply(a, angle.cos(), angle.sin()), x)
