"""Models that lack rows of their embedding, and mixtures of experts."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from called import prefzoo
from peft import AutoPeftModelForCausalLM
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig

from prefzoo.engine import models
from prefzoo.errors import UserError
from prefzoo.experiment.model_checks import check_model, number_of_experts
from prefzoo.experiment.search import expand
from prefzoo.recipe.load import load

RECIPE = "name: r\nmodel: m\ndata: {train: a.jsonl}\nvariants: {dpo: }\n"


def trials(folder: Path, *overrides: str) -> Any:
    (folder / "r.yaml").write_text(RECIPE)
    return expand(load(folder / "r.yaml", overrides))


@pytest.fixture
def lacking(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of 340 rows and a tokenizer whose last token has the id 342."""
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    tiny_tokenizer.add_tokens([f"<new{i}>" for i in range(12)])
    tiny_model.save_pretrained(tmp_path / "m")
    tiny_tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path


def notes(folder: Path, model: Any, *overrides: str) -> str:
    console = Console(file=StringIO())
    check_model("m", model, trials(folder, *overrides), console)
    return console.file.getvalue()


def test_a_token_without_a_row_is_given_the_mean_of_the_others(
    lacking: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = models.load("m", lacking, merge=True)
    assert "adding 3 rows to the embedding" in capsys.readouterr().err
    assert tokenizer.convert_tokens_to_ids("<new11>") == 342
    for new, old in zip(_tables(model), _tables(tiny_model), strict=True):
        assert new.shape[0] == 343 and torch.equal(new[:340], old)
        torch.testing.assert_close(new[340:], old.mean(0).expand(3, -1), atol=1e-6, rtol=1e-6)
    assert model.config.vocab_size == 343
    again = models.load("m", lacking, rows=True)[0]
    assert "adding" not in capsys.readouterr().err  # once
    assert len(models.load("m", lacking)[0].get_input_embeddings().weight) == 340  # as it is, to be measured
    assert models.fingerprint(again) == models.fingerprint(model)


def _tables(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()


def test_new_rows_are_reported_and_that_adapters_do_not_train_them(lacking: Path, tiny_model: Any) -> None:
    model = models.load("m", lacking, merge=True)[0]
    assert notes(lacking, tiny_model) == ""
    assert notes(lacking, model) == (
        "note: model m: 3 tokens of its tokenizer had no row in its embedding; "
        "each has the mean of the other rows now\n"
    )
    assert "adapters (dpo) do not train these rows; to learn them, leave out train.lora" in notes(
        lacking, model, "train.lora={}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapter"])
def test_what_is_trained_with_new_tokens_loads_in_plain_transformers(
    lacking: Path, adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = '{{"prompt": "Say {i} <new11>", "chosen": "<new10> yes {i}", "rejected": "no <new9> {i}"}}\n'
    (lacking / "a.jsonl").write_text("".join(row.format(i=i) for i in range(8)))
    (lacking / "r.yaml").write_text(RECIPE + "evals: {}\n")
    monkeypatch.chdir(lacking)
    settings = ["train.steps=2", "train.batch=4", "train.learning_rate=0.01", *(["train.lora={}"] if adapter else [])]
    assert prefzoo(monkeypatch, "run", "r.yaml", *(part for one in settings for part in ("--set", one))) == 0
    checkpoint = lacking / "results" / "r" / "dpo" / "checkpoint"
    kind = AutoPeftModelForCausalLM if adapter else AutoModelForCausalLM
    trained = kind.from_pretrained(checkpoint)
    start = models.load("m", lacking, rows=True)[0]
    table, before = trained.get_input_embeddings().weight.detach(), start.get_input_embeddings().weight.detach()
    assert len(table) == 343 and torch.equal(table[342], before[342]) == adapter
    ids = AutoTokenizer.from_pretrained(checkpoint)("<new11>", return_tensors="pt", add_special_tokens=False).input_ids
    assert ids.tolist() == [[342]] and trained(ids).logits.shape[-1] == 343


def test_all_weights_of_experts_are_trained_only_where_that_is_asked_for(tiny_model: Any, tmp_path: Path) -> None:
    config = MixtralConfig(num_local_experts=4)
    assert number_of_experts(config) == 4 and number_of_experts(tiny_model.config) == 0
    model = SimpleNamespace(config=config)
    with pytest.raises(UserError, match=r"variants.dpo: model m is a mixture of 4 experts, .* train.router_loss: off"):
        check_model("m", model, trials(tmp_path), Console(quiet=True))
    for override in ("train.router_loss=off", "train.lora={}"):
        assert "the balancing loss of its router is not added" in notes(tmp_path, model, override)
