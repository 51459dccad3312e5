"""Answers by vLLM, an optional extra: one engine in a process of its own, one `LoRARequest` per adapter."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prefzoo.data.encoding import encode_prompt
from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import Answer

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what its `max_lora_rank` may be
TAIL = 300  # characters of what a failed engine said last


def check_vllm(place: str) -> None:
    """Raises UserError, naming `place`, where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise UserError(f"{place}: vllm is not installed; pip install 'prefzoo[vllm]', or leave the engine out")


def answers(
    model: str, tokenizer: Any, adapters: Mapping[str, str | None], prompts: Sequence[str], *, max_new_tokens: int,
    ends: Sequence[int] = (),
) -> dict[str, list[Answer]]:  # fmt: skip
    """One greedy answer per prompt for each name of `adapters`: of an adapter's folder on `model`, or of it alone.

    Args:
        ends: tokens that end an answer, besides the tokenizer's EOS.

    Raises:
        UserError: vLLM is not there, or its process failed; with the last of what it said.
    """
    check_vllm("vllm")
    stops = sorted({*ends, tokenizer.eos_token_id} - {None})
    job = {
        "model": model, "max_new_tokens": max_new_tokens, "prompts": [encode_prompt(tokenizer, p) for p in prompts],
        "ends": stops,
        "variants": [{"name": n, "adapter": a, "rank": _rank(a) if a else 0} for n, a in adapters.items()],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        asked, made = Path(place) / "job.json", Path(place) / "answers.json"
        asked.write_text(json.dumps(job), encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, "-m", "prefzoo.evals.generation.vllm_worker", str(asked), str(made)],
            check=False,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise UserError(f"vllm: its process ended with code {ran.returncode}: {_last(ran.stderr)}")
        found = json.loads(made.read_text(encoding="utf-8"))
    return {name: [_answer(tokenizer, row, stops) for row in rows] for name, rows in found.items()}


def _rank(adapter: str) -> int:
    """The least that vLLM allows for an adapter's rank."""
    rank = int(json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    return next((r for r in VLLM_RANKS if r >= rank), rank)


def _answer(tokenizer: Any, row: dict[str, Any], ends: Sequence[int]) -> Answer:
    kept = [*row["tokens"]]
    if kept and kept[-1] in ends:
        kept = kept[:-1]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), bool(row["finished"]), len(kept))


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-TAIL:] if lines else "it said nothing"


def answers_of_checkpoints(
    specs: Mapping[str, str], base: str, prompts: Sequence[str], *, max_new_tokens: int
) -> dict[str, list[Answer]]:
    """Of models by name: folders or hub ids, and adapter folders, which sit on `base`'s model and share its engine."""
    from transformers import AutoTokenizer

    adapters = {n: s for n, s in specs.items() if (Path(s) / "adapter_config.json").is_file()}
    engines: dict[str, dict[str, str | None]] = {}
    for name, spec in specs.items():
        engines.setdefault(specs[base] if name in adapters else spec, {})[name] = adapters.get(name)
    found: dict[str, list[Answer]] = {}
    for model, variants in engines.items():
        tokenizer = AutoTokenizer.from_pretrained(model)
        found |= answers(model, tokenizer, variants, prompts, max_new_tokens=max_new_tokens)
    return found
