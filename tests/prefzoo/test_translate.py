"""`prefzoo translate`: configurations in the styles of TRL, LLaMA-Factory and axolotl, as recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.recipe.load import Recipe, load
from prefzoo.recipe.translate import Translation, translate
from prefzoo.recipe.translate.translation import Place

TRL = """\
model_name_or_path: org/model
dataset_name: org/pairs
dataset_train_split: train_prefs
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
learning_rate: 5e-6
beta: 0.3
max_steps: 50
warmup_steps: 5
"""
FACTORY = """\
model_name_or_path: org/model
stage: dpo
finetuning_type: lora
lora_rank: 4
lora_target: q_proj, v_proj
dataset: mine
template: qwen3_nothink
output_dir: saves/My Run
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
resume_from_checkpoint: null
"""
AXOLOTL = """\
base_model: org/model
rl: dpo
datasets:
  - path: org/pairs
    split: train_prefs
    field_chosen: better
    field_rejected: worse
    type: chatml.intel
adapter: lora
lora_r: 32
lora_alpha: 16
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 4
optimizer: adamw_torch
lr_scheduler: cosine
learning_rate: 0.0002
sequence_len: 4096
wandb_project:
"""


def translated(
    folder: Path, peer: str, text: str, *more: str, method: str = "", processes: int = 1
) -> tuple[Translation, Recipe]:
    """The translation of a configuration with more lines, and the recipe that it gives, read back."""
    path = folder / "config.yaml"
    path.write_text(text + "\n".join(more))
    translation = translate(peer, path, Place(folder, folder, processes), method)
    (folder / "r.yaml").write_text(translation.text())
    return translation, load(folder / "r.yaml")


def the_variant(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    (variant,) = recipe.variants.values()
    return variant.loss, variant.params.model_dump()


def test_trl_with_its_defaults(tmp_path: Path) -> None:
    translation, recipe = translated(tmp_path, "trl", TRL, processes=4)
    train = recipe.train
    assert (recipe.model, recipe.data.train, recipe.seed) == ("org/model", "org/pairs:train_prefs", 42)
    assert (train.batch, train.steps, train.warmup, train.learning_rate) == (64, 50, 0.1, 5e-6)
    assert (train.schedule, train.gradient_checkpointing, train.lora) == ("linear", True, None)
    assert the_variant(recipe) == ("dpo", {"beta": 0.3})
    assert not translation.differs and not translation.left_out and not translation.unknown
    assert "learning_rate: 5e-06  # from learning_rate" in translation.text()
    assert "schedule: linear  # TRL's default" in translation.text()


@pytest.mark.parametrize(
    ("lines", "loss", "knobs"),
    [
        ("loss_type: ipo", "ipo_mean", {"tau": 0.3}),
        ("loss_type: robust\nlabel_smoothing: 0.2", "robust", {"beta": 0.3, "flip_rate": 0.2}),
        ("loss_type: sigmoid_norm", "dpo_norm", {"beta": 0.3}),
        ("loss_type: discopop\ndiscopop_tau: 0.1", "discopop", {"beta": 0.3, "tau": 0.1}),
        ("use_weighting: true", "wpo", {"beta": 0.3}),
        ("ld_alpha: 0.7", "ld_dpo", {"beta": 0.3, "alpha": 0.7}),
        ("f_divergence_type: js_divergence", "fdpo_js", {"beta": 0.3}),
        ("loss_type: [sigmoid, sft]\nloss_weights: [0.8, 0.2]", "0.8*dpo + 0.2*sft", {"dpo": {"beta": 0.3}, "sft": {}}),
        ("rpo_alpha: 0.5", "dpo + 0.5*sft", {"dpo": {"beta": 0.3}, "sft": {}}),
        ("desirable_weight: 1.5", "kto", {"beta": 0.3, "desirable": 1.5, "undesirable": 1.0}),
        ("loss_type: simpo\ncpo_alpha: 0\nsimpo_gamma: 0.4", "simpo", {"beta": 0.3, "gamma": 0.4}),
        ("loss_type: simpo", "cpo_simpo", {"beta": 0.3, "gamma": 0.5, "alpha": 1.0}),
    ],
)
def test_the_losses_of_trl(lines: str, loss: str, knobs: dict[str, Any], tmp_path: Path) -> None:
    assert the_variant(translated(tmp_path, "trl", TRL, lines)[1]) == (loss, knobs)


def test_trls_methods_and_its_traps(tmp_path: Path) -> None:
    assert the_variant(translated(tmp_path, "trl", TRL, method="orpo")[1]) == ("orpo", {"weight": 0.3})
    assert the_variant(translated(tmp_path, "trl", TRL, method="cpo")[1]) == ("cpo", {"beta": 0.3, "alpha": 1.0})
    translation, _ = translated(
        tmp_path, "trl", TRL, "label_smoothing: 0.1\noptim: lion_32bit\nwarmup_ratio: 0.2\nuse_peft: true"
    )
    assert "ignored by the loss sigmoid since TRL 0.29" in translation.differs["label_smoothing"]
    assert translation.differs["optim"] == "lion_32bit is not among the optimisers"
    assert "q_proj and v_proj" in translation.differs["lora_target_modules"]


@pytest.mark.parametrize(
    ("lines", "option", "why"),
    [
        ("loss_type: ipo\nf_divergence_type: js_divergence", "f_divergence_type", "it changes the loss sigmoid alone"),
        ("loss_type: [ipo, sft]\nf_divergence_type: forward_kl", "f_divergence_type", "it changes the loss sigmoid"),
        ("use_weighting: true\nf_divergence_type: forward_kl", "f_divergence_type", "not combined with use_weighting"),
        ("ld_alpha: 0.5\nf_divergence_type: forward_kl", "f_divergence_type", "not combined with ld_alpha here"),
        ("f_divergence_type: chi", "f_divergence_type", "no such divergence is known here; there are forward_kl, js_"),
        ("loss_type: ipo\nlabel_smoothing: 0.1", "label_smoothing", "TRL does not read it with loss_type ipo"),
        ("loss_type: hinge\nlabel_smoothing: 0.1", "label_smoothing", "TRL does not read it with loss_type hinge"),
    ],
)
def test_options_that_the_loss_does_not_read_are_named(lines: str, option: str, why: str, tmp_path: Path) -> None:
    left_out = translated(tmp_path, "trl", TRL, lines)[0].left_out
    assert list(left_out) == [option] and left_out[option].startswith(why)


ALIEN = "does not read it"
FULL = "all weights are trained"


@pytest.mark.parametrize(
    ("peer", "method", "lines", "option", "why"),
    [
        ("trl", "", "discopop_tau: 0.1", "discopop_tau", "the loss dpo does not read it"),
        ("trl", "", "loss_type: [ipo, sft]\ndiscopop_tau: 0.1", "discopop_tau", "the loss ipo_mean + sft does not re"),
        ("trl", "", "f_alpha_divergence_coef: 0.7", "f_alpha_divergence_coef", ALIEN),
        ("trl", "", "f_divergence_type: forward_kl\nf_alpha_divergence_coef: 0.7", "f_alpha_divergence_coef", ALIEN),
        ("trl", "", "loss_type: sft\nld_alpha: 0.7", "beta", "the loss sft does not read it"),
        ("trl", "kto", "loss_type: apo_zero_unpaired\ndesirable_weight: 2", "desirable_weight", ALIEN),
        ("trl", "orpo", "loss_type: sigmoid", "loss_type", "is not read: orpo has one"),
        ("trl", "cpo", "simpo_gamma: 0.7", "simpo_gamma", "the loss cpo does not read it"),
        ("trl", "cpo", "alpha: 0.7", "alpha", "the loss cpo does not read it"),
        ("trl", "cpo", "loss_type: alphapo\nalpha: 0.2\ncpo_alpha: 0.5", "cpo_alpha", "the loss alphapo does not"),
        ("trl", "", "lora_r: 4\nlora_target_modules: [q_proj]", "lora_r", FULL),
        ("trl", "", "load_in_4bit: true", "load_in_4bit", FULL),
        ("llamafactory", "", "simpo_gamma: 0.7", "simpo_gamma", "the loss dpo does not read it"),
        ("llamafactory", "", "kto_chosen_weight: 2", "kto_chosen_weight", ALIEN),
        ("llamafactory", "", "pref_loss: simpo\nld_alpha: 0.7", "ld_alpha", "the loss simpo does not read it"),
        ("llamafactory", "", "ld_alpha: 0.7\ndpo_label_smoothing: 0.1", "dpo_label_smoothing", ALIEN),
        ("llamafactory", "kto", "pref_loss: ipo", "pref_loss", "is not read: the stage kto trains kto"),
        ("llamafactory", "", "finetuning_type: full", "lora_rank", FULL),
        ("axolotl", "", "kto_desirable_weight: 2", "kto_desirable_weight", "rl: dpo does not read it"),
        ("axolotl", "", "simpo_gamma: 2", "simpo_gamma", ALIEN),
        ("axolotl", "", "dpo_loss_type: hinge\ndpo_norm_loss: true", "dpo_norm_loss", ALIEN),
        ("axolotl", "", "dpo_loss_type: hinge\ndpo_label_smoothing: 0.1", "dpo_label_smoothing", "TRL does not read"),
        ("axolotl", "", "dpo_beta: 0.1\norpo_alpha: 0.3", "orpo_alpha", ALIEN),
        ("axolotl", "kto", "dpo_loss_type: hinge", "dpo_loss_type", "rl: kto does not read it"),
        ("axolotl", "orpo", "rpo_alpha: 0.3", "rpo_alpha", "rl: orpo does not read it"),
        ("axolotl", "simpo", "dpo_use_weighting: true", "dpo_use_weighting", ALIEN),
        ("axolotl", "", "adapter: null", "lora_r", FULL),
    ],
)
def test_options_of_another_loss_or_adapter_are_named(
    peer: str, method: str, lines: str, option: str, why: str, tmp_path: Path
) -> None:
    text = {"trl": TRL, "llamafactory": FACTORY, "axolotl": AXOLOTL}[peer]
    translation, _ = translated(tmp_path, peer, text, lines, method=method)
    assert (
        why in (translation.left_out | translation.differs)[option]
        and option not in translation.mapped
        and not translation.unknown
    )


def test_options_at_their_defaults_are_not_named(tmp_path: Path) -> None:
    """A file of all of TRL's arguments holds those of all losses."""
    lines = "discopop_tau: 0.05\nlabel_smoothing: 0.0\nuse_weighting: false\nlora_r: 16\nf_alpha_divergence_coef: 0.5"
    translation, _ = translated(tmp_path, "trl", TRL, lines)
    assert not translation.left_out and not translation.unknown


