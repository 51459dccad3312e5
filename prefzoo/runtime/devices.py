"""Return which device this process computes on; torch is imported only if an accelerator may be present."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prefzoo.runtime.versions import version_of

NVIDIA = ("nvidia[0-9]*", "dxg")
OTHERS = ("kfd", "dri", "accel*", "davinci*", "hl[0-9]*")  # device files of AMD, Intel, Google, Huawei and Habana


def may_have_accelerator() -> bool:
    """Return whether torch may find an accelerator; False if torch's build or the machine certainly has none."""
    if "+cpu" in str(version_of("torch")):
        return False
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    patterns = OTHERS if hidden else (*NVIDIA, *OTHERS)
    return sys.platform != "linux" or any(any(Path("/dev").glob(pattern)) for pattern in patterns)


def has_gpu() -> bool:
    """Return whether torch can compute on a GPU here."""
    if not may_have_accelerator():
        return False
    import torch

    return bool(torch.cuda.is_available())


def is_alone() -> bool:
    """Return whether this is the only process of its run, and computes on the CPU."""
    return os.environ.get("WORLD_SIZE", "1") == "1" and not may_have_accelerator()


def device_type() -> str:
    """Return the type of the device that this process computes on, such as `cpu` or `cuda`."""
    if is_alone():
        return "cpu"
    from prefzoo.runtime.distributed import process_state

    return str(process_state().device.type)


def process_count() -> int:
    """Return how many processes share the run."""
    if is_alone():
        return 1
    from prefzoo.runtime.distributed import process_state

    return int(process_state().num_processes)
