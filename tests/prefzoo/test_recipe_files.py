"""The recipes in the repository: each names the schema, is short, loads, and passes `prefzoo check` on stand-ins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from prefzoo.cli import main
from prefzoo.experiment.plausible import of_trial, unused
from prefzoo.experiment.search import expand
from prefzoo.recipe.load import load

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(RECIPES.glob("*.yaml"))
FIRST = "# yaml-language-server: $schema=recipe.schema.json"
LONGEST = 30


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and pairs in place of a hub's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.conftest import CHATML, build_tokenizer

    folder = tmp_path_factory.mktemp("stand-ins")
    config = LlamaConfig(
        vocab_size=340, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    build_tokenizer(CHATML).save_pretrained(folder / "model")
    rows = [{"prompt": f"Say {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in range(130)]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (folder / "pairs.jsonl").write_text(text)
    (folder / "others.jsonl").write_text(text.replace("Say", "Tell"))
    return folder


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_is_short_and_says_what_it_is_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == FIRST and lines[1].startswith("# ") and len(lines) <= LONGEST
    assert load(path).name == path.stem
    assert path.name in (RECIPES / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_check_says_what_it_would_do(
    path: Path, stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load(path)
    sets = {"model": str(stand_ins / "model"), "data.max_length": 4000}  # a byte is a token
    if "/" in recipe.data.train and "://" not in recipe.data.train:  # of a hub
        sets |= {"data.train": str(stand_ins / "pairs.jsonl"), "data.eval": str(stand_ins / "others.jsonl")}
    words = [w for key, value in sets.items() for w in ("--set", f"{key}={json.dumps(value)}")]
    monkeypatch.setattr(sys, "argv", ["prefzoo", "check", str(path), "--json", *words])
    main()
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["variants"]) == list(recipe.variants)
    assert all(plan["steps"] > 0 and plan["tokens"] > 0 for plan in printed["variants"].values())


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_has_no_absurd_value(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefzoo.experiment.plausible.native_bf16", lambda: True)  # some are for a GPU
    recipe = load(path)
    lines = [line for trial in expand(recipe) for line in of_trial(trial, pairs=60_000)] + unused(recipe)
    assert not lines


def test_thumbs_are_single_answers_of_the_packaged_pairs() -> None:
    """Three good ones, two bad ones, of each five pairs; no prompt is answered twice."""
    packaged = RECIPES.parent / "prefzoo" / "data" / "packaged" / "instruct_train.jsonl"
    pairs: list[dict[str, Any]] = [json.loads(line) for line in packaged.read_text().splitlines()][:200]
    thumbs = [json.loads(line) for line in (RECIPES / "thumbs.jsonl").read_text().splitlines()]
    expected = [(p["prompt"], p["chosen" if i % 5 < 3 else "rejected"], i % 5 < 3) for i, p in enumerate(pairs)]
    assert [(t["prompt"], t["completion"], t["label"]) for t in thumbs] == expected
    assert len({t["prompt"] for t in thumbs}) == len(thumbs)
