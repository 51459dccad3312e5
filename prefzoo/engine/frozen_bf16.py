"""Frozen weights in the precision that products read them in: half the memory, the same bits.

Under autocast a linear layer casts its fp32 weight to bf16 each time it is used. A weight that is not trained may as
well be kept so. Embeddings and norms, which are read in fp32, stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PROBE_TOKENS = 16  # token ids


@torch.no_grad()
def cast_frozen_layers(model: Any) -> bool:
    """Keep the frozen linear layers of a causal language model in bf16, in place; for use under autocast to bf16 alone.

    Returns whether the logits of a few tokens are, to the last bit, those of before. Where they are not (a layer that
    switches autocast off), or it fails now, the model must be loaded again: its weights were rounded.
    """
    frozen = _frozen_linear(model)
    before = _logits(model)
    _spare_casts(model)
    for layer in frozen:
        layer.weight.data = layer.weight.data.to(torch.bfloat16)
        if layer.bias is not None:
            layer.bias.data = layer.bias.data.to(torch.bfloat16)
    _own(model)
    try:
        return torch.equal(before, _logits(model))
    except RuntimeError:  # a layer multiplies by its weight in fp32 alone
        return False


def _frozen_linear(model: Any) -> list[nn.Linear]:
    """Plain linear layers that are not trained, less those whose weight is also read in fp32."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings()
    embedding = causal.get_input_embeddings().weight
    return [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear
        and layer.weight.dtype == torch.float32
        and not any(p.requires_grad for p in layer.parameters())
        and layer.weight is not embedding
        and layer is not getattr(head, "base_layer", None)  # an adapter's change is added to it in fp32
    ]


def _spare_casts(model: Any) -> None:
    """Let no adapter cast its bf16 input to fp32, which autocast would cast back: a copy for each, kept for later.

    Dropout is left its fp32 input: its scale is rounded in the precision that it works in.
    """
    for layer in model.modules():
        if hasattr(layer, "lora_dropout") and not any(getattr(d, "p", 0.0) for d in layer.lora_dropout.values()):
            layer.cast_input_dtype_enabled = False  # as peft.helpers.disable_input_dtype_casting, for good


def _own(model: Any) -> None:
    """Copies of what was not converted: on CPUs weights are views of the file, all of which one of them keeps."""
    for value in [*model.parameters(), *model.buffers()]:
        if value.device.type == "cpu" and not value.requires_grad:
            value.data = value.data.clone()


def _logits(model: Any) -> Tensor:
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(PROBE_TOKENS, device=device)[None] % model.config.vocab_size
    with torch.autocast(device.type, torch.bfloat16):
        found: Tensor = model(input_ids=ids, use_cache=False).logits
    model.train(was_training)
    return found
