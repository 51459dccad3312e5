"""Generate answers with vLLM, an optional dependency. Its engine runs in a separate process and serves adapters."""

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

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # allowed values of `max_lora_rank`
TAIL = 300  # most characters of a failed engine's last line in a message
MEMORY = 0.9  # share of a GPU's free memory that the engine takes
PATIENCE = 20  # seconds to wait for an engine to end before it is killed
# Variables of a launcher of several processes, which make an engine wait for the other processes.
LAUNCHED = ("RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "GROUP_", "ROLE_", "TORCHELASTIC_", "ACCELERATE_")


def check_vllm(option: str) -> None:
    """Raise UserError, with `option` in its message, if vLLM is not installed."""
    if find_spec("vllm") is None:
        raise UserError(f"{option}: vllm is not installed; pip install 'prefzoo[vllm]', or leave the engine out")


def engine_version() -> str:
    """Return vLLM's name and version, for cache keys: another version may give other answers."""
    return f"vllm {version_of('vllm')}"


class Engine:
    """A vLLM engine in a separate process, which lives as long as a `with` block.

    Args:
        model: the model's folder or hub id.
        tokenizer: the model's tokenizer.
        length: most tokens of a prompt and its answer together.
        adapters: folders of the adapters that will be used.

    Raises:
        UserError: vLLM is not installed. On entry and in `ask`: its process failed; the message has its last line.
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
        """Start the process, and wait until it has loaded the model."""
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
        """Generate one answer to each prompt.

        Args:
            prompts: P prompts, as token ids.
            max_new_tokens: most tokens of an answer.
            temperature: the sampling temperature; 0 for greedy answers.
            seeds: P seeds of sampling, one for each prompt; empty for greedy answers.
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
        """Sample `n` answers to each prompt. The seed of each is a hash of `seed`, the prompt and the answer's number.

        Args:
            prompts: P prompts, as token ids.
            n: number of answers to each prompt.
            temperature, seed: temperature and seed of sampling.
            max_new_tokens: most tokens of an answer.

        Returns:
            P lists of `n` answers.
        """
        seeds = [seed_of(seed, ids, k) for ids in prompts for k in range(n)]
        repeated = [ids for ids in prompts for _ in range(n)]
        answers = self.ask(repeated, max_new_tokens=max_new_tokens, temperature=temperature, seeds=seeds)
        return [answers[start : start + n] for start in range(0, len(answers), n)]

    def _send(self, value: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # the process has ended; the missing reply below says so
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        reply = self._process.stdout.readline()
        if not reply:
            code = self._process.wait()
            self._errors.seek(0)
            raise UserError(f"vllm: the process ended with code {code}: {_last_line(self._errors.read())}")
        return json.loads(reply)


def vllm_answers(
    model: str, tokenizer: Any, adapters: Mapping[str, str | None], prompts: Sequence[Text], *, max_new_tokens: int,
    variables: Mapping[str, Any] | None = None,
) -> dict[str, list[Answer]]:  # fmt: skip
    """Generate greedy answers of a model and of adapters on it, with one engine.

    Args:
        model: the model's folder or hub id.
        tokenizer: the model's tokenizer.
        adapters: the folder of each adapter, by name; None for the model alone.
        prompts: the prompts, as texts or messages. The chat template is applied here.
        max_new_tokens: most tokens of an answer.
        variables: variables of the chat template.

    Returns:
        The answer to each prompt, by the names of `adapters`.

    Raises:
        UserError: vLLM is not installed, or its process failed; the message has its last line.
    """
    ids = [encode_prompt(tokenizer, p, variables) for p in prompts]
    folders = [folder for folder in adapters.values() if folder]
    with Engine(model, tokenizer, longest(ids) + max_new_tokens, folders) as engine:
        return {n: engine.ask(ids, max_new_tokens=max_new_tokens, adapter=folder) for n, folder in adapters.items()}


def longest(prompts: Sequence[list[int]]) -> int:
    """Return the length of the longest prompt in tokens; 0 without prompts."""
    return max(map(len, prompts), default=0)


def is_adapter(folder: str) -> bool:
    """Return whether a checkpoint is an adapter, which needs a base model."""
    return (Path(folder) / "adapter_config.json").is_file()


def _rank(adapter: str) -> int:
    """Return the smallest `max_lora_rank` of vLLM that fits an adapter."""
    rank = int(json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    return next((r for r in VLLM_RANKS if r >= rank), rank)


def _generation_ends(model: str) -> set[int]:
    """Return the end tokens in the model's generation config; empty if it has none."""
    from transformers import GenerationConfig

    try:
        named = GenerationConfig.from_pretrained(model).eos_token_id
    except (OSError, ValueError):
        return set()
    return {*named} if isinstance(named, list) else {named} - {None}


def _share_of_gpus(model: str) -> dict[str, Any]:
    """Return vLLM's settings for the share of a GPU's memory it may take, and for the number of GPUs.

    If models are sharded, one engine uses the GPUs of its machine: the largest number that divides the attention heads.
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
    """Return the environment of an engine's process.

    With several processes, each has an engine on its own GPU. If models are sharded, one process has an engine on all
    GPUs of its machine.
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
        specs: the checkpoints by name: folders or hub ids of models, and folders of adapters, which share one engine.
        base: the name in `specs` of the adapters' base model.
        prompts: the prompts, as texts or messages. The chat template is applied here.
        max_new_tokens: most tokens of an answer.
        variables: variables of the chat template.

    Returns:
        The answer to each prompt, by name.

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
