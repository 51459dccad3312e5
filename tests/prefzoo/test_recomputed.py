"""What the backward pass computes again: the same gradients to the last bit, from fewer bytes, as the formula says."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from emulated_gpu import emulated_gpu
from test_engine import random_pairs
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from prefzoo.data.batches import collate
from prefzoo.engine import cpu_ops, models, packed_attention, recomputed
from prefzoo.engine.adapter_product import fused_adapters
from prefzoo.engine.compute_weights import half_precision_weights
from prefzoo.engine.fused_ops import gate, norm
from prefzoo.engine.logprobs import score
from prefzoo.training.memory_model import TrainingPlan, footprint, model_shape

CPU = torch.device("cpu")
SIZE = {
    "vocab_size": 340, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 256,
    "tie_word_embeddings": True, "pad_token_id": 0,
}  # fmt: skip


def model_of(layers: int) -> Any:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZE, num_hidden_layers=layers))
    packed_attention.install(model)
    cpu_ops.install(model)
    return model.train()


def gradients(model: Any, *, again: bool, bf16: bool) -> dict[str, Tensor]:
    """Gradients of a pass whose outputs of norms and gates are computed again, or kept."""
    device = CPU if again else torch.device("meta")
    with emulated_gpu(), fused_adapters(model), half_precision_weights(model, enabled=bf16):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), recomputed.recomputed(device):
            margin = score(model, collate(random_pairs(), "shared", pad=0)).margin
        (margin**2).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def adapted(model: Any) -> Any:
    return models.add_lora(model, rank=2, alpha=4.0, dropout=0.0, targets="all-linear", seed=0)


def checkpointed(model: Any) -> Any:
    model.activation_checkpointing_enable({"use_reentrant": False})
    return model


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("prepared", [lambda model: model, adapted, checkpointed], ids=["full", "lora", "checkpointed"])
def test_gradients_are_the_same_to_the_last_bit(prepared: Callable[[Any], Any], bf16: bool) -> None:
    model = model_of(2)
    expected, own = (gradients(prepared(copy.deepcopy(model)), again=again, bf16=bf16) for again in (False, True))
    assert expected.keys() == own.keys() and own
    assert all(torch.equal(own[name], grad) for name, grad in expected.items())


def kept_bytes(layers: int, *, again: bool = True) -> tuple[int, int]:
    """Bytes that a pass under bf16 autocast keeps for its backward pass, and its tokens."""
    model, kept, pack = model_of(layers), dict[int, Tensor](), recomputed.pack
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def noted(tensor: Tensor) -> Any:
        held = pack(tensor) if again else tensor
        if isinstance(held, Tensor) and tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no other tensor takes its place
        return held

    batch = collate(random_pairs(), "shared", pad=0)
    with pytest.MonkeyPatch.context() as patch, emulated_gpu(), half_precision_weights(model, enabled=True):
        patch.setattr(recomputed, "pack", noted)
        read = [p for m in model.modules() for p in m._parameters.values() if p is not None]
        copies = {p.untyped_storage().data_ptr() for p in read}
        with torch.autocast("cpu", torch.bfloat16), recomputed.recomputed(CPU):
            values = score(model, batch)
    assert values.chosen.requires_grad
    own = [tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in copies]
    return sum(own), batch.tokens.numel()


def test_what_a_layer_keeps_is_what_the_formula_says() -> None:
    few, tokens = kept_bytes(1)
    more, _ = kept_bytes(2)
    shape = model_shape(Qwen2Config(**SIZE, num_hidden_layers=1))
    plan = TrainingPlan(tokens, tokens, 0, bf16=True, device_type="cuda")
    assert more - few == pytest.approx(footprint(shape, plan).activations, rel=0.1)


def test_a_third_of_a_layer_is_not_kept() -> None:
    most, least = (kept_bytes(2, again=again)[0] - kept_bytes(1, again=again)[0] for again in (False, True))
    assert least < 0.75 * most


def test_what_changed_since_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputed, "DEVICES", ("cpu",))
    layer, x = nn.Linear(4, 4, bias=False), torch.randn(3, 4, requires_grad=True)
    with recomputed.recomputed(CPU):
        both = gate(x, x.detach())
        assert isinstance(recomputed.pack(both.view(12)), tuple), "a view of the whole is the whole"
        assert isinstance(recomputed.pack(both[:1]), Tensor) and isinstance(recomputed.pack(both.t()), Tensor)
        both.mul_(2.0)
        layer(both).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, both.detach().sum(0).expand(4, 4))


def test_outside_nothing_is_noted() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    normed = norm(x, torch.ones(4), 1e-6, torch.float32)
    with emulated_gpu(), recomputed.recomputed(CPU):
        kept = recomputed.pack(normed)
    assert isinstance(kept, Tensor) and kept.data_ptr() == normed.data_ptr()


def test_a_pass_without_backward_leaves_no_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when memory runs out in a forward pass, which is then repeated with fewer rows."""
    monkeypatch.setattr(recomputed, "DEVICES", ("cpu",))
    x = torch.randn(3, 4, requires_grad=True)
    with recomputed.recomputed(CPU):
        output = x.softmax(-1)  # saves its output
        total = output.sum()
    memory = weakref.ref(output.untyped_storage())
    del output, total
    gc.collect()
    assert memory() is None, "kept by its own graph"
