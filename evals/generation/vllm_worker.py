"""The process that holds a vLLM engine: `python -m prefzoo.evals.generation.vllm_worker JOB.json ANSWERS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def answer(job: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return a greedy answer per prompt, of the model itself (no adapter) and of each adapter, from one engine."""
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    ranks = [v["rank"] for v in job["variants"] if v["adapter"]]
    lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": max(ranks)} if ranks else {}
    engine = LLM(model=job["model"], seed=0, **lora)
    settings = SamplingParams(temperature=0.0, max_tokens=job["max_new_tokens"], stop_token_ids=job["ends"])
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    answers: dict[str, list[dict[str, Any]]] = {}
    for number, variant in enumerate(job["variants"], 1):
        with_adapter = LoRARequest(variant["name"], number, variant["adapter"]) if variant["adapter"] else None
        outputs = engine.generate(prompts, settings, lora_request=with_adapter)
        answers[variant["name"]] = [
            {"tokens": list(o.outputs[0].token_ids), "finished": o.outputs[0].finish_reason == "stop"} for o in outputs
        ]
    return answers


if __name__ == "__main__":
    answers = answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(answers), encoding="utf-8")
