"""Precision of matrix products: fp32, or bf16 under autocast. Log-probs, their sums and losses are always fp32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefzoo.recipe.sections import Train
from prefzoo.runtime.devices import has_gpu
from prefzoo.runtime.lazy_torch import torch


def native_bf16() -> bool:
    """Return whether this machine multiplies bf16 in hardware: a GPU with bf16, or a CPU with its instructions."""
    if has_gpu():
        return bool(torch.cuda.is_bf16_supported())
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def use_bf16(train: Train) -> bool:
    """Return whether the recipe's `train.precision` means bf16 on this machine."""
    return train.precision == "bf16" or (train.precision == "auto" and native_bf16())


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
