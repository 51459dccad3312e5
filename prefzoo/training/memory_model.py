"""What training needs: memory per device, devices, hours. Formulas for decoders of Llama's kind; a test measures them.

Notation: L layers of width D, with H query heads and K key heads of width d, an MLP of width F, a vocabulary of V, P
parameters, T tokens in a pass (a prompt once, with both answers), S of them scored. fp32 takes 4 bytes; under bf16
matrix products take and give 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

DeviceType = Literal["cpu", "cuda"]
FP32, BF16 = 4, 2  # bytes
GIB = 2**30
TILES = {"cpu": (512, 8192), "cuda": (4096, 16384)}  # as in prefzoo/engine/lm_head.py, which a test compares
TILE_COPIES = 3  # logits, their exponentials, and what is added to them
LORA_MODULES = 7  # of a layer: query, key, value, output, gate, up, down


@dataclass(frozen=True)
class Shape:
    """A decoder's. `parameters` counts a tied embedding once."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    tied: bool

    @property
    def query(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of all keys of a token."""
        return self.kv_heads * self.head_dim

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        return self.hidden * (2 * self.query + 2 * self.key + 3 * self.inner + 2)

    @property
    def outside(self) -> int:
        """Parameters of embedding and head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """P = 2 V D + L (2 D H d + 2 D K d + 3 D F + 2 D) + D; with tied embeddings V D."""
        return self.outside + self.layers * self.layer + self.hidden

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter on all linear modules: rank times the sum of their widths."""
        d, q, k, f = self.hidden, self.query, self.key, self.inner
        return self.layers * rank * ((d + q) * 2 + (d + k) * 2 + (d + f) * 3)


def model_shape(config: Any) -> Shape:
    """Of a transformers configuration; what it leaves open is as in Llama.

    Raises:
        AttributeError: it is no decoder of this kind.
    """
    heads = int(config.num_attention_heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return Shape(
        int(config.num_hidden_layers), int(config.hidden_size), heads, kv_heads, head_dim,
        int(config.intermediate_size), int(config.vocab_size), bool(getattr(config, "tie_word_embeddings", False)),
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingPlan:
    """How a variant is trained.

    Attributes:
        tokens: of the largest pass. scored: how many of them are answers'.
        context: keys whose attention weights are kept for the backward pass, of a token on average.
        passes: in a step; gradients of earlier ones are held while a later one computes.
        rank: of a LoRA adapter on all linear modules; None for full fine-tuning.
        devices: over which FSDP2 shards weights, gradients and moments.
        held: whole fp32 models besides the policy that stay in the same memory: a reference that is read live.
    """

    tokens: int
    scored: int
    context: float
    passes: int = 1
    rank: int | None = None
    bf16: bool = False
    checkpointing: bool = False
    devices: int = 1
    device_type: DeviceType = "cpu"
    held: int = 0

    @property
    def frozen_bf16(self) -> bool:
        """Whether the linear layers are frozen and kept in bf16 (`prefzoo/engine/frozen_bf16.py`)."""
        return self.bf16 and self.rank is not None


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device. `peak` is not their sum: gradients of a single pass grow as activations go."""

    weights: float
    gradients: float
    moments: float
    activations: float
    logits: float
    reference: float
    single: bool

    @property
    def peak(self) -> float:
        """Of training."""
        passing = self.activations + self.logits
        moving = max(passing, self.gradients) if self.single else passing + self.gradients
        return self.weights + self.moments + self.reference + moving


def footprint(shape: Shape, plan: TrainingPlan) -> Footprint:
    """Memory of training, besides what Python and torch take themselves."""
    trained = shape.parameters if plan.rank is None else shape.adapter(plan.rank)
    layers, outside = _weights(shape, frozen_bf16=plan.frozen_bf16)
    weights = (layers + outside + (FP32 * trained if plan.rank is not None else 0)) / plan.devices
    if plan.devices > 1:  # what is gathered: two layers, and embedding and head for the whole pass
        weights += 2 * layers / shape.layers + outside
    elif plan.bf16 and plan.rank is None:  # autocast's copies of what is trained, for a step
        weights += BF16 * shape.parameters
    return Footprint(
        weights, FP32 * trained / plan.devices, 2 * FP32 * trained / plan.devices, _activations(shape, plan),
        _head(shape, plan), model_bytes(shape, frozen_bf16=False) * plan.held, plan.passes == 1,
    )  # fmt: skip


def model_bytes(shape: Shape, *, frozen_bf16: bool) -> float:
    """Bytes of all weights, in fp32 or lean."""
    return sum(_weights(shape, frozen_bf16=frozen_bf16))


def _weights(shape: Shape, *, frozen_bf16: bool) -> tuple[float, float]:
    """Bytes of the layers' weights, and of the others: where they are lean, fp32 is left to norms and embedding."""
    linear, norms, embedding = shape.layer - 2 * shape.hidden, 2 * shape.hidden, shape.vocabulary * shape.hidden
    small = BF16 if frozen_bf16 else FP32
    head = 0 if shape.tied else small * embedding
    return shape.layers * (small * linear + FP32 * norms), FP32 * (embedding + shape.hidden) + head


def _activations(shape: Shape, plan: TrainingPlan) -> float:
    """What the backward pass reads: of every layer, or with checkpointing its input alone, and one layer in full."""
    one = plan.tokens * _per_token(shape, plan)
    if plan.checkpointing:
        return plan.tokens * shape.layers * FP32 * shape.hidden + one
    return shape.layers * one


def _per_token(shape: Shape, plan: TrainingPlan) -> float:
    """Bytes that a layer keeps of a token.

    On the CPU (`fused`, `attention`): both norms' inputs, which are the fp32 residual stream, 2 D; and in the precision
    of products what the norms give, 2 D, queries, keys, values and attention's answer, 2 (H + K) d, its weights,
    H times the context, gate, up and their product, 3 F. On GPUs the model's own kernels keep more: of a norm its
    input and the normed input in fp32 and a copy for each product that follows; keys and values for each query head;
    silu of it.
    """
    small = BF16 if plan.bf16 else FP32
    d, q, k, f = shape.hidden, shape.query, shape.key, shape.inner
    low = 0 if plan.rank is None else FP32 * plan.rank * LORA_MODULES
    if plan.device_type == "cpu":
        return FP32 * 2 * d + small * (2 * d + 2 * q + 2 * k + shape.heads * plan.context + 3 * f) + low
    return FP32 * 4 * d + small * (5 * d + 5 * q + 4 * f) + low


def _head(shape: Shape, plan: TrainingPlan) -> float:
    """Tiles of logits, and the fp32 gradients that are summed up over them: of the states, and of a trained weight."""
    rows, columns = TILES[plan.device_type]
    tile = FP32 * TILE_COPIES * min(rows, plan.scored) * min(columns, shape.vocabulary)
    states = (2 * FP32 + (BF16 if plan.bf16 else FP32)) * plan.scored * shape.hidden
    weight = shape.vocabulary * shape.hidden
    cast = plan.bf16 and (shape.tied or not plan.frozen_bf16)
    return tile + states + (FP32 * weight if plan.rank is None else 0) + (BF16 * weight if cast else 0)


def flops(shape: Shape, plan: TrainingPlan, tokens: float) -> float:
    """Floating-point operations of training on so many tokens, the reference's scoring included; attention's are not.

    2 P a token forwards (the embedding is no product), 2 P backwards for the activations and 2 P for the weights that
    are trained, 2 P for the reference; 2 P again with checkpointing.
    """
    products = shape.layers * shape.layer + shape.vocabulary * shape.hidden
    rounds = 3 + (1 if plan.rank is None else 0) + (1 if plan.checkpointing else 0)
    return 2 * products * tokens * rounds


def devices_needed(shape: Shape, plan: TrainingPlan, memory: float, most: int = 1024) -> tuple[int, Footprint] | None:
    """The smallest power of two of devices of `memory` bytes on which it fits; None where none does."""
    for devices in (2**i for i in range(int(math.log2(most)) + 1)):
        found = footprint(shape, TrainingPlan(**{**vars(plan), "devices": devices}))
        if found.peak <= memory:
            return devices, found
    return None
