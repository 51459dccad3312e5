"""Recipes: what they may say, what is filled in, overrides. What a wrong one is told: test_recipe_faults.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from prefzoo import losses
from prefzoo.errors import UserError
from prefzoo.recipe.load import dump, load

MINIMAL = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl}\nvariants: {dpo: }\n"
PLUGIN = """
from prefzoo.losses import Positive, loss

@loss(paper="mine")
def recipe_plugin(policy, *, slope: Positive = 1.0):
    return -slope * policy.margin
"""


def dotted(plain: dict[str, Any], prefix: str = "") -> set[str]:
    names: set[str] = set()
    for key, value in plain.items():
        names |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key}
    return names


def test_the_fields_are_pinned_a_new_one_is_a_decision(write: Any) -> None:
    train = ["batch", "epochs", "learning_rate", "max_grad_norm", "micro_batch", "precision", "schedule", "steps"]
    train += [
        "dropout",
        "tokens",
        "gradient_checkpointing",
        "optimizer",
        "router_loss",
        "pair_weights",
        "side_by_side",
        "sync_reference",
        "warmup",
        "weight_decay",
    ]
    lora = ["lora.alpha", "lora.dropout", "lora.quantize", "lora.rank", "lora.targets"]
    resolved = load(write(MINIMAL), ["train.lora={}"]).resolved()
    assert dotted(resolved) == {
        *(
            "name",
            "seed",
            "seeds",
            "keep",
            "price_per_hour",
            "sweep",
            "rounds",
            "model",
            "reference",
            "trust_remote_code",
            "data.train",
            "data.eval",
            "data.columns",
            "data.format",
            "data.on_bad_row",
            "data.drop",
            "data.flip_labels",
            "data.max_length",
            "data.too_long",
            "data.score",
            "data.pairs",
            "data.chat_template_kwargs",
        ),
        *("train.trackers", *(f"train.{f}" for f in [*train, *lora])),
        *("variants.dpo.loss", "variants.dpo.beta", *(f"variants.dpo.train.{f}" for f in [*train, *lora])),
        *(
            "evals.prompts",
            "evals.judge",
            "evals.judge_labels",
            "evals.max_new_tokens",
            "evals.engine",
            "evals.benchmarks",
            "evals.kl",
            "evals.frontier",
            "evals.round_robin",
            "evals.equivalence",
        ),
    }


def test_defaults(write: Any) -> None:
    recipe = load(write(MINIMAL))
    assert (recipe.seed, recipe.data.max_length, recipe.data.too_long, recipe.evals.judge) == (
        0,
        1024,
        "drop",
        "verifier",
    )
    assert (recipe.train.batch, recipe.train.learning_rate, recipe.train.warmup) == (8, 1e-6, 0.1)
    assert recipe.variants["dpo"].params.model_dump() == {"beta": 0.1}
    assert recipe.variants["dpo"].train == recipe.train
    assert recipe.folder.name == recipe.variants["dpo"].folder.name != ""


def test_a_recipe_is_frozen(write: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(write(MINIMAL)).name = "other"  # type: ignore[misc]


def test_a_variant_puts_its_own_settings_over_the_common_ones(write: Any) -> None:
    text = MINIMAL + "train: {batch: 16, lora: {rank: 4, alpha: 8}, trackers: [tensorboard]}\n"
    text = text.replace("{dpo: }", "{dpo: , soft: {loss: cdpo, flip_rate: 0.2, train: {batch: 4, lora: {rank: 2}}},"
                                   " full: {loss: sft, train: {lora: null}}}")  # fmt: skip
    variants = load(write(text)).variants
    assert [v.loss for v in variants.values()] == ["dpo", "cdpo", "sft"]
    assert (variants["dpo"].train.batch, variants["soft"].train.batch) == (16, 4)
    soft = variants["soft"].train.lora
    assert soft is not None and (soft.rank, soft.alpha) == (2, 8) and variants["full"].train.lora is None
    assert variants["soft"].train.trackers == ["tensorboard"]
    assert variants["soft"].params.model_dump() == {"beta": 0.1, "flip_rate": 0.2}
    assert variants["soft"].loss_obj.name == "cdpo"


def test_a_loss_from_a_file_beside_the_recipe(write: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    path = write(MINIMAL.replace("dpo: ", "own: {loss: 'mine.py:recipe_plugin', slope: 2}"))
    variant = load(path).variants["own"]
    assert variant.params.model_dump() == {"slope": 2.0} and not variant.loss_obj.needs_reference


def test_a_heading_with_nothing_under_it_means_defaults(write: Any) -> None:
    assert load(write(MINIMAL + "train:\nevals:\n")).resolved() == load(write(MINIMAL)).resolved()


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-5", "0.00001", ".00001", "+1e-05"])
def test_a_number_is_a_number_however_it_is_spelled(write: Any, text: str) -> None:
    # PyYAML by itself reads 1e-5 as text.
    assert load(write(MINIMAL + f"train: {{learning_rate: {text}}}")).train.learning_rate == 1e-5


def test_no_yes_and_dates_are_text(write: Any) -> None:
    text = MINIMAL.replace("tiny", "2024-01-01").replace("pairs.jsonl", "no")
    recipe = load(write(text))
    assert (recipe.name, recipe.data.train) == ("2024-01-01", "no")


def test_windows_line_ends_and_a_byte_order_mark(write: Any) -> None:
    assert load(write(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())).name == "tiny"


def test_an_alias_is_a_copy(write: Any) -> None:
    text = MINIMAL.replace("{dpo: }", "{a: &a {loss: dpo, beta: 0.2}, b: *a}")
    assert load(write(text), ["variants.a.beta=0.3"]).variants["b"].params.model_dump() == {"beta": 0.2}


def test_a_dump_loads_to_the_same(write: Any) -> None:
    awkward = [
        "model='1e-5'",
        "data.train=no",
        "data.eval='null'",
        "train.learning_rate=3e-7",
        "data.columns.prompt='12'",
    ]
    first = load(write(MINIMAL), [*awkward, "variants.dpo.train.lora.targets=[q_proj]", "train.trackers=[wandb]"])
    text = dump(first)
    again = load(write(text))
    assert again.resolved() == first.resolved() and dump(again) == text
    assert (again.model, again.data.train, again.data.eval, again.train.learning_rate) == ("1e-5", "no", "null", 3e-7)
    # Other readers of YAML 1.1 see the text as text too.
    assert yaml.safe_load(text)["data"]["train"] == "no"


def test_overrides(write: Any) -> None:
    text = MINIMAL.replace("{dpo: }", "{dpo: , v1.5: {loss: ipo}}")
    sets = [
        "train.batch=4",
        "train.batch=2",
        "variants.dpo.beta=0.2",
        "variants.v1.5.tau=0.4",
        "evals.benchmarks=[a, b]",
    ]
    recipe = load(
        write(text), [*sets, "variants.dpo.train.learning_rate=1e-5", "train.lora.rank=3", "variants.new={loss: sft}"]
    )
    assert recipe.train.batch == 2 and recipe.train.lora is not None and recipe.train.lora.rank == 3
    assert recipe.variants["dpo"].params.model_dump() == {"beta": 0.2}
    assert recipe.variants["dpo"].train.learning_rate == 1e-5
    assert recipe.variants["v1.5"].params.model_dump() == {"tau": 0.4}
    assert recipe.evals.benchmarks == ["a", "b"] and recipe.variants["new"].loss == "sft"


def test_an_override_mends_what_the_file_has_wrong(write: Any) -> None:
    path = write(MINIMAL + "train: {batch: -1}")
    with pytest.raises(UserError, match="train.batch: must be greater than 0"):
        load(path)
    assert load(path, ["train.batch=1"]).train.batch == 1


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_loads_and_is_short(path: Path) -> None:
    recipe = load(path)
    assert recipe.name == path.stem and len(path.read_text().splitlines()) < 30
    if path.stem == "zoo":
        assert list(recipe.variants) == [
            *(name for name in losses.names() if name != "qrpo"),
            *(one.name for one in losses.all_modifiers()),
        ]