@pytest.mark.parametrize("weights", ["[1.0]", "[1, high]", "2"])
def test_weights_that_are_not_one_for_each_loss(weights: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss_weights: must be a list of 2 numbers, one for each loss"):
        translated(tmp_path, "trl", TRL, f"loss_type: [sigmoid, sft]\nloss_weights: {weights}")


def test_a_likelihood_term_joins_several_losses(tmp_path: Path) -> None:
    _, recipe = translated(tmp_path, "trl", TRL, "loss_type: [sigmoid, ipo]\nloss_weights: [1, 2]\nrpo_alpha: 0.5")
    assert the_variant(recipe)[0] == "dpo + 2*ipo_mean + 0.5*sft"
    _, recipe = translated(tmp_path, "trl", TRL, "loss_type: [sigmoid, sft]\nloss_weights: [1, 2]\nrpo_alpha: 0.5")
    assert the_variant(recipe)[0] == "dpo + 2.5*sft"  # TRL adds both


@pytest.mark.parametrize(
    "lines",
    [
        "loss_type: hinge\nf_divergence_type: reverse_kl",  # the default
        "loss_type: [sigmoid, sft]\nf_divergence_type: forward_kl",
        "loss_type: ipo\nlabel_smoothing: 0",
    ],
)
def test_options_that_change_nothing_are_not_named(lines: str, tmp_path: Path) -> None:
    assert not translated(tmp_path, "trl", TRL, lines)[0].left_out


def test_the_options_of_training(tmp_path: Path) -> None:
    lines = ("sync_ref_model: true", "ref_model_sync_steps: 64", "optim: adafactor", "disable_dropout: false")
    adapter = ("use_peft: true", "lora_target_modules: all-linear", "lora_r: 4")
    _, recipe = translated(tmp_path, "trl", TRL, *lines, *adapter)
    train = recipe.train
    assert train.sync_reference is not None and (train.sync_reference.alpha, train.sync_reference.every) == (0.6, 64)
    assert train.lora is not None and (train.lora.rank, train.lora.targets, train.lora.dropout) == (
        4,
        "all-linear",
        0.05,
    )
    assert (train.optimizer, train.dropout) == ("adafactor", "model")


def test_llamafactory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    info = {"mine": {"file_name": "mine.json", "ranking": True, "columns": {"prompt": "question", "chosen": "good"}}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "data" / "mine.json").write_text("[]")
    translation, recipe = translated(tmp_path, "llamafactory", FACTORY)
    assert (recipe.name, recipe.data.train, recipe.data.max_length) == ("my-run", "data/mine.json", 2048)
    assert recipe.data.columns == {"prompt": "question", "chosen": "good"}
    assert recipe.data.chat_template_kwargs == {"enable_thinking": False}
    lora = recipe.train.lora
    assert lora is not None and (lora.rank, lora.alpha, lora.targets) == (4, 8.0, ["q_proj", "v_proj"])
    assert the_variant(recipe) == ("dpo", {"beta": 0.1}) and recipe.train.batch == 8
    assert translation.left_out["template"] == "the tokenizer's own chat template is used, not qwen3_nothink"
    assert "resume_from_checkpoint" not in translation.left_out  # it asks for nothing


@pytest.mark.parametrize(
    ("lines", "loss", "knobs"),
    [
        ("pref_loss: simpo\nsimpo_gamma: 0.7", "simpo", {"beta": 0.1, "gamma": 0.7}),
        ("pref_loss: orpo\npref_beta: 0.2", "orpo", {"weight": 0.2}),
        ("pref_loss: ipo", "dpo_norm", {"beta": 0.1}),
        ("pref_loss: hinge", "dpo", {"beta": 0.1}),
        ("dpo_label_smoothing: 0.1", "cdpo", {"beta": 0.1, "flip_rate": 0.1}),
        ("ld_alpha: 0.5", "ld_dpo_policy", {"beta": 0.1, "alpha": 0.5}),
        ("pref_ftx: 0.2", "dpo + 0.2*sft", {"dpo": {"beta": 0.1}, "sft": {}}),
    ],
)
def test_the_losses_of_llamafactory(lines: str, loss: str, knobs: dict[str, Any], tmp_path: Path) -> None:
    assert the_variant(translated(tmp_path, "llamafactory", FACTORY, lines)[1]) == (loss, knobs)


def test_references_and_adapters_of_llamafactory(tmp_path: Path) -> None:
    translation, recipe = translated(
        tmp_path, "llamafactory", FACTORY, "ref_model: org/other\nadapter_name_or_path: sft"
    )
    assert (recipe.model, recipe.reference) == ("sft", "org/other")
    assert "merged into its model, in policy and reference" in translation.differs["adapter_name_or_path"]


def test_axolotl(tmp_path: Path) -> None:
    translation, recipe = translated(tmp_path, "axolotl", AXOLOTL)
    (source,) = recipe.data.train
    assert (source.path, source.split, source.columns) == (
        "org/pairs", "train_prefs", {"chosen": "better", "rejected": "worse"}
    )  # fmt: skip
    assert (recipe.train.batch, recipe.train.epochs, recipe.data.max_length) == (8, 4.0, 4096)
    assert recipe.train.lora is not None and recipe.train.lora.targets == "all-linear"
    assert the_variant(recipe) == ("dpo", {"beta": 0.1})
    assert (
        "chatml.intel" in translation.left_out["datasets.type"] and translation.mapped["num_epochs"] == "train.epochs"
    )
    assert "wandb_project" not in translation.left_out  # it is empty


@pytest.mark.parametrize(
    ("method", "lines", "loss", "knobs"),
    [
        ("ipo", "rl_beta: 0.2", "ipo_mean", {"tau": 0.2}),
        ("orpo", "orpo_alpha: 0.3", "orpo", {"weight": 0.3}),
        ("kto", "kto_undesirable_weight: 0.2", "kto", {"beta": 0.1, "desirable": 1.0, "undesirable": 0.2}),
        ("simpo", "trl: {beta: 2}\nsimpo_gamma: 1\ncpo_alpha: 0", "simpo", {"beta": 2.0, "gamma": 1.0}),
        ("dpo", "dpo_loss_type: [hinge]\nrl_beta: 0.4", "hinge", {"beta": 0.4}),
    ],
)
def test_the_losses_of_axolotl(method: str, lines: str, loss: str, knobs: dict[str, Any], tmp_path: Path) -> None:
    assert the_variant(translated(tmp_path, "axolotl", AXOLOTL, lines, method=method)[1]) == (loss, knobs)


@pytest.mark.parametrize("peer", ["trl", "llamafactory", "axolotl"])
def test_unknown_keys_are_listed(peer: str, tmp_path: Path) -> None:
    text = {"trl": TRL, "llamafactory": FACTORY, "axolotl": AXOLOTL}[peer]
    translation, _ = translated(tmp_path, peer, text, "bananas: 3")
    assert translation.unknown == ["bananas: 3"] and "#   bananas: 3\n" in translation.text()


@pytest.mark.parametrize("peer", ["trl", "llamafactory", "axolotl"])
def test_four_bits_are_named_where_they_cannot_be_had(peer: str, tmp_path: Path) -> None:
    lines = {"trl": "use_peft: true\nload_in_4bit: true\nlora_target_modules: [q_proj]",
             "llamafactory": "quantization_bit: 4", "axolotl": "load_in_4bit: true"}[peer]  # fmt: skip
    text = {"trl": TRL, "llamafactory": FACTORY, "axolotl": AXOLOTL}[peer]
    translation, recipe = translated(tmp_path, peer, text, lines)
    assert recipe.train.lora is not None and recipe.train.lora.quantize is None
    assert "train.lora.quantize: 4bit needs an NVIDIA GPU" in translation.differs["load_in_4bit"]
    (tmp_path / "config.yaml").write_text(text + lines)
    there = translate(peer, tmp_path / "config.yaml", Place(tmp_path, tmp_path, can_quantize=True))
    assert there.recipe["train"]["lora"]["quantize"] == "4bit"


def test_what_cannot_be_translated_is_refused_in_one_line(tmp_path: Path) -> None:
    for peer, text, method, says in (
        ("llamafactory", "stage: sft", "", "stage: sft trains no preference loss"),
        ("axolotl", "base_model: x", "", "rl: must be dpo, ipo, kto, orpo, simpo to be translated (is None)"),
        ("trl", "- a", "", "must be a mapping of keys"),
        ("trl", "a: [", "", "cannot be read"),
        ("trl", "beta: high", "", "beta: must be a number (is 'high')"),
        ("trl", "a: 1", "grpo", "--method: grpo is not translated from trl; there are dpo, kto, cpo, orpo"),
    ):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(UserError) as caught:
            translate(peer, tmp_path / "c.yaml", Place(tmp_path, tmp_path), method)
        assert len(caught.value.lines) == 1 and says in caught.value.lines[0]


@pytest.mark.slow
def test_the_command_prints_what_changes_and_its_recipe_passes_check(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    text = (
        TRL.replace("org/model", "model")
        .replace("org/pairs", "train.jsonl")
        .replace("dataset_train_split: train_prefs\n", "")
    )
    (run_folder / "trl.yaml").write_text(text + "loss_type: ipo\nbananas: 3\n")
    (run_folder / "recipes").mkdir()
    assert prefzoo(monkeypatch, "translate", "trl.yaml", "--from", "trl", "--out", "recipes/mine.yaml") == 0
    err = capsys.readouterr().err
    for line in (
        "same     learning_rate -> train.learning_rate",
        "differs  loss_type: ipo: means over tokens",
        "unknown  bananas: 3",
        "recipes/mine.yaml is written; next: prefzoo check recipes/mine.yaml",
    ):
        assert line in err, line
    assert "to do" not in err
    assert load(run_folder / "recipes" / "mine.yaml").model == "../model"
    assert prefzoo(monkeypatch, "check", "recipes/mine.yaml") == 0
    assert prefzoo(monkeypatch, "translate", "trl.yaml", "--from", "trl") == 0
    assert "# From a configuration of TRL" in capsys.readouterr().out


def test_what_the_recipe_still_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("beta: -1\n")
    assert prefzoo(monkeypatch, "translate", "c.yaml", "--from", "trl") == 0
    printed = capsys.readouterr()
    assert "to do" in printed.err and "must be greater than 0" in printed.err
    assert "differs  model_name_or_path: names no model; write one" in printed.err
    assert printed.out.startswith("# From a configuration of TRL")
