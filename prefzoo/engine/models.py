"""Load and save models: from the hub, a local folder, a GGUF file or a package; full weights or a LoRA adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env

from prefzoo.engine import fast_paths, model_copies
from prefzoo.engine.model_sources import find_model, is_gguf, quiet, unloadable
from prefzoo.errors import UserError
from prefzoo.runtime import atomic_files
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.sharding import gather_state_dict

ROOM = 6  # required free memory over the files' size: bf16 files are read as fp32, with buffers


@quiet()
def load(
    spec: str,
    folder: Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    quantize: str | None = None,
    trust: bool = False,
    merge: bool = False,
    rows: bool = False,
    on_device: bool = False,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        spec: `package://module/file.gguf`, a `.gguf` path, a folder with safetensors, or a hub id.
        folder: Folder that relative paths start from.
        dtype: Dtype of the weights; None for the stored dtype.
        quantize: `4bit` to load the weights in NF4 on this process's GPU; None for no quantisation.
        trust: Whether to run Python code that comes with the model; if so, a message says so.
        merge: Whether to merge an adapter into its model, so that a new adapter can be trained on the result.
        rows: Whether to add an embedding row for each token that lacks one; implied by `merge`.
        on_device: Whether to read the weights straight into this process's GPU, if they fit and the launch does not
            shard models.

    Returns:
        The model in evaluation mode, on the CPU unless it is quantised or read straight into a GPU's memory, and the
        tokenizer.

    Raises:
        UserError: The model is absent, cannot be reached or read, has its weights as pickles only, or needs code that
            is not trusted.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = resolve_model(spec, folder)
    if trust and process_state().is_main_process:
        print(f"model {spec}: Python code that comes with it is run (the recipe's trust_remote_code: true)", flush=True)
    try:
        source = (model_copies.merged if merge else model_copies.with_base)(source, trust=trust)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust)
        source = model_copies.with_rows(source, tokenizer, trust=trust) if merge or rows else source
        model = fast_paths.with_attention(partial(
            AutoModelForCausalLM.from_pretrained,
            source, dtype=dtype or "auto", use_safetensors=True, trust_remote_code=trust,
            **(_quantisation(quantize) or _placement(source, on_device)),
        ))  # fmt: skip
    except (OSError, ValueError, KeyError) as e:
        raise unloadable(spec, e) from e
    for line in fast_paths.install(model):
        if process_state().is_main_process:
            print(f"model {spec}: {line}", flush=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def check_quantize(field: str) -> None:
    """Check that this machine can quantise weights to four bits.

    Raises:
        UserError: It cannot; the message begins with `field`, the setting's path in the recipe.
    """
    missing = [] if find_spec("bitsandbytes") else ["bitsandbytes (pip install 'prefzoo[bitsandbytes]')"]
    if missing or not torch.cuda.is_available():
        needs = " and ".join([*missing, *([] if torch.cuda.is_available() else ["an NVIDIA GPU"])])
        raise UserError(f"{field}.lora.quantize: 4bit needs {needs}, not found here; leave it out for plain LoRA")


def _placement(source: str, on_device: bool) -> dict[str, Any]:
    """Return arguments of `from_pretrained` that read weights straight into a GPU's memory."""
    device = process_state().device
    shards = any(parse_flag_from_env(f"ACCELERATE_USE_{kind}") for kind in ("FSDP", "DEEPSPEED"))
    if not on_device or device.type != "cuda" or shards:
        return {}
    from transformers.utils import cached_file

    folder = Path(source) if Path(source).is_dir() else Path(str(cached_file(source, "config.json"))).parent
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))  # 0 before a model's first download
    free, _ = torch.cuda.mem_get_info(device)
    return {"device_map": {"": device}} if size and free > ROOM * size else {}


def _quantisation(quantize: str | None) -> dict[str, Any]:
    """Return arguments of `from_pretrained` for NF4 with doubly quantised scales, as in QLoRA."""
    if quantize is None:
        return {}
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def resolve_model(spec: str, folder: Path) -> str:
    """Return the argument for `from_pretrained`: a folder of safetensors, or a hub id.

    A GGUF file is converted to safetensors once and cached.

    Raises:
        UserError: The file or folder is absent, or it holds no model or only pickles.
    """
    source = find_model(spec, folder)
    return str(model_copies.from_gguf(Path(source))) if is_gguf(source) else source


def base_of(adapter: str) -> str:
    """Return the base model of an adapter in a folder, as the adapter's configuration names it."""
    config = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    return str(config["base_model_name_or_path"])


def fingerprint(model: Any) -> str:
    """Return a hash of a model's weights and configuration, but not of its path: the key of cached log-probs.

    The hash does not depend on the precision in which the weights were read, unless they were rounded.
    """
    low = model.dtype in (torch.bfloat16, torch.float16)
    config = {k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"}
    config = _as_in_fp32(config) if low else config
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        value = tensor.detach().cpu()
        value = value.float() if low and value.is_floating_point() else value
        digest.update(value.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _as_in_fp32(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with each `dtype` set to float32, in nested parts too."""
    return {
        key: _as_in_fp32(value) if isinstance(value, dict) else "float32" if key == "dtype" else value
        for key, value in config.items()
    }


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a hash of a tokenizer, its chat template and its special tokens, on which generated answers depend."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    content = [text, tokenizer.chat_template, tokenizer.special_tokens_map]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@quiet()
def save(model: Any, tokenizer: Any, folder: Path, *, main: bool = True) -> None:
    """Save a model and its tokenizer so that plain transformers (for a LoRA adapter: peft) can load them.

    The folder is replaced completely or not at all. All processes must call this; the main process writes.

    Args:
        model: The model or adapter.
        tokenizer: Its tokenizer.
        folder: Folder to save them in.
        main: Whether this is the main process.
    """
    state = gather_state_dict(model, main=main)
    if not main:
        return
    atomic_files.remove_partial_files(folder.parent)
    with atomic_files.write_atomically(folder) as partial:
        model.save_pretrained(partial, state_dict=state)
        model_copies.record_merged(model, folder, partial)
        tokenizer.save_pretrained(partial)


def add_lora(model: Any, *, rank: int, alpha: float, dropout: float, targets: str | Sequence[str], seed: int) -> Any:
    """Add a new LoRA adapter to a model and freeze everything else.

    With the adapter disabled, the same model serves as the reference.

    Args:
        model: The base model; it is changed in place.
        rank: Rank of the adapter.
        alpha: Scaling; the adapter's output is multiplied by alpha / rank.
        dropout: Dropout rate of the adapter's inputs in training.
        targets: `all-linear`, or the names of the modules to adapt.
        seed: Seed of the adapter's initial weights.

    Returns:
        The peft model.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    every = targets == "all-linear"
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, task_type="CAUSAL_LM",
        # names, because peft 0.19 splits "all-linear" into letters for mixtures of experts
        target_modules=fast_paths.linear_layers(model) if every else list(targets),
        exclude_modules=fast_paths.not_adaptable(model) if every else None,
    )  # fmt: skip
    return get_peft_model(model, config)
