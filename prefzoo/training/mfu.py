"""Count a training's operations, and their share of the hardware's peak (MFU, arXiv:2204.02311)."""

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
    "H200 NVL": 835e12,
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


def throughput(job: Job, model: Any, seconds: float) -> dict[str, float]:
    """Return how fast a training was.

    The work that counts is that of a policy's forward and backward passes, each prompt once where it is shared: neither
    activations computed again to save memory, nor the reference, padding, norms or the optimiser.

    Args:
        job: what was trained.
        model: the policy.
        seconds: time of all steps.

    Returns:
        `tokens_per_second`, and `flops_utilisation` (0 to 1) if the work and the device's peak are known.
    """
    seen = [job.pairs[i] for step in job.steps for i in step]
    speed = {"tokens_per_second": sum(_tokens(pair, job) for pair in seen) / seconds}
    flops, top = training_flops(job, model, seen), peak_flops() if job.bf16 else None
    if flops is not None and top is not None:
        speed["flops_utilisation"] = flops / seconds / top / process_state().num_processes
    return speed


def peak_flops() -> float | None:
    """Return the flops a second that this process's GPU can do in bf16; None if that is not known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((value for part, value in PEAK_BF16.items() if re.search(rf"\b{part}\b", name)), None)


def training_flops(job: Job, model: Any, seen: Sequence[TokenExample]) -> float | None:
    """Return the flops of training on some examples.

    Each weight takes 2 a token forward, 2 for the gradient of its input, and 2 for its own gradient if it is trained;
    the head's only for the tokens of answers. Attention takes 12 per layer, pair of query and key, and unit of width.

    Args:
        job: what is trained.
        model: the policy.
        seen: the examples, each as often as it is trained on.

    Returns:
        the flops; None for a model with other weights than those of linear layers.
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
    tokens, scored = sum(_tokens(p, job) for p in seen), sum(p.scored_tokens for p in seen)
    attended = sum(_attended(p, job) for p in seen)
    return float(body * tokens + top * scored + 12 * config.num_hidden_layers * width * attended)


def _passes(name: str, module: Any) -> int:
    return 6 if module.weight.requires_grad or "lora_" in name else 4


def _tokens(example: TokenExample, job: Job) -> int:
    return len(example.prompt) * (1 if job.layout == "shared" else len(example.answers)) + example.answer_tokens


def _attended(example: TokenExample, job: Job) -> int:
    """Return the number of pairs of a query and a key that it sees."""

    def causal(n: int) -> int:
        return n * (n + 1) // 2

    prompt, shared = len(example.prompt), len(example.answers) - 1 if job.layout == "shared" else 0
    return sum(causal(prompt + len(answer)) for answer in example.answers) - shared * causal(prompt)
