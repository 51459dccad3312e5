"""Choose the size of generation batches: a fixed number on CPUs, as many as fit into memory on GPUs.

A GPU takes about the same time to generate a token of one answer and of hundreds, so batches there are as large as the
key-value cache allows.
"""

from __future__ import annotations

from typing import Any

from prefzoo.runtime.memory import free_gpu_bytes

PROMPTS, ROWS = {"cpu": 50}, {"cpu": 96}  # prompts in a cache entry, answers in a batch; more are no faster on CPUs
MOST = 512  # most of both on other devices
SHARE = 0.8  # share of the free memory to plan with; the rest is for what is not counted here
FP32, MASK = 4, 8  # bytes of a logit, and of an entry of the attention mask with its copy as a bias
LOGITS = 4  # copies of a row's logits: in the model's precision, in fp32, divided by the temperature, and with noise
DRAWN, MOST_DRAWN = {"cpu": 1}, 8  # tokens whose noise is drawn at once on CPUs, and on other devices
HIDDEN = 8  # tensors of the hidden size that a layer holds at once
GATED = 3  # tensors of the feed-forward size that a layer holds at once


def prompts_together(device: str) -> int:
    """Return the number of prompts whose answers are written to the cache together.

    Args:
        device: type of the device that generates the answers, such as `cpu` or `cuda`.

    Returns:
        A number that depends on the device type alone, so that the same prompts always share a cache entry.
    """
    return PROMPTS.get(device, MOST)


def tokens_drawn(device: str) -> int:
    """Return for how many tokens of an answer the noise of sampling is drawn at once.

    Args:
        device: type of the device, on which alone the number may depend, so that a seed always gives the same answer.
    """
    return DRAWN.get(device, MOST_DRAWN)


def prompts_in_batch(model: Any, width: int, new_tokens: int, n: int = 1, *, sampled: bool = False) -> int:
    """Return the number of prompts in one generation batch.

    Args:
        model: a causal language model.
        width: tokens of the longest prompt.
        new_tokens: most tokens of an answer.
        n: number of answers to each prompt.
        sampled: whether answers are sampled, which takes memory for noise.

    Returns:
        The number of prompts, at least 1.
    """
    if model.device.type in ROWS:
        return max(1, ROWS[model.device.type] // n)
    row = row_bytes(model, width, new_tokens)
    if sampled:
        row += (tokens_drawn(model.device.type) - 1) * FP32 * int(model.config.get_text_config().vocab_size)
    fitting = int(SHARE * free_gpu_bytes(model.device) / row)
    return max(1, min(MOST, fitting) // n)


def row_bytes(model: Any, width: int, new_tokens: int) -> int:
    """Estimate the most memory that one row of a batch takes.

    Args:
        model: a causal language model.
        width: tokens of the longest prompt.
        new_tokens: most tokens of an answer.

    Returns:
        The bytes of the key-value cache of all layers, of one layer's activations for the prompt with its attention
        mask, and of the logits of one position.
    """
    config, size = model.config.get_text_config(), model.dtype.itemsize
    length = max(width + new_tokens, getattr(model, "_previous_max_cache_length", 0))  # a static cache never shrinks
    activations = width * size * (HIDDEN * config.hidden_size + GATED * _feed_forward(config))
    logits = LOGITS * FP32 * int(config.vocab_size)
    return int(length * cache_bytes(model) + activations + MASK * width * length + logits)


def cache_bytes(model: Any) -> int:
    """Return the bytes of one token in the key-value cache of all layers, in the model's precision."""
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    keys = int(getattr(config, "num_key_value_heads", None) or heads)
    return 2 * int(config.num_hidden_layers) * keys * size * int(model.dtype.itemsize)


def cache_settings(model: Any) -> dict[str, Any]:
    """Return the arguments of transformers' `generate` that choose the key-value cache.

    On GPUs a static cache is allocated once for the whole answer, if the architecture allows it. A growing cache would
    be copied for each token. Compilation is off, since it takes longer than most answers.
    """
    if model.device.type in ROWS or not getattr(model, "_can_compile_fullgraph", False):
        return {}
    return {"cache_implementation": "static", "disable_compile": True}


def _feed_forward(config: Any) -> int:
    wide = getattr(config, "intermediate_size", None)
    return int(wide) if isinstance(wide, int) else 4 * int(config.hidden_size)
