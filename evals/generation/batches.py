"""How many answers are generated together: a fixed number on CPUs, as many as fit into memory on GPUs.

A step of generation takes a GPU the same time for one answer and for hundreds, so there batches are as large as the
keys and values of their tokens allow.
"""

from __future__ import annotations

from typing import Any

from prefzoo.runtime.memory import free_gpu_bytes

PROMPTS, ROWS = {"cpu": 50}, {"cpu": 96}  # more are no faster there, and a killed run loses more
MOST = 512  # of both on other devices
SHARE = 0.8  # of the free memory; what is not counted here takes the rest
FP32, MASK = 4, 8  # bytes of a logit, and of an entry of the mask with its copy as a bias
LOGITS = 4  # copies of a row's logits: in the model's precision and in fp32, divided and with noise
HIDDEN = 8  # states as wide as the model that live in a layer at once
GATED = 3  # states as wide as the feed-forward layer


def prompts_together(device: str) -> int:
    """Return how many prompts are answered, and their answers cached, together.

    Args:
        device: Type of the device that generates the answers.

    Returns:
        A number that depends on the type of the device alone, so that the same prompts share a file of the cache.
    """
    return PROMPTS.get(device, MOST)


def prompts_in_batch(model: Any, width: int, new_tokens: int, n: int = 1) -> int:
    """Return how many prompts are answered in one batch.

    Args:
        model: A causal language model.
        width: Tokens of the longest prompt.
        new_tokens: The most tokens of an answer.
        n: Answers to each prompt.

    Returns:
        At least 1.
    """
    if model.device.type in ROWS:
        return max(1, ROWS[model.device.type] // n)
    fitting = int(SHARE * free_gpu_bytes(model.device) / row_bytes(model, width, new_tokens))
    return max(1, min(MOST, fitting) // n)


def row_bytes(model: Any, width: int, new_tokens: int) -> int:
    """Return the memory that one row of a batch takes at most.

    Args:
        model: A causal language model.
        width: Tokens of the longest prompt.
        new_tokens: The most tokens of an answer.

    Returns:
        Bytes of keys and values over all layers, of one layer's activations for the prompt with its mask, and of the
        logits of one position.
    """
    config, size = model.config.get_text_config(), model.dtype.itemsize
    length = max(width + new_tokens, getattr(model, "_previous_max_cache_length", 0))  # a static cache never shrinks
    activations = width * size * (HIDDEN * config.hidden_size + GATED * _feed_forward(config))
    logits = LOGITS * FP32 * int(config.vocab_size)
    return int(length * cache_bytes(model) + activations + MASK * width * length + logits)


def cache_bytes(model: Any) -> int:
    """Return the bytes of one token's keys and values in all layers of a model, in its own precision."""
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    keys = int(getattr(config, "num_key_value_heads", None) or heads)
    return 2 * int(config.num_hidden_layers) * keys * size * int(model.dtype.itemsize)


def cache_settings(model: Any) -> dict[str, Any]:
    """Return arguments of `generate` for the cache of keys and values.

    On GPUs it is allocated once for the whole answer, where the architecture allows that; one that grows is copied for
    each token. It is not compiled, which takes longer than most answers.
    """
    if model.device.type in ROWS or not getattr(model, "_can_compile_fullgraph", False):
        return {}
    return {"cache_implementation": "static", "disable_compile": True}


def _feed_forward(config: Any) -> int:
    wide = getattr(config, "intermediate_size", None)
    return int(wide) if isinstance(wide, int) else 4 * int(config.hidden_size)
