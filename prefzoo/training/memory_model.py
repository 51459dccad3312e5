"""Predict what training needs: memory per device, devices and hours, by formulas for decoders like Llama's.

A test compares the formulas with measurements. Notation: L layers of width D, with H query heads and K key heads of
width d, an MLP of width F, a vocabulary of V entries, P parameters; T tokens in a pass (a prompt once, with both
answers), S of them scored. A number in fp32 takes 4 bytes; matrix products in bf16 read and write 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

DeviceType = Literal["cpu", "cuda"]
FP32, BF16 = 4, 2  # bytes
GIB = 2**30
TILES = {"cpu": (512, 8192)}  # as in prefzoo/engine/lm_head.py, like the next; a test compares them
TILE_LOGITS = 2**26
TILE_COPIES = 3  # logits, their exponentials, and a temporary
LORA_MODULES = 7  # per layer: query, key, value, output, gate, up, down


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder.

    Attributes:
        layers: L, the number of layers.
        hidden: D, the width of the residual stream.
        heads: H, the number of query heads.
        kv_heads: K, the number of key and value heads.
        head_dim: d, the width of a head.
        inner: F, the inner width of the MLP.
        vocabulary: V, the number of tokens.
        tied: Whether the head's weight is the embedding, which is then counted once.
    """

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
        """Width of a token's queries, all heads together."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of a token's keys, all heads together."""
        return self.kv_heads * self.head_dim

    @property
    def layer(self) -> int:
        """Number of parameters of a layer."""
        return self.hidden * (2 * self.query + 2 * self.key + 3 * self.inner + 2)

    @property
    def outside(self) -> int:
        """Number of parameters of embedding and head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """P = 2 V D + L (2 D H d + 2 D K d + 3 D F + 2 D) + D; with tied embeddings V D."""
        return self.outside + self.layers * self.layer + self.hidden

    def adapter(self, rank: int) -> int:
        """Return how many parameters a LoRA adapter on all linear modules has: rank times the sum of their widths."""
        d, q, k, f = self.hidden, self.query, self.key, self.inner
        return self.layers * rank * ((d + q) * 2 + (d + k) * 2 + (d + f) * 3)


# fields of a configuration that `model_shape` reads
SIZES = (
    "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "num_hidden_layers", "intermediate_size",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip


def model_shape(config: Any) -> Shape:
    """Return the sizes in a transformers configuration; fields that it lacks default to Llama's.

    Raises:
        AttributeError: The configuration is not that of such a decoder.
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
        tokens: T, the tokens of the largest pass.
        scored: S, how many of them belong to answers.
        context: Keys per token, on average, whose attention weights are saved for the backward pass.
        passes: Passes per step; gradients of earlier passes stay in memory while a later one computes.
        rank: Rank of a LoRA adapter on all linear modules; None for full fine-tuning.
        bf16: Whether matrix products run in bf16.
        checkpointing: Whether activations are recomputed in the backward pass.
        devices: Number of devices over which FSDP2 shards weights, gradients and moments.
        device_type: Where the training runs, which decides the kernels.
        held: Size of other fp32 models in the same memory, such as a reference that is scored live, as a multiple of
            this one's.
        optimizer: Name of the optimiser, as in `train.optimizer`.
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
    held: float = 0
    optimizer: str = "adamw"

    @property
    def frozen_bf16(self) -> bool:
        """Whether the linear layers are frozen and stored in bf16 (see `prefzoo.engine.frozen_bf16`)."""
        return self.bf16 and self.rank is not None


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device, by their use.

    `peak` is less than the sum of all: in a single pass, gradients grow while activations are freed.

    Attributes:
        weights: Weights, and autocast's copies of them.
        gradients: Gradients of what is trained.
        moments: The optimiser's moments.
        activations: What the layers save for the backward pass.
        logits: Tiles of logits, and the sums of gradients over them.
        reference: Other models in the same memory.
        single: Whether a step is a single pass.
    """

    weights: float
    gradients: float
    moments: float
    activations: float
    logits: float
    reference: float
    single: bool

    @property
    def peak(self) -> float:
        """Bytes at the peak of a training step."""
        passing = self.activations + self.logits
        moving = max(passing, self.gradients) if self.single else passing + self.gradients
        return self.weights + self.moments + self.reference + moving


def footprint(shape: Shape, plan: TrainingPlan) -> Footprint:
    """Return the memory of training on each device, without what Python and torch take themselves."""
    trained = shape.parameters if plan.rank is None else shape.adapter(plan.rank)
    layers, outside = _weights(shape, frozen_bf16=plan.frozen_bf16)
    weights = (layers + outside + (FP32 * trained if plan.rank is not None else 0)) / plan.devices
    if plan.devices > 1:  # gathered: two layers at a time, and embedding and head for the whole pass
        weights += 2 * layers / shape.layers + outside
        if plan.bf16 and plan.rank is None and not plan.checkpointing:
            weights += BF16 * shape.layers * shape.layer  # autocast's copies, which the backward pass reads again
    elif plan.bf16 and plan.rank is None:  # autocast's copies of trained weights, for a step
        weights += BF16 * shape.parameters
    moments = _moments(shape, plan, trained) / plan.devices
    return Footprint(
        weights, FP32 * trained / plan.devices, moments, _activations(shape, plan),
        _head(shape, plan), model_bytes(shape, frozen_bf16=False) * plan.held, plan.passes == 1,
    )  # fmt: skip


def _moments(shape: Shape, plan: TrainingPlan, trained: int) -> float:
    """Return the bytes of what an optimiser keeps of the trained weights.

    AdamW keeps two numbers for each, in fp32 or in 8 bits; Muon one for each of a layer's matrices; Adafactor one for
    each row and column, which is little. Paged moments count as if they were on the device.
    """
    if plan.optimizer == "adafactor":
        return 0.01 * FP32 * trained
    if plan.optimizer == "muon":
        outside = shape.outside if plan.rank is None else 0
        return FP32 * (trained + outside)
    return 2 * (FP32 if plan.optimizer == "adamw" else 1) * trained


def model_bytes(shape: Shape, *, frozen_bf16: bool) -> float:
    """Return the bytes of all weights, in fp32 or with the linear layers in bf16."""
    return sum(_weights(shape, frozen_bf16=frozen_bf16))


def _weights(shape: Shape, *, frozen_bf16: bool) -> tuple[float, float]:
    """Return the bytes of the layers' weights and of the others; norms and embedding are always in fp32."""
    linear, norms, embedding = shape.layer - 2 * shape.hidden, 2 * shape.hidden, shape.vocabulary * shape.hidden
    small = BF16 if frozen_bf16 else FP32
    head = 0 if shape.tied else small * embedding
    return shape.layers * (small * linear + FP32 * norms), FP32 * (embedding + shape.hidden) + head


