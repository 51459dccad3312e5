"""How much arithmetic a training is, and what share of the hardware's peak that makes (MFU, arXiv:2204.02311)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from prefzoo.data.tokens import TokenExample
from prefzoo.runtime.distributed import process_state
from prefzoo.training.job import Job

PEAK_BF16 = {  # dense bf16 products a second, from the makers' data sheets, by a part of the name
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
Work = dict[str, float]


def work_of(job: Job, model: Any, seconds: float) -> Work:
    """`tokens_per_second`, and `flops_utilisation` (0 to 1) where the work and the device's peak are known.

    Counted is what a policy's forward and backward pass need, each prompt once where it is shared:
    neither what is computed twice to save memory, nor the reference, padding, norms or the optimiser.
    """
    seen = [job.pairs[i] for step in job.steps for i in step]
    found = {"tokens_per_second": sum(_tokens(pair, job) for pair in seen) / seconds}
    flops, top = flops_of(job, model, seen), peak() if job.bf16 else None
    if flops is not None and top is not None:
        found["flops_utilisation"] = flops / seconds / top / process_state().num_processes
    return found


def peak() -> float | None:
    """Flops a second that this process's GPU can do in bf16; None where that is not known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((value for part, value in PEAK_BF16.items() if re.search(rf"\b{part}\b", name)), None)


def flops_of(job: Job, model: Any, seen: Sequence[TokenExample]) -> float | None:
    """Of training on these pairs; None for a model with weights that are not of linear layers.

    Per weight and token 2 forward, 2 for the gradient of what comes in, and 2 for the weight's own where it is trained;
    the head's for the scored tokens alone; 12 per layer, pair of query and key and attention's width.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder, head, config = causal.get_decoder(), causal.get_output_embeddings(), causal.config
    linear = {n: m for n, m in decoder.named_modules() if isinstance(m, nn.Linear)}
    counted = {id(m.weight) for m in linear.values()} | {id(causal.get_input_embeddings().weight)}
    if any(p.ndim > 1 and id(p) not in counted for p in decoder.parameters()):
        return None
    body = sum(m.in_features * m.out_features * _passes(n, m) for n, m in linear.items())
    top = head.weight.numel() * _passes("", head)
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    tokens, scored = sum(_tokens(p, job) for p in seen), sum(p.answer_tokens for p in seen)
    looks = sum(_looks(p, job) for p in seen)
    return float(body * tokens + top * scored + 12 * config.num_hidden_layers * width * looks)


def _passes(name: str, module: Any) -> int:
    return 6 if module.weight.requires_grad or "lora_" in name else 4


def _tokens(example: TokenExample, job: Job) -> int:
    return len(example.prompt) * (1 if job.layout == "shared" else len(example.answers)) + example.answer_tokens


def _looks(example: TokenExample, job: Job) -> int:
    """Pairs of a query and a key that it sees."""

    def causal(n: int) -> int:
        return n * (n + 1) // 2

    prompt, shared = len(example.prompt), len(example.answers) - 1 if job.layout == "shared" else 0
    return sum(causal(prompt + len(answer)) for answer in example.answers) - shared * causal(prompt)
