"""`prefzoo pairs` as a user meets it, under every kind of local judge."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo
from first_fast import first_fast

OWN = """
def score(instruction, output):
    return len(output)
def better(instruction, output_1, output_2):
    return 1.5 + 0.5 * ((len(output_2) > len(output_1)) - (len(output_2) < len(output_1)))
def same(instruction, output):
    return 1
"""
JUDGES = {
    "verifier": "verifier",
    "of one": "own.py:score",
    "of both": "own.py:better",
    "reward": "{kind: reward, model: rm}",
    "model": "{kind: model, model: model}",
}


@pytest.fixture
def place(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    import torch
    from transformers import LlamaForSequenceClassification

    tiny_model.generation_config.eos_token_id = list(range(270, 340))  # answers end soon
    tiny_model.config.max_position_embeddings = 2048
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    config = copy.deepcopy(tiny_model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    tiny_tokenizer.save_pretrained(tmp_path / "rm")
    (tmp_path / "own.py").write_text(OWN)
    rows = [{"prompt": f"say {i}", "checks": [{"kind": "most_words", "n": 2}]} for i in range(12)]
    (tmp_path / "checked.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", first_fast(JUDGES))
def test_every_kind_of_judge_makes_pairs_with_a_card(
    place: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pairs", "--model", "model", "--prompts", "checked.jsonl", "--judge", JUDGES[kind], "--n", "4"]
    words += ["--max-new-tokens", "8", "--length-ratio", "9", "--out", "out.jsonl"]
    words += ["--least-score", "0"] if kind == "verifier" else []
    assert prefzoo(monkeypatch, *words) == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    card = json.loads(Path("out.jsonl.card.json").read_text())
    out = capsys.readouterr().out
    assert f"{len(rows)} pairs in out.jsonl" in out and "prompts gave no pair" in out
    assert all(row["score_chosen"] > row["score_rejected"] and row["chosen"] != row["rejected"] for row in rows)
    assert card["pairs"] == len(rows) == 12 - card["prompts_without_a_pair"] and card["answers"] == 48
    assert sum(card["why_without"].values()) == card["prompts_without_a_pair"]
    assert (card["n"], card["length_ratio"]) == (4, 9.0) and ("@" in card["judge"]) == (kind != "verifier")
    assert card["score"].startswith("mean win rate" if kind in ("of both", "model") else "the judge's own scale")
    assert not list(place.glob("*.partial")) and not list(place.glob(".*.partial"))
    Path("out.jsonl").unlink()
    assert prefzoo(monkeypatch, *shlex.split(card["command"])[1:]) == 0  # the card's command makes the same data
    assert [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()] == rows


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--judge", "own.py:same"], "x all scores tie"),
        (["--judge", "own.py:none"], "evals.judge: own.py has no function 'none'"),
        (["--judge", "{kind"], "--judge: not YAML"),
        (["--prompts", "p.jsonl"], "--judge: verifier scores only prompts with checks, and 1 of 1 have none"),
        (["--out", "out.txt"], "--out out.txt: unknown kind of file '.txt'; use .jsonl or .parquet"),
    ],
)
def test_mistakes(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "p.jsonl").write_text('{"prompt": "say"}\n')
    usual = ["pairs", "--model", "model", "--prompts", "instruct:train:4", "--max-new-tokens", "8", "--out", "o.jsonl"]
    assert prefzoo(monkeypatch, *usual, *words) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err
