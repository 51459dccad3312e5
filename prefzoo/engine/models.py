"""Policies and references: hub, local folder, GGUF file or one that a package carries; full weights or LoRA."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from prefzoo.engine import cpu_ops, packed_attention
from prefzoo.errors import UserError
from prefzoo.runtime import atomic_files
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.paths import PACKAGE_SCHEME, cache_dir, resolve_package
from prefzoo.runtime.sharding import gather_state_dict

HASH_FILE = "prefzoo.sha256"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers show no progress, which stages do themselves, and the hub only log errors: not its retries."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as hf_logging

    shown, verbosity = hf_logging.is_progress_bar_enabled(), hub_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        if shown:
            hf_logging.enable_progress_bar()


@_quiet()
def load(
    spec: str, folder: Path, *, dtype: torch.dtype = torch.float32, quantize: str | None = None, trust: bool = False
) -> tuple[Any, Any]:
    """A causal language model and its tokenizer, on the CPU (quantised: on this process's GPU), in evaluation mode.

    Args:
        spec: `package://module/file.gguf`, a `.gguf` path, a folder with safetensors, or a hub id;
            paths are relative to `folder`.
        trust: whether Python code that comes with the model is run; it is said where it is.

    Raises:
        UserError: it is not there, or cannot be reached or read; it is a pickle, or needs code that is not trusted; one
            line that says which, and the cure.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = resolve_model(spec, folder)
    if trust and process_state().is_main_process:
        print(f"model {spec}: Python code that comes with it is run (the recipe's trust_remote_code: true)", flush=True)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=trust,
            **_quantised(quantize),
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as e:
        reason = str(e).splitlines()[0]
        refused = trust_error(f"model {spec}", reason)
        if refused:
            raise UserError(refused) from e
        cure = "name a local folder or a .gguf file, or check the id, the network and HF_HUB_OFFLINE"
        raise UserError(f"model {spec}: cannot be loaded ({type(e).__name__}: {reason}); {cure}") from e
    packed_attention.install(model)
    if not torch.cuda.is_available():  # where other kernels are measured to be faster
        cpu_ops.install(model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def refuse_pickles(place: str, folder: Path) -> None:
    """Raises UserError where a folder has its weights as pickles alone, which can run code when they are read."""
    if any(folder.glob("*.safetensors")):
        return
    found = next((path for suffix in PICKLES for path in sorted(folder.glob(f"*{suffix}"))), None)
    if found is not None:
        package, kind = ("peft", "AutoPeftModelForCausalLM") if (folder / "adapter_config.json").is_file() else (
            "transformers", "AutoModelForCausalLM"
        )  # fmt: skip
        code = f"from {package} import {kind} as M; M.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        raise UserError(
            f"{place}: {found.name} is a pickle, which can run code when it is read, and is not loaded; where you "
            f'trust its source, convert it to safetensors: python -c "{code}"'
        )


def trust_error(place: str, reason: str) -> str:
    """What to say where a model cannot be loaded since that would run its code, or unpickle it; else nothing."""
    if "trust_remote_code" in reason or "custom code" in reason:
        return (
            f"{place}: comes with Python code of its own, which is not run; where you have read that code and trust "
            "it, set trust_remote_code: true in the recipe"
        )
    if "safetensors" in reason:
        return (
            f"{place}: has no weights in safetensors, and pickles are not loaded ({reason}); "
            "convert it (from_pretrained, then save_pretrained) where you trust its source"
        )
    return ""


def check_quantize(place: str) -> None:
    """Raises UserError, naming `place`, where this machine cannot hold weights in four bits."""
    missing = [] if find_spec("bitsandbytes") else ["bitsandbytes (pip install bitsandbytes)"]
    if missing or not torch.cuda.is_available():
        needs = " and ".join([*missing, *([] if torch.cuda.is_available() else ["an NVIDIA GPU"])])
        raise UserError(f"{place}.lora.quantize: 4bit needs {needs}, not found here; leave it out for plain LoRA")


def _quantised(how: str | None) -> dict[str, Any]:
    """What `from_pretrained` is told: NF4 with doubly quantised scales, as in QLoRA."""
    if how is None:
        return {}
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def resolve_model(spec: str, folder: Path) -> str:
    """What `from_pretrained` takes: a folder of safetensors (GGUF is converted once, and kept), or a hub id."""
    path = resolve_package(spec) if spec.startswith(PACKAGE_SCHEME) else folder / Path(spec).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"model {spec}: no such file: {path}; paths in a recipe are relative to the recipe")
        return str(_from_gguf(path))
    if path.is_dir():
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise UserError(
                f"model {spec}: {path} holds no config.json or adapter_config.json; "
                "name a folder that transformers or peft saved"
            )
        refuse_pickles(f"model {spec}", path)
        return str(path)
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise UserError(f"model {spec}: no such folder: {path}; paths in a recipe are relative to the recipe")
    return spec


