"""A judging model waits in main memory, and takes the accelerator only while it judges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefzoo.runtime.devices import has_gpu


@contextmanager
def on_accelerator(model: Any) -> Iterator[None]:
    """Move a model to the GPU for the block, so that the GPU is free for training before and for answers after."""
    if not has_gpu():
        yield
        return
    import torch

    model.to("cuda")
    try:
        yield
    finally:
        model.to("cpu")
        torch.cuda.empty_cache()
