"""Tiny stand-ins for real models: byte-level BPE tokenizers with and without a chat template, and a two-layer Llama."""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pytest
from called import pairs_text

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINES = (
    "name a river in the north and say why it is long",
    "the river is long and cold in winter",
    "answer in one sentence, without the word cold",
    "user assistant system",
)

RUN = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 25, learning_rate: 1e-3, precision: fp32}
variants:
  dpo:
  shift: {loss: bco_pair_shift}
  moving: {loss: beta_dpo, train: {sync_reference: {alpha: 0.5, every: 3}}}
  low: {loss: sft, train: {lora: {rank: 2, dropout: 0.3}}}
evals: {prompts: "instruct:eval:3", max_new_tokens: 4}
"""


# The tests expect the numbers, messages and memory of a CPU, so GPUs are hidden from them and their child processes.
# `PREFZOO_GPU=1` does not hide them, for the tests marked `gpu`.
if not os.environ.get("PREFZOO_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


NUMBERS = count()
# Files of a minute and more. `make test` begins with them, or its last minutes would be one file on one of two cores.
LONGEST = (
    "ray_faults", "round_robin", "killed_runs", "two_processes", "ray", "pipeline", "api", "sharded_models", "rounds",
    "stopped_launch", "memory_model", "judge_error", "mixtures", "lm_eval_files", "cli_sweep",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; skip tests marked `gpu` if there is no GPU, or if it is hidden from the tests."""
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a GPU, and PREFZOO_GPU=1 to see it"))


def pytest_collection_finish() -> None:
    """Keep the imported packages out of later garbage collections, which would take half a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _process_as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give each test a process in the same state, so that no result depends on the tests before it.

    Seed the random numbers, set up a cache for the test, and afterwards restore environment, search path and current
    folder. Fail a test that leaves global settings of torch or transformers changed; they are checked only if
    something has imported these packages.
    """
    random.seed(0)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(0)
    if torch is not None and hasattr(torch, "default_generator"):
        # torch.manual_seed also formats three stack traces, for devices that were not used yet: milliseconds a test
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)
    environment, path, folder, settings = dict(os.environ), list(sys.path), os.getcwd(), _global_settings()
    os.environ["PREFZOO_CACHE"] = str(tmp_path_factory.getbasetemp() / f"cache{next(NUMBERS)}")
    yield
    changed = {name for name in environment.keys() | os.environ if environment.get(name) != os.environ.get(name)}
    for name in changed - {"PYTEST_CURRENT_TEST"}:
        os.environ.pop(name, None)
        if name in environment:
            os.environ[name] = environment[name]
    sys.path[:] = path
    if not os.path.samefile(folder, "."):
        os.chdir(folder)
    after = _global_settings()
    left = {name: after[name] for name, value in settings.items() if after[name] != value}
    assert not left, f"the test changes global settings to {left} and does not restore {settings}"


def _global_settings() -> dict[str, Any]:
    """Return the global settings of torch and transformers, if they are imported."""
    torch, logging = sys.modules.get("torch"), sys.modules.get("transformers.utils.logging")
    if torch is None or not hasattr(torch, "get_num_threads"):
        return {}
    settings = {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "products": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
    }
    return settings | ({"verbosity": logging.get_verbosity()} if logging is not None else {})


@pytest.fixture(autouse=True)
def _plugins_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove a test's plug-ins and the modules that it wrote, because which tests share a process is chance."""
    from prefzoo.losses import _registry

    monkeypatch.setattr(_registry, "_REGISTRY", dict(_registry._REGISTRY))
    modules, last = len(sys.modules), next(reversed(sys.modules))
    yield
    written = str(tmp_path_factory.getbasetemp())
    for name in list(takewhile(lambda name: name != last, reversed(sys.modules))):  # those imported since
        own = getattr(sys.modules[name], "__dict__", {})  # some modules return something for any attribute
        places = [own.get("__file__"), *own.get("__path__", [])]
        if any(str(place).startswith(written) for place in places):
            del sys.modules[name]
    if len(sys.modules) > modules + 300:
        # torch or transformers was imported: without a freeze, each later collection takes half a second
        gc.collect()
        gc.freeze()


def build_tokenizer(chat_template: str | None, *, merging: bool = False) -> Any:
    """Train a byte-level BPE tokenizer on a few lines; EOS is ChatML's end of turn, and the tokenizer adds a BOS.

    Args:
        chat_template: The chat template, or None.
        merging: Whether tokens may span words, punctuation and line breaks.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not merging)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    built.train_from_iterator(["".join(f"{line}.\n\n" for line in LINES * 3)] if merging else LINES, trainer)
    built.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", built.token_to_id("<s>"))]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=built,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
    )
    wrapped.chat_template = chat_template
    return wrapped


@pytest.fixture
def tiny_tokenizer() -> Any:
    """Return a tokenizer with a ChatML template."""
    return build_tokenizer(CHATML)


@pytest.fixture
def tiny_plain_tokenizer() -> Any:
    """Return a tokenizer without a chat template, which adds a BOS to each text."""
    return build_tokenizer(None)


@pytest.fixture
def tiny_model() -> Any:
    """Return a random two-layer Llama in fp32 for the tiny tokenizers' vocabulary, with packed attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from prefzoo.engine import packed_attention

    config = LlamaConfig(
        vocab_size=340,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,  # large enough that a wrong position changes the logits
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    packed_attention.install(model)
    return model


@pytest.fixture
def run_folder(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any) -> Path:
    """Write all files of a small `prefzoo run r.yaml`: a stateful loss, a moving reference, an adapter with dropout."""
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "train.jsonl").write_text(pairs_text(range(8)))
    (tmp_path / "test.jsonl").write_text(pairs_text(range(8), "Tell"))
    (tmp_path / "r.yaml").write_text(RUN)
    return tmp_path


@pytest.fixture
def in_run_folder(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `run_folder` the current folder."""
    monkeypatch.chdir(run_folder)
    return run_folder


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Return a function that writes a recipe and returns its path."""

    def _write(text: str | bytes) -> Path:
        path = tmp_path / "r.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write
