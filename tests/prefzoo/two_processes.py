"""Run by test_two_processes.py under `accelerate launch`: one training, its trajectory written by the first process."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from prefzoo import attention, losses, reference
from prefzoo.data.tokens import TokenPair
from prefzoo.job import Job, with_reference
from prefzoo.recipe import Train
from prefzoo.train import train
from prefzoo.types import LogProbs


def main(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", attn_implementation="sdpa").eval()
    attention.install(model)
    pairs = [TokenPair(**row) for row in json.loads((folder / "pairs.json").read_text())]
    found = losses.get(name)
    how = Train(batch=4, steps=4, learning_rate=1e-3, precision="fp32")

    def frozen(rows: list[TokenPair], what: str, kind: type[LogProbs]) -> LogProbs:
        return reference.logprobs(model, rows, "shared", kind, bf16=False)

    job = with_reference(Job(found, found.Params(), how, 0, pairs, "shared", bf16=False), model, frozen)
    policy = copy.deepcopy(model)
    metrics = folder / f"{name}.{os.environ.get('RANK', 'one')}.jsonl"
    train(job, policy, metrics, lambda done, total, note: None)


if __name__ == "__main__":
    for each in sys.argv[2:]:
        main(Path(sys.argv[1]), each)
