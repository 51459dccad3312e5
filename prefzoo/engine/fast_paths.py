"""Give a loaded model faster attention and operations, if they compute the same logits as its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prefzoo.engine import cpu_ops, packed_attention

PROBE_TOKENS = 16  # spread over the vocabulary: some models' bf16 logits of its first, special ids are only rounding
ATTENTION = ("sdpa", "eager", None)  # in order of preference; None: the architecture's default
MAMBA = ("mamba", "falcon_h1", "nemotron_h")  # parts of the `model_type` of architectures with Mamba's kernels
DROPOUTS = ("drop", "pdrop")  # parts of the names of attributes that hold a dropout rate


def with_attention(load: Callable[..., Any]) -> Any:
    """Load a model with the first attention of `ATTENTION` that its architecture offers.

    Args:
        load: `from_pretrained` of a model, which takes `attn_implementation`.

    Returns:
        The model.

    Raises:
        ValueError: The model cannot be loaded with any attention.
    """
    for name in ATTENTION[:-1]:
        try:
            return load(attn_implementation=name)
        except ValueError as e:
            if name not in str(e) and "attn_implementation" not in str(e):
                raise
    return load()


@torch.no_grad()
def install(model: Any) -> list[str]:
    """Install packed attention and fused operations, each only if the logits of a few tokens stay the same.

    Args:
        model: A causal language model; it is changed in place.

    Returns:
        A message for each of the two that is not installed because it changes the logits.
    """
    expected = _logits(model)
    attention = model.config._attn_implementation
    packed_attention.install(model)
    cpu_ops.install(model)
    if expected is None or _alike(model, expected):
        return []
    cpu_ops.uninstall(model)
    lines = ["fused operations change this architecture's logits; they are not used"]
    if model.config._attn_implementation == attention or _alike(model, expected):
        return lines
    model.set_attn_implementation(attention)
    cpu_ops.install(model)
    own = "packed attention changes this architecture's logits; it is not used"
    if _alike(model, expected):
        return [own]
    cpu_ops.uninstall(model)
    return [*lines, own]


def _alike(model: Any, expected: Tensor) -> bool:
    try:
        logits = _logits(model)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # it lacks a part that is read
        return False
    if logits is None:
        return False
    exact = model.dtype in (torch.float32, torch.float64)
    return bool((logits - expected).abs().mean() <= (1e-3 if exact else 5e-2) * expected.abs().mean())


def _logits(model: Any) -> Tensor | None:
    """Return the logits of a few tokens; None if this process does not hold the weights (ZeRO-3)."""
    if any(p.is_meta or not p.numel() for p in model.parameters()):
        return None
    was_training = model.training
    model.eval()
    words = model.config.get_text_config().vocab_size
    ids = (torch.arange(1, PROBE_TOKENS + 1, device=model.device) * words // (PROBE_TOKENS + 1))[None]
    logits: Tensor = model(input_ids=ids, use_cache=False).logits.float()
    model.train(was_training)
    return logits


def switch_dropout_off(model: Any) -> None:
    """Set the rate of every dropout in a model to zero, in place; its configuration stays as it is."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and any(part in name for part in DROPOUTS):
                setattr(module, name, 0.0)


def linear_layers(model: Any) -> list[str]:
    """Return the names of all linear layers except the head, sorted.

    A name is the last part of a layer's path, or the whole path of a layer that is an item of a list.
    """
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]  # fmt: skip
    last = {name: name.rpartition(".")[2] for name in names}
    return sorted({name if last[name].isdigit() else last[name] for name in names})  # "0" also names decoder layers


def not_adaptable(model: Any) -> list[str] | None:
    """Return the last parts of the paths of linear layers that an adapter cannot wrap; None if it can wrap all."""
    names = {  # Llama 4's router is a linear layer that returns two tensors
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "Router" in type(module).__name__
    }
    if any(kind in model.config.model_type for kind in MAMBA):  # its kernels read these weights without an adapter
        names |= {"out_proj", "conv1d"}
    return sorted(names) or None
