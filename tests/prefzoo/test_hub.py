"""Cards and uploads: what a run leaves beside each checkpoint, and which files of it go up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from called import prefzoo

from prefzoo import losses
from prefzoo.engine import models
from prefzoo.experiment import cards
from prefzoo.experiment.cards import About
from prefzoo.runtime.run_folders import RunResult

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-3, precision: fp32}
variants:
  full: {loss: dpo + 0.2*sft}
  low: {loss: dpo, train: {lora: {rank: 2}}}
evals: {prompts: "instruct:eval:3", max_new_tokens: 4}
"""
TOKEN = "hf_" + "s" * 30  # of nobody


def front(text: str) -> dict[str, Any]:
    """A card's YAML."""
    return dict(yaml.safe_load(text.split("---\n")[1]))


@pytest.fixture
def place(in_run_folder: Path) -> Path:
    (in_run_folder / "r.yaml").write_text(RECIPE)
    return in_run_folder


@pytest.fixture
def saved(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder with one full and one LoRA checkpoint, their cards, and what must not go up."""
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    model, tokenizer = models.load(str(tmp_path / "model"), Path())
    run = tmp_path / "run"
    models.save(model, tokenizer, run / "full" / "checkpoint")
    low = models.add_lora(model, rank=2, alpha=4.0, dropout=0.0, targets="all-linear", seed=0)
    models.save(low, tokenizer, run / "low" / "checkpoint")
    for name in ("full", "low"):
        cards.write(about(tmp_path), run / name / "checkpoint")
        (run / name / "result.json").write_text("{}")
        (run / name / "checkpoint" / "optimizer.pt").write_bytes(b"moments")
        (run / name / "checkpoint" / "trainer_state.json").write_text("{}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    return run


def about(folder: Path, loss: str = "dpo", **changes: Any) -> About:
    recipe: dict[str, Any] = {
        "name": "mine", "model": "me/base", "data": {"train": "them/pairs:train", "max_length": 64}, **changes,
    }  # fmt: skip
    environment = {"hardware": {"gpu": "G"}, "versions": {"torch": "9"}, "finished": "2026-01-02T03:04:05+00:00"}
    costs = {"seconds": 12.3, "peak_memory_bytes": 2.0**31}
    result = RunResult("v", loss, {"beta": 0.1}, {"batch": 4, "lora": {"rank": 2}}, 7, "k", {}, costs, environment)
    rows = [("win_rate", "66.5% [58.5, 74.0]", "-", "100", "p.jsonl", "verifier")]
    return About(result, losses.get(loss), recipe, folder, rows, ["8 pairs"], "simpo leads.")


def test_a_card_says_what_the_model_is(tmp_path: Path) -> None:
    text = cards.card(about(tmp_path), adapter=False)
    printed = front(text)
    assert (printed["base_model"], printed["datasets"]) == ("me/base", ["them/pairs"])
    assert (printed["library_name"], printed["pipeline_tag"]) == ("transformers", "text-generation")
    assert {"prefzoo", "dpo", "arxiv:2305.18290"} <= set(printed["tags"]) and "license" not in printed
    assert "$$ L = " in text and "[arXiv:2305.18290](https://arxiv.org/abs/2305.18290)" in text
    assert "| win\\_rate | 66.5% \\[58.5, 74.0\\] | - | 100 | p.jsonl | verifier |" in text
    assert "| lora.rank | 2 |" in text and "| beta | 0.1 |" in text and "| seed | 7 |" in text
    assert "- 8 pairs" in text and "Hardware: G" in text and "Peak memory: 2.0 GiB" in text and "torch 9" in text
    assert "simpo leads" in text and "from_pretrained" in text and "The license is not set" in text


def test_a_card_of_a_sum_and_an_adapter(tmp_path: Path) -> None:
    text = cards.card(about(tmp_path, "dpo + 0.2*sft"), adapter=True)
    assert {"dpo", "sft", "lora"} <= set(front(text)["tags"]) and front(text)["library_name"] == "peft"
    assert "0.2 times sft: " in text and "AutoPeftModelForCausalLM" in text


def test_formulas_in_a_losss_words_are_in_the_hubs_spelling(tmp_path: Path) -> None:
    text = cards.card(about(tmp_path, "simpo"), adapter=False)
    assert r"minus a target margin \\(\gamma\\)." in text


def test_a_path_of_this_machine_is_no_hub_id_and_stays_here(tmp_path: Path) -> None:
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "base").mkdir()
    text = cards.card(about(tmp_path, data={"train": "/home/secret/pairs.jsonl", "max_length": 64}), adapter=False)
    assert "base_model" not in front(text) and "datasets" not in front(text)
    assert "secret" not in text and "pairs.jsonl" in text
    packed = cards.card(about(tmp_path, model="package://some/file.gguf"), adapter=False)
    assert "base_model" not in front(packed) and "package://some/file.gguf" in packed


def test_text_of_the_user_is_no_markup(tmp_path: Path) -> None:
    evil = "<script>x</script>|[a](b)\n# c `d` --- $$"
    text = cards.card(about(tmp_path, name=evil, model=f"./{evil}"), adapter=False)
    assert "<script>" not in text and "[a](b)" not in text and "\n# c" not in text and front(text)
    assert cards.safe(evil) == r"&lt;script&gt;x&lt;/script&gt;\|\[a\](b) \# c \`d\` --- \$\$"


@pytest.mark.slow
def test_a_run_leaves_cards_that_hold_its_numbers_and_checkpoints_that_chat(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    run = place / "results" / "tiny"
    for name, kind in (("full", AutoModelForCausalLM), ("low", AutoPeftModelForCausalLM)):
        checkpoint = run / name / "checkpoint"
        text = (checkpoint / "README.md").read_text()
        assert "| win\\_rate | " in text and "| instruct:eval:3 | verifier |" in text and "- 8 pairs" in text
        assert str(place) not in text
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        ids = tokenizer.apply_chat_template([{"role": "user", "content": "Say 1"}], return_tensors="pt")
        logits = kind.from_pretrained(checkpoint)(ids["input_ids"] if not torch.is_tensor(ids) else ids).logits
        assert torch.isfinite(logits).all()
    capsys.readouterr()
    assert prefzoo(monkeypatch, "push", "results/tiny/full", "--to", "me/full", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "model.safetensors" in out and "would go to me/full; nothing was uploaded" in out


def test_what_goes_up(saved: Path) -> None:
    from prefzoo.experiment import hub

    full = hub.files(saved / "full", "me/full")
    assert set(full) == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md",
    }  # fmt: skip
    low = hub.files(saved / "low", "me/low", "them/base")
    assert set(low) == {
        "adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md",
    }  # fmt: skip
    held = low["adapter_config.json"]
    assert isinstance(held, bytes) and json.loads(held)["base_model_name_or_path"] == "them/base"
    for name, content in {**full, **low}.items():
        if name.endswith((".json", ".md", ".jinja")):
            text = content if isinstance(content, bytes) else content.read_bytes()
            assert str(saved.parent).encode() not in text, name
    card = low["README.md"]
    assert isinstance(card, bytes) and b'from_pretrained("me/low")' in card
    assert front(card.decode())["base_model"] == "them/base"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run/full", "--to", "me"], "--to: 'me': not a repository; write it like user/name"),
        (["run/gone", "--to", "me/x"], "no checkpoint in it; name a RUN/VARIANT"),
        (["run/low", "--to", "me/x"], "which only this machine has; name its hub id with --base-model"),
        (["run/low", "--to", "me/x", "--base-model", "/a/b"], "--base-model: '/a/b': not a hub id"),
        (["run/full", "--to", "me/x"], "push: no token for the hub; run `hf auth login`, or set HF_TOKEN"),
    ],
)
def test_a_mistake_is_one_line(
    saved: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(saved.parent)
    assert prefzoo(monkeypatch, "push", *words) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1


def test_without_a_card_nothing_goes_up(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "full" / "checkpoint" / "README.md").unlink()
    assert prefzoo(monkeypatch, "push", str(saved / "full"), "--to", "me/x") == 2
    assert "no README.md in it; run the same prefzoo run again to write the card" in capsys.readouterr().err


def test_no_network_is_said_in_one_line_without_the_token(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError(f"no route to the hub with {self.token}")

    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", unreachable)
    assert prefzoo(monkeypatch, "push", str(saved / "full"), "--to", "me/x") == 2
    printed = capsys.readouterr()
    assert "the hub cannot be reached (ConnectionError: no route" in printed.err and len(printed.err.splitlines()) == 1
    assert TOKEN not in printed.err + printed.out


@pytest.mark.parametrize(("status", "cure"), [(403, "the token may not write there"), (500, "try again later")])
def test_a_refusal_is_said_in_one_line(
    saved: Path, status: int, cure: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    class Answer:
        status_code, headers, request = status, {}, None  # type: ignore[var-annotated]

    def refused(self: Any, *args: Any, **kwargs: Any) -> None:
        raise HfHubHTTPError(f"no, {TOKEN}", response=Answer())  # type: ignore[arg-type]

    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refused)
    assert prefzoo(monkeypatch, "push", str(saved / "full"), "--to", "me/x") == 2
    printed = capsys.readouterr()
    assert f"the hub refuses me/x (HTTP {status}); {cure}" in printed.err and len(printed.err.splitlines()) == 1
    assert TOKEN not in printed.err + printed.out


def test_a_hub_gets_one_commit_with_all_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def create_repo(self: Any, repo: str, *, private: bool, exist_ok: bool) -> str:
        seen["repo"] = (repo, private, exist_ok)
        return f"https://hub/{repo}"

    def create_commit(self: Any, repo: str, operations: list[Any], *, commit_message: str) -> None:
        seen["files"] = {o.path_in_repo for o in operations}

    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", create_commit)
    assert prefzoo(monkeypatch, "push", str(saved / "full"), "--to", "me/x", "--private") == 0
    assert seen["repo"] == ("me/x", True, True)
    assert {"model.safetensors", "README.md", "chat_template.jinja"} <= seen["files"]
    assert not any("optimizer" in name or "state" in name for name in seen["files"])
