"""Train a random model in this process and print its peak resident memory in bytes; run by test_memory_model.py.

Usage: measured_memory.py SETTINGS (JSON). The resident memory before the model is created, after a small warm-up, is
subtracted: it is that of Python, torch and other imports. The peak is the kernel's own, which is reset before.
`prefzoo.runtime.memory.configure_allocator` is not called, because freed memory that it holds would be counted.
"""

from __future__ import annotations

import copy
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from one_policy import train_one
from transformers import LlamaConfig, LlamaForCausalLM

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import cpu_ops, packed_attention, reference_logprobs
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.recipe.sections import Lora, Train
from prefzoo.training.job import Job, with_reference
from prefzoo.types import LogProbs


def random_model(**size: int) -> Any:
    config = LlamaConfig(**size, tie_word_embeddings=True, pad_token_id=0, max_position_embeddings=512)
    model = LlamaForCausalLM(config).eval()
    packed_attention.install(model)
    cpu_ops.install(model)
    return model


def now(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert match
    return int(match[1]) * 1024


def job(model: Any, settings: dict[str, Any]) -> Job:
    prompt, answer = settings["prompt"], settings["answer"]
    gen = torch.Generator().manual_seed(0)
    ids = [torch.randint(1, 256, (prompt + 2 * answer,), generator=gen).tolist() for _ in range(settings["pairs"])]
    pairs = [TokenPair(x[:prompt], x[prompt : prompt + answer], x[prompt + answer :], i) for i, x in enumerate(ids)]
    train = Train(
        batch=settings["batch"], micro_batch=settings["micro_batch"], tokens=1_000_000, steps=2, learning_rate=1e-5,
        precision="bf16" if settings["bf16"] else "fp32", gradient_checkpointing=settings["checkpointing"],
        lora=Lora(rank=settings["rank"], alpha=8.0) if settings["rank"] else None,
    )  # fmt: skip
    loss = losses.get("dpo")
    this = Job(loss, loss.Params(), train, 0, pairs, "shared", settings["bf16"])

    def frozen(rows: list[TokenPair], use: str, kind: type[LogProbs], passes: Any) -> LogProbs:
        return reference_logprobs.logprobs(model, rows, "shared", kind, bf16=settings["bf16"])

    return with_reference(this, Base(lambda: model), frozen)


def trained(settings: dict[str, Any]) -> None:
    model = random_model(**settings["size"])
    this = job(model, settings)
    policy = load_policy(lambda _: model, this.train, bf16=this.bf16, seed=0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # reset the peak
    with tempfile.TemporaryDirectory() as folder:
        train_one(this, policy, Path(folder) / "metrics.jsonl")


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 256}  # fmt: skip
    trained({**copy.deepcopy(asked), "size": small, "prompt": 8, "answer": 8, "pairs": 4, "batch": 2, "micro_batch": 1})
    before = now("VmRSS")
    trained(asked)
    print(json.dumps({"before": before, "peak": now("VmHWM") - before}))
