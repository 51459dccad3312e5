"""Names of other tools and mistyped ones: each is answered with ours, in recipes, for losses and for commands."""

from __future__ import annotations

import re

import click
import pytest
from called import prefzoo

from prefzoo import losses
from prefzoo.cli import cli
from prefzoo.cli.commands import OTHER_NAMES
from prefzoo.errors import UserError
from prefzoo.losses._other_names import _MEANS
from prefzoo.recipe.descriptions import FIELDS
from prefzoo.recipe.other_names import _FIELDS, _KNOBS, suggestion

TRAIN = [
    "batch",
    "micro_batch",
    "tokens",
    "epochs",
    "steps",
    "learning_rate",
    "warmup",
    "schedule",
    "precision",
    "lora",
]
DATA = ["train", "eval", "format", "columns", "max_length", "too_long"]


@pytest.mark.parametrize(
    ("word", "known", "says"),
    [
        ("lr", TRAIN, "did you mean 'learning_rate'?"),
        ("LR", TRAIN, "did you mean 'learning_rate'?"),
        ("learning-rate", TRAIN, "did you mean 'learning_rate'?"),
        ("num_train_epochs", TRAIN, "did you mean 'epochs'?"),
        ("bs", TRAIN, "did you mean 'batch'?"),
        ("batch_size", TRAIN, "did you mean 'batch'?"),
        ("per_device_train_batch_size", TRAIN, "did you mean 'micro_batch'?"),
        ("max_len", DATA, "did you mean 'max_length'?"),
        ("cutoff_len", DATA, "did you mean 'max_length'?"),
        ("sequence_len", TRAIN, "here that is data.max_length"),
        ("max_length", TRAIN, "here that is data.max_length"),
        ("lora_r", TRAIN, "here that is train.lora.rank"),
        ("lr", ["name", "model", "train"], "here that is train.learning_rate"),
        ("model_name_or_path", ["name", "model", "train"], "did you mean 'model'?"),
        ("gradient_accumulation_steps", TRAIN, "set train.batch, the pairs per step"),
        ("adam_beta1", TRAIN, "torch's defaults"),
        ("bananas", TRAIN, ""),
    ],
)
def test_fields_of_other_tools(word: str, known: list[str], says: str) -> None:
    assert says in suggestion(word, known) and bool(says) == bool(suggestion(word, known))


@pytest.mark.parametrize(
    ("word", "loss", "says"),
    [
        ("kl_coef", "dpo", "did you mean 'beta'?"),
        ("beta", "ipo", "did you mean 'tau'?"),
        ("beta", "orpo", "did you mean 'weight'?"),
        ("label_smoothing", "cdpo", "did you mean 'flip_rate'?"),
        ("label_smoothing", "dpo", "use the loss cdpo"),
        ("lr", "dpo", "train.learning_rate, which a variant sets by `train: {learning_rate: ...}`"),
        ("loss_type", "dpo", "did you mean 'loss'?"),
    ],
)
def test_knobs_of_other_tools(word: str, loss: str, says: str) -> None:
    knobs = list(losses.get(loss).Params.model_fields)
    assert says in suggestion(word, [*knobs, "loss", "train"], in_variant=True)


def test_every_suggestion_is_a_field_a_knob_a_loss_or_a_command_and_no_name_hides_one() -> None:
    knobs = {knob for one in losses.all_losses() for knob in one.Params.model_fields}
    assert {field for field in _FIELDS if field not in (*FIELDS, "loss")} <= knobs
    assert set(_KNOBS) - {"loss"} <= knobs
    assert set(_MEANS) <= set(losses.names())
    assert not {name for names in _MEANS.values() for name in names} & set(losses.names())
    ours = set(cli.commands)
    assert {command.split()[0] for command in OTHER_NAMES.values()} - {"--version", "--help"} <= ours
    assert not set(OTHER_NAMES) & ours


@pytest.mark.parametrize(
    ("name", "says"),
    [("sigmoid", "did you mean 'dpo'?"), ("kto_pair", "'kto'"), ("R-DPO", "'r_dpo'"), ("sppo", "'sppo_hard'"),
     ("tr_dpo", "train.sync_reference"), ("grpo", "needs a reward model"), ("spo", "falls without end")],
)  # fmt: skip
def test_losses_of_other_tools(name: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        losses.get(name)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("chek", "no such command: 'chek'; did you mean 'check'?"),
        ("train", "no such command: 'train'; did you mean 'prefzoo run'?"),
        ("Evaluate", "did you mean 'prefzoo eval'?"),
        ("mine.yaml", "to run a recipe: prefzoo run mine.yaml"),
        ("xyzzy", "no such command: 'xyzzy'; there are check, compare, completion, "),
    ],
)
def test_a_command_that_is_none(
    word: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, word) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_summary_in_the_help_is_cut(width: int) -> None:
    context = click.Context(cli, info_name="prefzoo", terminal_width=width, max_content_width=width)
    text = cli.get_help(context)
    assert "..." not in text.split("Commands:")[1] and "…" not in text
    words = " ".join(text.split())
    for name, command in cli.commands.items():
        assert f"{name} {(command.help or '').split('.')[0]}" in words or width < 80  # noqa: PLR2004 - one line
        summary = (command.help or "").split(". ")[0].splitlines()[0]
        assert summary.endswith(".") and len(summary) <= 62, (name, summary)
