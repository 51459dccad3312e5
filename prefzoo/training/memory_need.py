"""The memory that a training needs, in numbers and in words. Needs no torch, so that an earlier check shows at once."""

from __future__ import annotations

from dataclasses import dataclass

from prefzoo.training.memory_model import GIB

CURE = "set train.micro_batch: 1, train.gradient_checkpointing: true or train.lora: {rank: 16}"


@dataclass(frozen=True)
class MemoryNeed:
    """The peak memory of one process of a training.

    Attributes:
        peak: bytes of weights, gradients, moments and activations.
        most: bytes of the process at most, with what it holds besides.
        free: bytes that are free; None where nothing says so without importing torch.
        on_gpu: whether it is the memory of a GPU.
        scoring: whether the peak is that of scoring the reference, not of training.
    """

    peak: float
    most: float
    free: float | None
    on_gpu: bool
    scoring: bool

    @property
    def line(self) -> str:
        """The need in words, and what to change if it is not free."""
        more = f" (up to {self.most / GIB:.1f} with Python, torch and freed memory)" if self.most > self.peak else ""
        line = f"about {self.peak / GIB:.1f} GiB of memory at the peak{more}"
        if self.free is not None:
            line += f", {self.free / GIB:.1f} GiB are free"
        if self.scoring:
            line += ", while the reference is scored"
        if self.free is not None and self.most > self.free:
            line += (
                "; too little: set train.micro_batch: 1, train.gradient_checkpointing: true or train.lora: {rank: 16}"
            )
        return line


def free_memory() -> float:
    """Return the bytes of the machine's memory that are free."""
    import psutil

    return float(psutil.virtual_memory().available)
