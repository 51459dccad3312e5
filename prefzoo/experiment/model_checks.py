"""Check a model for missing rows and uncomputed losses before hours of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.experiment.search import Trial

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # in configurations


def check_model(spec: str, model: Any, trials: Sequence[Trial], console: Console) -> None:
    """Check that a model can be trained with the settings of its trials.

    Args:
        spec: the recipe's name of the model.
        model: the model.
        trials: what is to be trained.
        console: where a note is printed.

    Raises:
        UserError: all weights of a mixture of experts are to be trained without `train.router_loss: off`.
    """
    from prefzoo.engine import model_copies

    for line in _new_rows(spec, model_copies.added_rows(model.config.name_or_path), trials):
        console.print(line, soft_wrap=True, markup=False)
    experts = number_of_experts(model.config)
    if not experts:
        return
    whole = [t.arm for t in trials if t.variant.train.lora is None and t.variant.train.router_loss == "refuse"]
    if whole:
        raise UserError(
            f"variants.{whole[0]}: model {spec} is a mixture of {experts} experts, and its router's balancing loss is "
            "not computed; without it all tokens may go to few experts; train an adapter (train.lora), or set "
            "train.router_loss: off to train all weights without it"
        )
    console.print(
        f"note: model {spec} is a mixture of {experts} experts; the balancing loss of its router is not added",
        soft_wrap=True, markup=False,
    )  # fmt: skip


def _new_rows(spec: str, rows: int, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a note on rows that were added to an embedding, and one on the variants that do not train them."""
    if not rows:
        return
    counted = "1 token of its tokenizer" if rows == 1 else f"{rows} tokens of its tokenizer"
    yield f"note: model {spec}: {counted} had no row in its embedding; each has the mean of the other rows now"
    adapted = list(dict.fromkeys(t.arm for t in trials if t.variant.train.lora is not None))
    if adapted:
        yield (
            f"note: model {spec}: adapters ({', '.join(adapted)}) do not train these rows; to learn them, leave out "
            "train.lora"
        )


def number_of_experts(config: Any) -> int:
    """Return how many experts a layer of a model has; 0 for a model without experts.

    Args:
        config: its transformers configuration.
    """
    counts = [getattr(part, name, None) or 0 for part in (config, config.get_text_config()) for name in EXPERTS]
    count = max(int(count) for count in counts)
    return count if count > 1 else 0
