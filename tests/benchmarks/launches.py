"""Operations that one training step dispatches on a GPU: `python -m tests.benchmarks.launches [--pairs 2 32]`.

With `--variants 8`, those of eight LoRA variants with different losses in one pass.

A GPU runs an operation in microseconds and waits for the next one: for small models their number is the step's time.
This counts them on any machine, by what `TorchDispatchMode` sees of a forward and backward pass on a random model of
Qwen2's kind: many layers, little width, the real vocabulary. What CPUs lack is emulated.
Views and allocations launch nothing and are counted apart. What a layer takes is the difference between all layers and
half of them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import cpu_ops, packed_attention
from prefzoo.engine.base_model import load_policy
from prefzoo.recipe.sections import Lora, Train
from prefzoo.training.job import Job
from prefzoo.training.multi_lora import AdapterPolicies
from prefzoo.training.policies import OnePolicy
from prefzoo.training.step import StepContext, backward
from prefzoo.types import LogProbs

sys.path.insert(0, str(Path(__file__).parents[1] / "prefzoo"))

from emulated_gpu import emulated_gpu  # noqa: E402

LOSSES = ("dpo", "ipo_mean", "hinge", "nca_pair", "apo_zero", "apo_down", "sppo_hard", "discopop")
LAYERS, PROMPT, ANSWER, TOKENS = 24, 20, 40, 16_384
KINDS = {
    "matrix products": ("mm", "addmm", "bmm"),
    "casts and copies": ("_to_copy", "copy_", "clone", "_foreach_copy_"),
    "attention": (
        "_flash_attention_forward",
        "_flash_attention_backward",
        "index_select",
        "index_add_",
        "index_add",
    ),  # fmt: skip
    "norms": ("rms_norm", "rms_norm_backward"),
}


@dataclass
class Count:
    """Operations by name.

    Attributes:
        launched: those that compute something.
        views: those that only name memory anew, or allocate it.
    """

    launched: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)

    def kinds(self) -> dict[str, int]:
        """Return the launched operations by kind."""
        kinds = {kind: sum(self.launched[name] for name in names) for kind, names in KINDS.items()}
        return kinds | {"others": self.launched.total() - sum(kinds.values())}


class Counting(TorchDispatchMode):
    """Counts what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        idle = func.is_view or "empty" in name or name in ("_unsafe_view", "detach", "lift_fresh")
        (self.count.views if idle else self.count.launched)[name] += 1
        return func(*args, **(kwargs or {}))


def random_model(layers: int, vocabulary: int) -> Any:
    """Return a model as `models.load` prepares it."""
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=128, tie_word_embeddings=True, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    packed_attention.install(model)
    cpu_ops.install(model)
    return model


def random_pairs(count: int, answer: int) -> list[TokenPair]:
    """Return pairs of different lengths, with answers of about so many tokens."""
    gen = torch.Generator().manual_seed(0)

    def some(size: int) -> list[int]:
        return torch.randint(2, 300, (size,), generator=gen).tolist()

    return [TokenPair(some(PROMPT), some(answer + i % 5), some(answer - i % 7), i) for i in range(count)]


def count_step(
    pairs: int, *, layers: int = LAYERS, vocabulary: int = 151_936, answer: int = ANSWER, lora: bool = False,
    dropout: float = 0.0, variants: int = 1,
) -> Count:  # fmt: skip
    """Count the operations of one step's forward and backward pass under bf16 autocast, without the optimiser.

    Args:
        pairs: of the step, all in one pass.
        layers: of the model.
        vocabulary: entries of the head.
        answer: tokens of an answer, about.
        lora: whether an adapter is trained instead of all weights.
        dropout: of the adapter's inputs.
        variants: how many are trained in one pass, each by another of `LOSSES`; several have adapters.
    """
    from accelerate import Accelerator

    train = Train(
        batch=pairs, steps=1, precision="bf16", tokens=TOKENS,
        lora=Lora(rank=4, alpha=8.0, dropout=dropout) if lora or variants > 1 else None,
    )  # fmt: skip
    model, trained = random_model(layers, vocabulary), [losses.get(name) for name in LOSSES[:variants]]
    zero, size = torch.zeros(pairs), torch.ones(pairs, dtype=torch.long)
    jobs = [
        Job(
            loss, loss.Params(), train, 0, random_pairs(pairs, answer), "shared", bf16=True,
            reference=LogProbs(zero, zero, size, size),
        )
        for loss in trained
    ]  # fmt: skip
    with emulated_gpu():
        policy, accelerator = load_policy(lambda _: model, train, bf16=True, seed=0), Accelerator()
        policies = (
            AdapterPolicies(jobs, policy, accelerator) if variants > 1 else OnePolicy(jobs[0], policy, accelerator)
        )
        states = [loss.start() for loss in trained]
        context = StepContext(policies, list(range(variants)), states, 0, list(range(pairs)), 0)
        with policies.training(), Counting() as counting:
            backward(context)
    return counting.count


def _variants(count: int) -> str:
    return f"{count} variants in one pass, " if count > 1 else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[2, 32])
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--answer", type=int, default=ANSWER, help="tokens of an answer; many take minutes")
    parser.add_argument("--lora", action="store_true", help="train an adapter")
    parser.add_argument("--variants", type=int, default=1, help=f"adapters in one pass, at most {len(LOSSES)}")
    parser.add_argument("--names", action="store_true", help="also list the operations by name")
    asked = parser.parse_args()
    for pairs in asked.pairs:
        whole, half = (
            count_step(pairs, layers=n, answer=asked.answer, lora=asked.lora, variants=asked.variants)
            for n in (asked.layers, asked.layers // 2)
        )
        per_layer = (whole.launched.total() - half.launched.total()) / (asked.layers - asked.layers // 2)
        print(
            f"{_variants(asked.variants)}{pairs} pairs, {asked.layers} layers: {whole.launched.total():,} operations, "
            f"{per_layer:g} a layer; "
            f"besides, {whole.views.total():,} views and allocations"
        )
        print("  " + ", ".join(f"{count:,} {kind}" for kind, count in whole.kinds().items()))
        if asked.names:
            for part in (whole.launched, whole.views):
                print("  " + ", ".join(f"{name} {count}" for name, count in part.most_common()))


if __name__ == "__main__":
    main()
