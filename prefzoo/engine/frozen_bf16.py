"""Store frozen weights in bf16, the precision that matrix products read them in: half the memory, the same results.

Under autocast, a linear layer casts its fp32 weight to bf16 each time it is used; a weight that is not trained can be
stored that way. Embeddings and norms are read in fp32 and stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PROBE_TOKENS = 16  # token ids
HALF = (torch.bfloat16, torch.float16)


@torch.no_grad()
def cast_frozen_layers(model: Any) -> bool:
    """Cast the frozen linear layers of a causal language model to bf16, in place, for use under bf16 autocast only.

    In a model that was loaded in half precision, everything except these layers is cast to fp32.

    Returns:
        Whether the cast model can be used. A model that was loaded in fp32 must return the same logits of a few tokens
        to the last bit, and one in half precision must return finite logits. If it cannot be used (a layer switches
        autocast off or cannot multiply by bf16 weights), load it again, because its weights were rounded.
    """
    if model.dtype in HALF:
        return _widen_all_but_linear(model)
    frozen = _frozen_linear(model, torch.float32)
    before = _logits(model)
    _skip_adapter_casts(model)
    for layer in frozen:
        layer.weight.data = layer.weight.data.to(torch.bfloat16)
        if layer.bias is not None:
            layer.bias.data = layer.bias.data.to(torch.bfloat16)
    _copy_mapped_weights(model)
    try:
        return torch.equal(before, _logits(model))
    except RuntimeError:  # a layer that multiplies in fp32 only
        return False


def _widen_all_but_linear(model: Any) -> bool:
    _skip_adapter_casts(model)
    layers = [layer for dtype in HALF for layer in _frozen_linear(model, dtype)]
    narrow = {id(p) for layer in layers for p in (layer.weight, layer.bias)}
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data = value.data.to(torch.bfloat16 if id(value) in narrow else torch.float32)
    try:
        return bool(_logits(model).isfinite().all())
    except RuntimeError:  # a layer that multiplies in fp32 only
        return False


def _frozen_linear(model: Any, dtype: torch.dtype) -> list[nn.Linear]:
    """Return the frozen plain linear layers, except those whose weight is also read in fp32."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings()
    embedding = causal.get_input_embeddings().weight
    return [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear
        and layer.weight.dtype == dtype
        and not any(p.requires_grad for p in layer.parameters())
        and layer.weight is not embedding
        and layer is not getattr(head, "base_layer", None)  # an adapter's update is added to it in fp32
    ]


def _skip_adapter_casts(model: Any) -> None:
    """Stop adapters from casting bf16 inputs to fp32: autocast casts them back, and each copy stays in memory.

    An adapter with dropout keeps its fp32 input, because dropout rounds its scale to the precision of its input.
    """
    for layer in model.modules():
        if hasattr(layer, "lora_dropout") and not any(getattr(d, "p", 0.0) for d in layer.lora_dropout.values()):
            layer.cast_input_dtype_enabled = False  # as peft.helpers.disable_input_dtype_casting, permanently


def _copy_mapped_weights(model: Any) -> None:
    """Copy the frozen weights on CPUs.

    Those that were not cast are views of the file, and a single view keeps the whole file in memory.
    """
    for value in [*model.parameters(), *model.buffers()]:
        if value.device.type == "cpu" and not value.requires_grad:
            value.data = value.data.clone()


def _logits(model: Any) -> Tensor:
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(PROBE_TOKENS, device=device)[None] % model.config.vocab_size
    with torch.autocast(device.type, torch.bfloat16):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    model.train(was_training)
    return logits
