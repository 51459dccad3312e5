"""Recipes: every fault at once, with place, value and cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from prefzoo import recipe as recipe_module
from prefzoo.errors import UserError
from prefzoo.recipe import Recipe, dump, load

GOOD = """\
name: tiny
model: some/model
data:
  train: a.jsonl
train:
  learning_rate: 1e-5
variants:
  dpo: {beta: 0.2}
  slow:
    loss: simpo
    train: {learning_rate: 2e-7}
  ipo:
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_defaults_overrides_and_round_trip(tmp_path: Path) -> None:
    found = load(write(tmp_path, GOOD), ["variants.dpo.beta=0.5", "train.steps=3", "evals.benchmarks=[a, b]"])
    assert found.train.learning_rate == 1e-5
    assert found.variants["dpo"].params.model_dump() == {"beta": 0.5}
    assert found.variants["slow"].loss == "simpo" and found.variants["slow"].train.learning_rate == 2e-7
    assert found.variants["slow"].train.steps == 3 and list(found.variants) == ["dpo", "slow", "ipo"]
    assert found.evals.benchmarks == ["a", "b"] and found.folder == tmp_path
    assert "beta: 0.5" in dump(found) and "folder" not in found.resolved()


def test_the_set_of_fields_is_pinned() -> None:
    def fields(model: type[BaseModel]) -> set[str]:
        return set(model.model_fields)

    assert fields(Recipe) == {"name", "seed", "model", "data", "train", "variants", "evals", "folder"}
    assert fields(recipe_module.Data) == {"train", "eval", "columns", "max_length", "too_long"}
    assert fields(recipe_module.Train) == {
        "batch", "micro_batch", "epochs", "steps", "learning_rate", "warmup", "schedule", "weight_decay",
        "max_grad_norm", "precision", "lora",
    }  # fmt: skip
    assert fields(recipe_module.Lora) == {"rank", "alpha", "dropout", "targets"}
    assert fields(recipe_module.Evals) == {"prompts", "judge", "max_new_tokens", "benchmarks"}
    assert fields(recipe_module.Variant) == {"loss", "params", "train"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("model:", "modle:"), "r.yaml:2: modle: no such field; did you mean 'model'?"),
        (("model: some/model\n", ""), "model: missing"),
        (
            ("learning_rate: 1e-5", "learning_rat: 1e-5"),
            "r.yaml:6: train.learning_rat: no such field; did you mean 'lear",
        ),
        (("learning_rate: 1e-5", "learning_rate: -1"), "r.yaml:6: train.learning_rate: input should be greater than 0"),
        (("learning_rate: 1e-5", "learning_rate: '1e-5'"), "write the number without quotes"),
        (("learning_rate: 1e-5", "batch: 2.5"), "r.yaml:6: train.batch: input should be a valid integer"),
        (("learning_rate: 1e-5", "learning_rate: .nan"), "r.yaml:6: train.learning_rate: input should be"),
        (
            ("learning_rate: 1e-5", "{batch: 8, micro_batch: 3}"),
            "r.yaml:5: train: micro_batch 3 does not divide batch 8",
        ),
        (("dpo: {beta", "dpp: {beta"), "r.yaml:8: variants.dpp: no such loss: 'dpp'; did you mean 'dpo'?"),
        (("loss: simpo", "loss: simppo"), "r.yaml:10: variants.slow: no such loss: 'simppo'; did you mean 'simpo'?"),
        (
            ("beta: 0.2", "betta: 0.2"),
            "r.yaml:8: variants.dpo.betta: no such field; did you mean 'beta'? (known here: beta)",
        ),
        (("beta: 0.2", "beta: 0"), "r.yaml:8: variants.dpo.beta: input should be greater than 0"),
        (
            ("{learning_rate: 2e-7}", "{learnin_rate: 2e-7}"),
            "r.yaml:11: variants.slow.train.learnin_rate: no such field",
        ),
        (("loss: simpo", "loss: mine.py:x"), "no such file"),
        (("  dpo: {beta: 0.2}", "  base: {loss: dpo}"), "choose another name"),
        (("dpo: {beta: 0.2}", "dpo: 3"), "r.yaml:8: variants.dpo: is 3; expected a mapping"),
        (("  ipo:\n", "  dpo: {}\n"), "r.yaml:12: variants.dpo: given twice (first in line 8)"),
        (("name: tiny", "name: a/b"), "r.yaml:1: name: string should match pattern"),
        (("name: tiny", "name: [tiny"), "not valid YAML"),
    ],
)
def test_faults(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in GOOD
    text = (
        GOOD.replace("train:\n  " + change[0], "train: " + change[1])
        if change[1][:2] == "{b"
        else GOOD.replace(*change, 1)
    )
    with pytest.raises(UserError) as caught:
        load(write(tmp_path, text))
    assert any(says in line for line in caught.value.lines), caught.value.lines
    assert all("\n" not in line for line in caught.value.lines)


def test_all_faults_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("name:", "nam:").replace("beta: 0.2", "beta: -2").replace("learning_rate: 1e-5", "steps: 0")
    with pytest.raises(UserError) as caught:
        load(write(tmp_path, text))
    places = [line.split("r.yaml", 1)[1].split(": ")[0] for line in caught.value.lines]
    assert places == [":1", ":1", ":6", ":8"]  # `nam` is unknown, and so `name` is missing


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "holds a list at the top"),
        ("name: x\nvariants: {}\n", "at least one is needed"),
    ],
)
def test_no_recipe_at_all(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(write(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.learning_rate", "expected field=value"),
        ("model.x=1", "is a value, not a section"),
        ("train.lr=1", "--set train.lr=1: train.lr: no such field"),
        ("variants.dpo.beta=-1", "--set variants.dpo.beta=-1: variants.dpo.beta: input should be greater than 0"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(write(tmp_path, GOOD), [override])
    assert any(says in line for line in caught.value.lines), caught.value.lines
