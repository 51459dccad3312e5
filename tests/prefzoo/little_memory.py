"""Call `prefzoo run` with a limit on the memory of its backward passes; run by test_faults.py in a folder with r.yaml.

The limit is the kernel's RLIMIT_AS. It holds only while gradients are computed, when models and data are in memory.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from prefzoo.cli import main
from prefzoo.training import oom_retry

ROOM = 400 * 2**20  # bytes: less than a pass of eight pairs needs, more than one of two


def limited(*args: Any) -> Any:
    held = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, resource.RLIM_INFINITY))
    try:
        return backward(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    torch.set_num_threads(1)
    backward, oom_retry.backward = oom_retry.backward, limited
    settings = ("train.batch=8", "train.steps=2", "train.tokens=100000")
    sys.argv = ["prefzoo", "run", "r.yaml", *(word for setting in settings for word in ("--set", setting))]
    main()
