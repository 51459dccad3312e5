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

from prefzoo.data.chat import with_variables
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text
from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import Answer

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what its `max_lora_rank` may be
TAIL = 300  # characters of a failed engine's last line


def check_vllm(option: str) -> None:
    """Raise UserError, which names `option`, where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise UserError(f"{option}: vllm is not installed; pip install 'prefzoo[vllm]', or leave the engine out")


def vllm_answers(
    model: str, tokenizer: Any, adapters: Mapping[str, str | None], prompts: Sequence[Text], *, max_new_tokens: int,
    ends: Sequence[int] = (),
) -> dict[str, list[Answer]]:  # fmt: skip
    """Generate greedy answers of a model and of adapters on it, by one engine.

    Args:
        model: folder or hub id.
        tokenizer: the model's.
        adapters: folder of each adapter, by name; None for the model alone.
        prompts: texts, or messages, before the chat template.
        max_new_tokens: tokens of an answer at most.
        ends: tokens that end an answer, besides the tokenizer's EOS.

    Returns:
        By the names of `adapters`, an answer for each prompt.

    Raises:
        UserError: vLLM is not installed, or its process failed; with its last line.
    """
    check_vllm("vllm")
    stops = sorted({*ends, tokenizer.eos_token_id} - {None})
    job = {
        "model": model, "max_new_tokens": max_new_tokens, "prompts": [encode_prompt(tokenizer, p) for p in prompts],
        "ends": stops,
        "variants": [{"name": n, "adapter": a, "rank": _rank(a) if a else 0} for n, a in adapters.items()],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        job_file, answers_file = Path(folder) / "job.json", Path(folder) / "answers.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        process = subprocess.run(
            [sys.executable, "-m", "prefzoo.evals.generation.vllm_worker", str(job_file), str(answers_file)],
            check=False,
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise UserError(f"vllm: its process ended with code {process.returncode}: {_last_line(process.stderr)}")
        rows_by_name = json.loads(answers_file.read_text(encoding="utf-8"))
    return {name: [_answer(tokenizer, row, stops) for row in rows] for name, rows in rows_by_name.items()}


def _rank(adapter: str) -> int:
    """Return the least `max_lora_rank` that vLLM allows for an adapter."""
    rank = int(json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    return next((r for r in VLLM_RANKS if r >= rank), rank)


def _answer(tokenizer: Any, row: dict[str, Any], ends: Sequence[int]) -> Answer:
    tokens = [*row["tokens"]]
    if tokens and tokens[-1] in ends:
        tokens = tokens[:-1]
    return Answer(tokenizer.decode(tokens, skip_special_tokens=True).strip(), bool(row["finished"]), len(tokens))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-TAIL:] if lines else "it wrote nothing"


def checkpoint_answers(
    specs: Mapping[str, str], base: str, prompts: Sequence[Text], *, max_new_tokens: int,
    variables: Mapping[str, Any] | None = None,
) -> dict[str, list[Answer]]:  # fmt: skip
    """Generate greedy answers of several checkpoints.

    Args:
        specs: models by name: folders or hub ids, and adapter folders, which share the engine of `base`.
        base: name of the model that adapters sit on.
        prompts: texts, or messages, before the chat template.
        max_new_tokens: tokens of an answer at most.
        variables: of the chat template.

    Returns:
        By name, an answer for each prompt.

    Raises:
        UserError: as for `vllm_answers`.
    """
    from transformers import AutoTokenizer

    adapters = {n: s for n, s in specs.items() if (Path(s) / "adapter_config.json").is_file()}
    engines: dict[str, dict[str, str | None]] = {}
    for name, spec in specs.items():
        engines.setdefault(specs[base] if name in adapters else spec, {})[name] = adapters.get(name)
    answers: dict[str, list[Answer]] = {}
    for model, variants in engines.items():
        tokenizer = with_variables(AutoTokenizer.from_pretrained(model), variables or {}, "--chat-template-kwargs")
        answers |= vllm_answers(model, tokenizer, variants, prompts, max_new_tokens=max_new_tokens)
    return answers
