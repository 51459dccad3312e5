"""vLLM through a module of the same surface, in its own process: one engine, an adapter per variant."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from prefzoo.data.encoding import encode_prompt
from prefzoo.errors import UserError
from prefzoo.evals.generation.vllm import check_vllm, vllm_answers

FAKE = """
import json, os
from types import SimpleNamespace as Bag
said = []
class SamplingParams:
    def __init__(self, *, temperature, max_tokens, stop_token_ids):
        self.max_tokens, self.stop = max_tokens, stop_token_ids
class LLM:
    def __init__(self, *, model, seed, enable_lora=False, max_loras=1, max_lora_rank=16):
        if model == "broken":
            raise RuntimeError("no GPU found")
        said.append(["engine", model, enable_lora, max_lora_rank])
    def generate(self, prompts, sampling_params, *, lora_request=None):
        lora = lora_request and [lora_request.lora_name, lora_request.lora_int_id, lora_request.lora_path]
        said.append(["generate", lora])
        open(os.environ["FAKE_LOG"], "w").write(json.dumps(said))
        own = [lora_request.lora_int_id + 100 if lora_request else 100]
        made = []
        for p in prompts:
            ends = len(p["prompt_token_ids"]) % 2 == 0
            tokens = (own + sampling_params.stop[:1]) if ends else own * sampling_params.max_tokens
            made.append(Bag(outputs=[Bag(token_ids=tuple(tokens), finish_reason="stop" if ends else "length")]))
        return made
"""
REQUEST = """
class LoRARequest:
    def __init__(self, lora_name, lora_int_id, lora_path):
        self.lora_name, self.lora_int_id, self.lora_path = lora_name, lora_int_id, lora_path
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `vllm` on the path that writes down what it was asked."""
    (tmp_path / "vllm" / "lora").mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text(FAKE)
    (tmp_path / "vllm" / "lora" / "__init__.py").write_text("")
    (tmp_path / "vllm" / "lora" / "request.py").write_text(REQUEST)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), root]))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.json"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, rank in (("dpo", 8), ("ipo", 12)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return tmp_path


def test_one_engine_and_a_request_per_adapter(fake: Path, tiny_tokenizer: Any) -> None:
    adapters = {"base": None, "dpo": str(fake / "dpo"), "ipo": str(fake / "ipo")}
    prompts = ["Say one", "Say it twice"]
    found = vllm_answers("the/model", tiny_tokenizer, adapters, prompts, max_new_tokens=3)
    assert json.loads((fake / "log.json").read_text()) == [
        ["engine", "the/model", True, 16], ["generate", None],
        ["generate", ["dpo", 2, str(fake / "dpo")]], ["generate", ["ipo", 3, str(fake / "ipo")]],
    ]  # fmt: skip
    for prompt, answer in zip(prompts, found["dpo"], strict=True):
        ends = len(encode_prompt(tiny_tokenizer, prompt)) % 2 == 0
        assert answer.finished is ends and answer.tokens == (1 if ends else 3)
        assert answer.text == tiny_tokenizer.decode([102] * answer.tokens).strip()


def test_an_engine_that_fails(fake: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(UserError, match="vllm: its process ended with code 1: RuntimeError: no GPU found"):
        vllm_answers("broken", tiny_tokenizer, {"base": None}, ["a"], max_new_tokens=3)


def test_without_vllm() -> None:
    with pytest.raises(UserError, match=r"--engine: vllm is not installed; pip install 'prefzoo\[vllm\]'"):
        check_vllm("--engine")
