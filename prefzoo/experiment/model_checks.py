"""What a model lacks, or what is not computed for it, found before hours are spent on its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.experiment.search import Trial

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # in configurations


def check_model(spec: str, model: Any, tokenizer: Any, trials: Sequence[Trial], console: Console) -> None:
    """Check that a model can be trained as its trials ask.

    Args:
        spec: the recipe's name of the model.
        model: the model.
        tokenizer: its tokenizer.
        trials: what is to be trained.
        console: where a note is printed.

    Raises:
        UserError: its tokenizer has tokens that its embedding has no row for, or all weights of a mixture of experts
            are to be trained without `train.router_loss: off`.
    """
    rows, last = len(model.get_input_embeddings().weight), max(tokenizer.get_vocab().values())
    if last >= rows:
        token = tokenizer.convert_ids_to_tokens(last)
        raise UserError(
            f"model {spec}: its tokenizer has the token {token!r} with the id {last}, and its embedding {rows} rows; "
            "add them and save the model first: m.resize_token_embeddings(len(tokenizer)), m.save_pretrained(...); "
            "then train all weights, so that new rows are learned"
        )
    experts = number_of_experts(model.config)
    if not experts:
        return
    whole = [t.arm for t in trials if t.variant.train.lora is None and t.variant.train.router_loss == "refuse"]
    if whole:
        raise UserError(
            f"variants.{whole[0]}: model {spec} is a mixture of {experts} experts, and its router's balancing loss is "
            "not computed, without which all tokens may end at few experts; train an adapter (train.lora), or set "
            "train.router_loss: off to train all weights without it"
        )
    console.print(
        f"note: model {spec} is a mixture of {experts} experts; the balancing loss of its router is not added",
        soft_wrap=True, markup=False,
    )  # fmt: skip


def number_of_experts(config: Any) -> int:
    """Return how many experts a layer of a model has; 0 for a model without experts.

    Args:
        config: its transformers configuration.
    """
    counts = [getattr(part, name, None) or 0 for part in (config, config.get_text_config()) for name in EXPERTS]
    count = max(int(count) for count in counts)
    return count if count > 1 else 0
