"""`prefzoo translate`: older spellings, keys of projects built on a library, and which keys are known at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_translate import AXOLOTL, FACTORY, TRL, the_variant, translated

from prefzoo.errors import UserError
from prefzoo.recipe.translate import translate
from prefzoo.recipe.translate.left_out import BEGINNINGS, EXACT
from prefzoo.recipe.translate.translation import Place

MIXER = """\
model_name_or_path: org/model
dataset_mixer: {org/pairs: 1.0, org/more: 0.5}
dataset_splits: [train_prefs, test_prefs]
beta: 0.01
"""
MIXTURE = """\
model_name_or_path: org/model
dataset_mixture:
  datasets:
  - {id: org/pairs, config: default, split: train_prefs, columns: [chosen, rejected], weight: 1.0}
  - {id: org/pairs, config: default, split: test_prefs, columns: [chosen, rejected], weight: 1.0}
  test_split_size: 2000
  seed: 0
"""


def test_a_mixer_names_training_and_held_out_splits(tmp_path: Path) -> None:
    translation, recipe = translated(tmp_path, "trl", MIXER)
    assert [(one.path, one.split) for one in recipe.data.train] == [
        ("org/pairs", "train_prefs"), ("org/more", "train_prefs")
    ]  # fmt: skip
    assert [one.split for one in recipe.data.eval] == ["test_prefs", "test_prefs"]
    assert translation.differs["dataset_mixer"].startswith("the share of rows") and not translation.unknown
    _, recipe = translated(tmp_path, "trl", "model_name_or_path: m\ndataset_mixer: {org/pairs: 1.0}\n")
    assert (recipe.data.train, recipe.data.eval) == ("org/pairs", "org/pairs:test")


def test_a_mixture_may_have_two_splits_of_one_data_set(tmp_path: Path) -> None:
    translation, recipe = translated(tmp_path, "trl", MIXTURE)
    assert [(one.name, one.split) for one in recipe.data.train] == [
        ("train_prefs-pairs", "train_prefs"), ("test_prefs-pairs", "test_prefs")
    ]  # fmt: skip
    assert "dataset_mixture.test_split_size" in translation.left_out and not translation.differs
    translation, _ = translated(tmp_path, "trl", MIXTURE.replace("config: default", "config: Preference"))
    assert "dataset_mixture.config" in translation.left_out
    translation, _ = translated(tmp_path, "trl", MIXTURE.replace("weight: 1.0", "weight: 0.25"))
    assert "dataset_mixture" in translation.differs


@pytest.mark.parametrize(
    ("lines", "loss", "knobs"),
    [
        ("gamma_beta_ratio: 0.5", "simpo", {"beta": 0.3, "gamma": 0.15}),
        ("gamma_beta_ratio: 0.5\nsft_weight: 0.2", "simpo + 0.2*sft",
         {"simpo": {"beta": 0.3, "gamma": 0.15}, "sft": {}}),
        ("reference_free: true", "dpo_ref_free", {"beta": 0.3}),
        ("reference_free: false", "dpo", {"beta": 0.3}),
        ("reference_free: true\nloss_type: [sigmoid, sft]", "dpo_ref_free + sft",
         {"dpo_ref_free": {"beta": 0.3}, "sft": {}}),
        ("reference_free: true\nloss_type: hinge", "hinge", {"beta": 0.3}),
        ("reference_free: true\nrpo_alpha: 0.5", "dpo_ref_free + 0.5*sft",
         {"dpo_ref_free": {"beta": 0.3}, "sft": {}}),
    ],
)  # fmt: skip
def test_losses_of_older_and_kindred_projects(lines: str, loss: str, knobs: dict[str, Any], tmp_path: Path) -> None:
    translation, recipe = translated(tmp_path, "trl", TRL, lines)
    assert the_variant(recipe) == (loss, knobs) and not translation.unknown
    assert ("reference_free" in translation.differs) == ("hinge" in lines)


def test_simpos_other_options_are_named(tmp_path: Path) -> None:
    translation, recipe = translated(
        tmp_path,
        "trl",
        MIXER.replace("beta: 0.01", ""),
        "gamma_beta_ratio: 0.55\nloss_type: hinge\nlabel_smoothing: 0.1",
    )
    assert the_variant(recipe) == ("simpo", {"beta": 2.0, "gamma": 1.1})
    assert "repo" in translation.differs["loss_type: hinge"] and "label_smoothing" in translation.left_out


@pytest.mark.parametrize(
    ("lines", "loss", "knobs"),
    [
        ("dpo_beta: 0.7", "dpo", {"beta": 0.7}),
        ("dpo_norm_loss: true\nrl_beta: 5", "dpo_norm", {"beta": 5.0}),
        ("rpo_alpha: 0.5", "dpo + 0.5*sft", {"dpo": {"beta": 0.1}, "sft": {}}),
        ("dpo_loss_type: hinge", "hinge", {"beta": 0.1}),
    ],
)
def test_older_spellings_of_axolotl(lines: str, loss: str, knobs: dict[str, Any], tmp_path: Path) -> None:
    translation, recipe = translated(tmp_path, "axolotl", AXOLOTL, lines)
    assert the_variant(recipe) == (loss, knobs) and not translation.unknown


def test_axolotls_batch_of_a_device(tmp_path: Path) -> None:
    text = AXOLOTL.replace("gradient_accumulation_steps: 4\n", "batch_size: 16\n")
    assert translated(tmp_path, "axolotl", text)[1].train.batch == 16
    assert translated(tmp_path, "axolotl", AXOLOTL, "batch_size: 16")[1].train.batch == 8


def test_a_data_set_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    entry = "  - path: org/pairs\n    split: train_prefs\n    type: chatml.intel\n"
    head, _, tail = AXOLOTL.partition("  - path: org/pairs\n")
    text = head + entry + entry + tail[tail.index("adapter") :]
    translation, recipe = translated(tmp_path, "axolotl", text)
    assert recipe.data.train == "org/pairs:train_prefs"
    assert translation.differs["datasets"] == "names a data set twice; its rows are read once here"


@pytest.mark.parametrize(
    ("peer", "text", "says"),
    [
        ("trl", "datasets: {path: x}", "datasets: must be a list of mappings, each with path; correct it"),
        ("trl", "dataset_mixer: [a, b]", "dataset_mixer: must be a mapping from a data set to a share; correct it"),
        (
            "trl",
            "dataset_mixture: {datasets: [{path: a}]}",
            "dataset_mixture.datasets: must be a list of mappings, each",
        ),
        ("trl", "dataset_mixture: {seed: 0}", "dataset_mixture.datasets: lists no data set; add one"),
        ("axolotl", "rl: dpo\ndatasets: {path: x}", "datasets: must be a list of mappings; correct it"),
        ("axolotl", "rl: dpo\ndatasets: [x]", "datasets: must be a list of mappings; correct it"),
    ],
)
def test_data_sets_of_another_shape_are_refused_in_one_line(peer: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        translate(peer, tmp_path / "c.yaml", Place(tmp_path, tmp_path))
    (line,) = caught.value.lines
    assert f"c.yaml: {says}" in line


def test_optimisers_by_other_names(tmp_path: Path) -> None:
    assert translated(tmp_path, "llamafactory", FACTORY, "use_muon: true")[1].train.optimizer == "muon"
    translation, recipe = translated(tmp_path, "trl", TRL, "optim: paged_adamw")
    assert recipe.train.optimizer == "adamw" and translation.mapped["optim"] == "train.optimizer"


@pytest.mark.parametrize(
    ("peer", "keys"),
    [
        ("trl", "full_determinism: true\ntorch_compile_mode: max\nproject: x\nhub_model_revision: v1\nplugins: [a]"),
        ("llamafactory", "image_max_pixels: 9\nuse_apollo: true\napollo_rank: 2\nray_num_workers: 2\n"
         "deepspeed: z3.json\nexport_dir: out\noft_rank: 3"),
        ("axolotl", "tensor_parallel_size: 2\nswanlab_project: x\nloss_watchdog_threshold: 5\nplugins: [a.B]\n"
         "flash_attn_cross_entropy: true\nlisa_n_layers: 2\nrelora: true\nrl_adapter_ref_model: true"),
    ],
)  # fmt: skip
def test_keys_without_a_counterpart_are_left_out_with_a_reason(peer: str, keys: str, tmp_path: Path) -> None:
    text = {"trl": TRL, "llamafactory": FACTORY, "axolotl": AXOLOTL}[peer]
    translation, _ = translated(tmp_path, peer, text, keys)
    assert not translation.unknown
    assert {line.partition(":")[0] for line in keys.splitlines()} <= translation.left_out.keys()


def test_a_key_has_one_reason() -> None:
    for table in (EXACT, BEGINNINGS):
        keys = [key for group in table for key in group.split()]
        assert len(keys) == len(set(keys))


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    keys = ("hub_token: hf_abcdef", "some_api_key: sk-abcdef", "my_token: hf_abcdef", "special_tokens_cfg: plain")
    translation, _ = translated(tmp_path, "trl", TRL, *keys)
    assert translation.unknown == ["some_api_key: ***", "my_token: ***", "special_tokens_cfg: 'plain'"]
    assert "abcdef" not in translation.text()