def _activations(shape: Shape, plan: TrainingPlan) -> float:
    """Return the bytes saved for the backward pass: all layers', or with checkpointing their inputs and one layer's."""
    one = plan.tokens * _per_token(shape, plan)
    if plan.checkpointing:
        return plan.tokens * shape.layers * FP32 * shape.hidden + one
    return shape.layers * one


def _per_token(shape: Shape, plan: TrainingPlan) -> float:
    """Return the bytes that a layer saves per token.

    In fp32 the inputs of both norms, 2 D; in the precision of matrix products queries, keys, values and the output of
    attention, 2 (H + K) d, and gate and up, 2 F. On CPUs also what GPUs compute again (`engine.recomputed`): the norms'
    outputs, 2 D, the product of gate and up, F, and attention weights, H times the context (`engine.cpu_attention`).
    """
    small = BF16 if plan.bf16 else FP32
    d, q, k, f = shape.hidden, shape.query, shape.key, shape.inner
    low = 0 if plan.rank is None else FP32 * plan.rank * LORA_MODULES
    on_cpu = 2 * d + f + shape.heads * plan.context if plan.device_type == "cpu" else 0
    return FP32 * 2 * d + small * (2 * q + 2 * k + 2 * f + on_cpu) + low


def _head(shape: Shape, plan: TrainingPlan) -> float:
    """Return the bytes of a tile of logits and of the fp32 gradients of states and of a trained weight."""
    rows, columns = TILES.get(plan.device_type) or (TILE_LOGITS // shape.vocabulary, shape.vocabulary)
    tile = FP32 * TILE_COPIES * min(rows, plan.scored) * min(columns, shape.vocabulary)
    states = (2 * FP32 + (BF16 if plan.bf16 else FP32)) * plan.scored * shape.hidden
    weight = shape.vocabulary * shape.hidden
    cast = plan.bf16 and (shape.tied or not plan.frozen_bf16)
    return tile + states + (FP32 * weight if plan.rank is None else 0) + (BF16 * weight if cast else 0)


def flops(shape: Shape, plan: TrainingPlan, tokens: float) -> float:
    """Return the floating-point operations of training and of scoring the reference, without those of attention.

    Per token: 2 P in the forward pass (the embedding is no product), 2 P in the backward pass for activations and 2 P
    for trained weights, 2 P for the reference, and 2 P more with checkpointing.

    Args:
        shape: Sizes of the model.
        plan: How it is trained.
        tokens: Number of tokens to train on.

    Returns:
        Floating-point operations, all devices together.
    """
    products = shape.layers * shape.layer + shape.vocabulary * shape.hidden
    rounds = 3 + (1 if plan.rank is None else 0) + (1 if plan.checkpointing else 0)
    return 2 * products * tokens * rounds


def devices_needed(shape: Shape, plan: TrainingPlan, memory: float, most: int = 1024) -> tuple[int, Footprint] | None:
    """Find the smallest power of two of devices on which a training fits.

    Args:
        shape: Sizes of the model.
        plan: How it is trained; its number of devices is ignored.
        memory: Bytes of one device.
        most: Largest number of devices to consider.

    Returns:
        The number of devices and the memory on each, or None if the training does not fit.
    """
    for devices in (2**i for i in range(int(math.log2(most)) + 1)):
        need = footprint(shape, TrainingPlan(**{**vars(plan), "devices": devices}))
        if need.peak <= memory:
            return devices, need
    return None
