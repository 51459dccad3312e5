"""Two CPU processes give the trajectory of one, for losses of independent rows and of coupled ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import main

NAMES = ["dpo", "kto", "aot", "bco_pair_shift", "tdpo2"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.slow
def test_two_processes_are_as_one(tiny_model: Any, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path / "model")
    gen = torch.Generator().manual_seed(5)
    sizes = torch.randint(2, 9, (12, 3), generator=gen).tolist()
    rows = [[torch.randint(2, 258, (n,), generator=gen).tolist() for n in row] for row in sizes]
    pairs = [{"prompt": p, "chosen": c, "rejected": r, "row": i} for i, (p, c, r) in enumerate(rows)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    script = [str(Path(__file__).with_name("two_processes.py")), str(tmp_path), *NAMES]
    done = subprocess.run(
        [*launch, *script], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name in NAMES:
        main(tmp_path, name)
        one, two = (
            [json.loads(line) for line in (tmp_path / f"{name}.{who}.jsonl").read_text().splitlines()]
            for who in ("one", "0")
        )
        assert len(one) == len(two) == 4
        for a, b in zip(one, two, strict=True):
            for metric in ("loss", "rewards/margins", "logps/chosen", "grad_norm"):
                assert b[metric] == pytest.approx(a[metric], rel=2e-3, abs=2e-4), (name, metric)
