"""Precision of matrix products: fp32, or bf16 under autocast. Log-probs, their sums and losses are always fp32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefzoo.recipe.sections import Train
from prefzoo.runtime.devices import has_gpu
from prefzoo.runtime.lazy_torch import torch

FREQUENCIES = "inv_freq"  # end of the names of buffers with the frequencies of rotary positions


def native_bf16() -> bool:
    """Return whether this machine multiplies bf16 in hardware: a GPU with bf16, or a CPU with its instructions."""
    if has_gpu():
        return bool(torch.cuda.is_bf16_supported())
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def use_bf16(train: Train) -> bool:
    """Return whether the recipe's `train.precision` means bf16 on this machine."""
    return train.precision == "bf16" or (train.precision == "auto" and native_bf16())


def to_bf16(model: Any) -> Any:
    """Cast a model to bf16 in place, and return it.

    The frequencies of rotary positions stay in fp32, as in a model that is loaded in bf16. Rounded, they turn a token
    that is a thousand tokens away by up to two radians more or less.
    """
    exact = [
        (module._buffers, name, value)
        for module in model.modules()
        for name, value in module._buffers.items()
        if name.endswith(FREQUENCIES)
    ]
    model.to(torch.bfloat16)
    for buffers, name, value in exact:
        buffers[name] = value
    return model


def answering_key(dtype: torch.dtype) -> str:
    """Return what identifies the precision of a model that answers, for keys of caches."""
    return f"{dtype}, exact positions" if dtype == torch.bfloat16 else str(dtype)  # once bf16 rounded these, too


def autocast(device: torch.device, *, bf16: bool) -> torch.autocast:
    """Return the context of one forward pass; references and policies are scored under the same one."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


@contextmanager
def step_autocast(device: torch.device, *, bf16: bool) -> Iterator[None]:
    """Share autocast's bf16 copies of the weights among all passes of a step.

    Autocast keeps the copies until its outermost context ends. Inside this one, autocast is off until a pass switches
    it on.

    Args:
        device: Device of the passes.
        bf16: Whether to share copies. If not, autocast keeps none: of weights that are sharded, it would keep the whole
            model in each process.

    Returns:
        A context manager without a value.
    """
    shared = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    with shared, torch.autocast(device.type, enabled=False, cache_enabled=bf16):
        yield
