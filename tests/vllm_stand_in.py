"""A stand-in for the module `vllm` on machines without a GPU: it has the parts that prefzoo uses and logs calls."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

MODULE = """
import json, os, random
from types import SimpleNamespace as Bag
__version__ = "0.0.stand.in"
def log(**row):
    with open(os.environ["FAKE_LOG"], "a") as f:
        f.write(json.dumps(row) + "\\n")
class SamplingParams:
    def __init__(self, *, temperature, max_tokens, stop_token_ids, seed=None):
        self.temperature, self.max_tokens, self.stop, self.seed = temperature, max_tokens, stop_token_ids, seed
class LLM:
    def __init__(self, *, model, seed, max_model_len, dtype, enable_lora=False, max_loras=1, max_lora_rank=16):
        if model == "broken" or "RANK" in os.environ:
            raise RuntimeError("no GPU found")
        print("vLLM prints much")
        log(model=model, rank=max_lora_rank if enable_lora else 0, length=max_model_len)
    def generate(self, prompts, sampling_params, *, lora_request=None):
        each = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
        ids = [p["prompt_token_ids"] for p in prompts]
        assert len(each) == len(ids)
        lora = lora_request and [lora_request.lora_name, lora_request.lora_int_id, lora_request.lora_path]
        log(adapter=lora, prompts=ids, temperature=each[0].temperature,
            seeds=[p.seed for p in each] if isinstance(sampling_params, list) else [None])
        answers = []
        for tokens, p in zip(ids, each):
            draw, ends = random.Random(f"{p.seed}" if p.temperature else repr([tokens, lora])), len(tokens) % 2 == 0
            own = [draw.randrange(40, 300) for _ in range(1 + draw.randrange(p.max_tokens))]
            if not p.temperature:
                own = own[:1] if ends else (own * p.max_tokens)[: p.max_tokens]
            ends = ends or bool(p.temperature)
            out = own + p.stop[:1] if ends else own
            answers.append(Bag(outputs=[Bag(token_ids=tuple(out), finish_reason="stop" if ends else "length")]))
        return answers
"""
REQUEST = """
class LoRARequest:
    def __init__(self, lora_name, lora_int_id, lora_path):
        self.lora_name, self.lora_int_id, self.lora_path = lora_name, lora_int_id, lora_path
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the module on the path of this process and its child processes."""
    package = folder / "stand_in"
    (package / "vllm" / "lora").mkdir(parents=True)
    (package / "vllm" / "__init__.py").write_text(MODULE)
    (package / "vllm" / "lora" / "__init__.py").write_text("")
    (package / "vllm" / "lora" / "request.py").write_text(REQUEST)
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), root]))
    monkeypatch.setenv("FAKE_LOG", str(folder / "vllm.jsonl"))
    monkeypatch.syspath_prepend(str(package))


def requests(folder: Path) -> list[dict[str, Any]]:
    """Return the module's log in order: settings of engines, and calls."""
    return [json.loads(line) for line in (folder / "vllm.jsonl").read_text().splitlines()]
