"""A kernel that loops up to an argument, like those of the head: does Triton's interpreter run it with this NumPy?"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def _count(out: Any, width: Any) -> None:
    total = 0
    for _ in range(0, width, 2):
        total += 1
    tl.store(out, total)


if __name__ == "__main__":
    out = torch.zeros(1, dtype=torch.int32)
    _count[(1,)](out, 5)
    assert out.item() == 3
