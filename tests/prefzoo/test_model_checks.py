"""Models that lack rows of their embedding, and mixtures of experts."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import MixtralConfig

from prefzoo.errors import UserError
from prefzoo.experiment.model_checks import check_model, number_of_experts
from prefzoo.experiment.search import expand
from prefzoo.recipe.load import load

RECIPE = "name: r\nmodel: m\ndata: {train: a.jsonl}\nvariants: {dpo: }\n"


def trials(folder: Path, *overrides: str) -> Any:
    (folder / "r.yaml").write_text(RECIPE)
    return expand(load(folder / "r.yaml", overrides))


def test_a_token_without_a_row_is_refused(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    check_model("m", tiny_model, tiny_tokenizer, trials(tmp_path), Console(quiet=True))
    tiny_tokenizer.add_tokens([f"<new{i}>" for i in range(10)])  # 331 tokens, 340 rows
    with pytest.raises(UserError) as caught:
        check_model("m", tiny_model, tiny_tokenizer, trials(tmp_path), Console(quiet=True))
    (line,) = caught.value.lines
    assert line.startswith(
        "model m: its tokenizer has the token '<new9>' with the id 340, and its embedding 340 rows; add"
    )


def test_all_weights_of_experts_are_trained_only_where_that_is_asked_for(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    config = MixtralConfig(num_local_experts=4)
    assert number_of_experts(config) == 4 and number_of_experts(tiny_model.config) == 0
    model = SimpleNamespace(config=config, get_input_embeddings=tiny_model.get_input_embeddings)
    with pytest.raises(UserError, match=r"variants.dpo: model m is a mixture of 4 experts, .* train.router_loss: off"):
        check_model("m", model, tiny_tokenizer, trials(tmp_path), Console(quiet=True))
    for override in ("train.router_loss=off", "train.lora={}"):
        console = Console(file=StringIO())
        check_model("m", model, tiny_tokenizer, trials(tmp_path, override), console)
        assert "the balancing loss of its router is not added" in console.file.getvalue()