def _from_gguf(path: Path) -> Path:
    """A plain safetensors copy under the user's cache, keyed by the file's content."""
    with path.open("rb") as f:
        key = hashlib.file_digest(f, "sha256").hexdigest()[:16]
    target = cache_dir("models") / f"{path.stem}-{key}"
    if target.is_dir():
        if matches_content_hash(target):
            return target
        print(f"{target}: broken (its content is not what was written); converted again", flush=True)
        shutil.rmtree(target)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = atomic_files.partial_path(target)
    print(f"prefzoo: converting {path.name} to safetensors, once", file=sys.stderr, flush=True)
    packed = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # A model read from GGUF calls itself quantised and refuses to be saved: rebuild it from config and state dict.
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(packed.state_dict())
    plain.generation_config = packed.generation_config
    plain.save_pretrained(partial)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(partial)
    write_content_hash(partial)
    if target.is_dir():  # another process was faster
        shutil.rmtree(partial)
    else:
        atomic_files.move_into_place(partial, target)
    return target


def write_content_hash(folder: Path) -> None:
    """Keep the hash of a model's files beside them."""
    (folder / HASH_FILE).write_text(content_hash(folder), encoding="utf-8")


def matches_content_hash(folder: Path) -> bool:
    """Whether a model's files are still what was sealed."""
    seal_file = folder / HASH_FILE
    return seal_file.is_file() and seal_file.read_text(encoding="utf-8") == content_hash(folder)


def fingerprint(model: Any) -> str:
    """Hash of a model's weights and configuration, less where it lay: what a cached reference log-prob depends on."""
    config = {k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def content_hash(folder: Path) -> str:
    """Hash of a saved model's files: two folders of the same content hold the same model."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json")):
        stat = path.stat()
        digest.update(path.name.encode() + _digest(path, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:16]


@lru_cache
def _digest(path: Path, size: int, changed: int) -> bytes:
    """A file's hash, taken once as long as its size and date stay."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").digest()


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of a tokenizer as it was loaded, its chat template included: what generated answers depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    known = [text, tokenizer.chat_template, tokenizer.special_tokens_map]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]


@_quiet()
def save(model: Any, tokenizer: Any, folder: Path, *, main: bool = True) -> None:
    """Safetensors that plain transformers (a LoRA adapter: peft) loads; the folder is replaced whole or not at all.

    All processes call this, and the main one writes.
    """
    state = gather_state_dict(model)
    if not main:
        return
    atomic_files.remove_partial_files(folder.parent)
    with atomic_files.write_atomically(folder) as partial:
        model.save_pretrained(partial, state_dict=state)
        tokenizer.save_pretrained(partial)


def add_lora(model: Any, *, rank: int, alpha: float, dropout: float, targets: str | Sequence[str], seed: int) -> Any:
    """The model with a fresh LoRA adapter; all else is frozen. The reference is the same model, adapter off."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    chosen = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen, task_type="CAUSAL_LM")
    return get_peft_model(model, config)
