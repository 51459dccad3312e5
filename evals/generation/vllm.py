"""Answers by vLLM, an optional extra: an engine in a process of its own, one `LoRARequest` per adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from prefzoo.data.chat import with_variables
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text
from prefzoo.engine.precision import native_bf16
from prefzoo.engine.sharded_model import are_models_sharded
from prefzoo.errors import UserError
from prefzoo.evals.generation.generate import seed_of
from prefzoo.evals.judges.protocol import Answer
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.versions import version_of

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what its `max_lora_rank` may be
TAIL = 300  # characters of a failed engine's last line
MEMORY = 0.9  # share of a GPU's free memory that the engine takes
PATIENCE = 20  # seconds in which an engine ends once it is told to
# Of a launcher of several processes: an engine that read them would wait for the others.
LAUNCHED = ("RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "GROUP_", "ROLE_", "TORCHELASTIC_", "ACCELERATE_")


def check_vllm(option: str) -> None:
    """Raise UserError, which names `option`, where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise UserError(f"{option}: vllm is not installed; pip install 'prefzoo[vllm]', or leave the engine out")


def engine_version() -> str:
    """Return what generates, with its version: answers of another version may differ."""
    return f"vllm {version_of('vllm')}"


class Engine:
    """A model in vLLM, in a process of its own, for as long as a `with` block lasts.

    Args:
        model: a folder or a hub id.
        tokenizer: the model's.
        length: the most tokens that a prompt and its answer have together.
        adapters: folders of the adapters that it is asked for.

    Raises:
        UserError: vLLM is not installed, or its process failed; with its last line. In `ask`, too.
    """

    def __init__(self, model: str, tokenizer: Any, length: int, adapters: Sequence[str] = ()) -> None:
        check_vllm("vllm")
        self.tokenizer, self._numbers = tokenizer, {folder: i for i, folder in enumerate(adapters, 1)}
        self._settings = {
            "model": model, "max_model_len": length, "dtype": "bfloat16" if native_bf16() else "auto",
            "rank": max(map(_rank, adapters), default=0), **_share_of_gpus(model),
        }  # fmt: skip
        self._ends = sorted({*_generation_ends(model), tokenizer.eos_token_id} - {None})

    def __enter__(self) -> Engine:
        """Start the process, and wait until the model is loaded."""
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prefzoo.evals.generation.vllm_worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._errors, text=True, encoding="utf-8", env=_environment(),
        )  # fmt: skip
        try:
            self._send(self._settings)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()

    def ask(
        self, prompts: Sequence[list[int]], *, max_new_tokens: int, temperature: float = 0.0,
        seeds: Sequence[int] = (), adapter: str | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Answer prompts.

        Args:
            prompts: P prompts as token ids.
            max_new_tokens: of an answer, at most.
            temperature: of sampling; 0 for greedy answers.
            seeds: P seeds of sampling, one for each prompt.
            adapter: the folder of an adapter; None for the model alone.

        Returns:
            P answers.
        """
        named = None if adapter is None else [f"adapter-{self._numbers[adapter]}", self._numbers[adapter], adapter]
        rows = self._send({
            "prompts": list(prompts), "max_new_tokens": max_new_tokens, "temperature": temperature,
            "seeds": list(seeds), "adapter": named, "ends": self._ends,
        })  # fmt: skip
        return [_answer(self.tokenizer, row, self._ends) for row in rows]

    def sample(
        self, prompts: Sequence[list[int]], *, n: int, temperature: float, seed: int, max_new_tokens: int
    ) -> list[list[Answer]]:
        """Sample answers, each by a seed of its own, made of `seed`, the prompt and the answer's number.

        Args:
            prompts: P prompts as token ids.
            n: answers to each.
            temperature, seed: of sampling.
            max_new_tokens: of an answer, at most.

        Returns:
            P lists of `n` answers.
        """
        seeds = [seed_of(seed, ids, k) for ids in prompts for k in range(n)]
        repeated = [ids for ids in prompts for _ in range(n)]
        answers = self.ask(repeated, max_new_tokens=max_new_tokens, temperature=temperature, seeds=seeds)
        return [answers[start : start + n] for start in range(0, len(answers), n)]

    def _send(self, value: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # the reply is missing then, too
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        reply = self._process.stdout.readline()
        if not reply:
            code = self._process.wait()
            self._errors.seek(0)
            raise UserError(f"vllm: its process ended with code {code}: {_last_line(self._errors.read())}")
        return json.loads(reply)


def vllm_answers(
    model: str, tokenizer: Any, adapters: Mapping[str, str | None], prompts: Sequence[Text], *, max_new_tokens: int,
    variables: Mapping[str, Any] | None = None,
) -> dict[str, list[Answer]]:  # fmt: skip
    """Generate greedy answers of a model and of adapters on it, by one engine.

    Args:
        model: folder or hub id.
        tokenizer: the model's.
        adapters: folder of each adapter, by name; None for the model alone.
        prompts: texts, or messages, before the chat template.
        max_new_tokens: tokens of an answer at most.
        variables: of the chat template.

    Returns:
        By the names of `adapters`, an answer for each prompt.

    Raises:
        UserError: vLLM is not installed, or its process failed; with its last line.
    """
    ids = [encode_prompt(tokenizer, p, variables) for p in prompts]
    folders = [folder for folder in adapters.values() if folder]
    with Engine(model, tokenizer, longest(ids) + max_new_tokens, folders) as engine:
        return {n: engine.ask(ids, max_new_tokens=max_new_tokens, adapter=folder) for n, folder in adapters.items()}


def longest(prompts: Sequence[list[int]]) -> int:
    """Return the length of the longest of some prompts, in tokens."""
    return max(map(len, prompts), default=0)


def is_adapter(folder: str) -> bool:
    """Return whether a checkpoint is an adapter, which sits on another model."""
    return (Path(folder) / "adapter_config.json").is_file()


def _rank(adapter: str) -> int:
    """Return the least `max_lora_rank` that vLLM allows for an adapter."""
    rank = int(json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    return next((r for r in VLLM_RANKS if r >= rank), rank)


def _generation_ends(model: str) -> set[int]:
    """Return the tokens that end an answer by the model's settings for generation; empty where it has none."""
    from transformers import GenerationConfig

    try:
        named = GenerationConfig.from_pretrained(model).eos_token_id
    except (OSError, ValueError):
        return set()
    return {*named} if isinstance(named, list) else {named} - {None}


def _share_of_gpus(model: str) -> dict[str, Any]:
    """Return how much of a GPU's memory the engine may take beside this process, and over how many GPUs it is spread.

    Of sharded models one process has an engine over all GPUs of its machine, as many as share the heads evenly.
    """
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    settings: dict[str, Any] = {"gpu_memory_utilization": round(MEMORY * free / total, 2)}
    if are_models_sharded():
        from transformers import AutoConfig

        heads = AutoConfig.from_pretrained(model).get_text_config().num_attention_heads
        settings["tensor_parallel_size"] = max(n for n in range(1, torch.cuda.device_count() + 1) if heads % n == 0)
    return settings


def _environment() -> dict[str, str]:
    """Return the variables of an engine's process: of several processes, each has an engine on its own device.

    Where models are sharded, one process has an engine, on all devices of its machine.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHED)}
    state = process_state()
    if state.num_processes > 1 and state.device.type == "cuda" and not are_models_sharded():
        seen, number = os.environ.get("CUDA_VISIBLE_DEVICES"), state.device.index or 0
        own["CUDA_VISIBLE_DEVICES"] = seen.split(",")[number] if seen else str(number)
    return own


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

    adapters = {n: s for n, s in specs.items() if is_adapter(s)}
    engines: dict[str, dict[str, str | None]] = {}
    for name, spec in specs.items():
        engines.setdefault(specs[base] if name in adapters else spec, {})[name] = adapters.get(name)
    answers: dict[str, list[Answer]] = {}
    for model, variants in engines.items():
        tokenizer = with_variables(AutoTokenizer.from_pretrained(model), variables or {}, "--chat-template-kwargs")
        answers |= vllm_answers(model, tokenizer, variants, prompts, max_new_tokens=max_new_tokens)
    return answers
