"""Hold a judging model in main memory, and move it to the GPU only while it judges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefzoo.runtime.devices import has_gpu


@contextmanager
def on_accelerator(model: Any) -> Iterator[None]:
    """Move a model to the GPU inside a `with` block, and back after it, to free the GPU for training and generation."""
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
