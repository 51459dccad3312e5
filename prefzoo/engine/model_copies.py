"""Create copies of models once, and cache them.

These are GGUF files converted to safetensors, models with an adapter merged in, and models with new embedding rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from prefzoo.engine import gguf_files
from prefzoo.runtime import atomic_files
from prefzoo.runtime.paths import cache_dir

HASH_FILE = "prefzoo.sha256"
MERGED_FROM = "prefzoo.merged_from"  # file with the merged adapter's path; in the copy and in adapters trained on it
ADDED_ROWS = "prefzoo.added_rows"  # file with the number of new embedding rows


def from_gguf(path: Path) -> Path:
    """Return the cached safetensors copy of a GGUF file, keyed by the file's content; create it if it is absent."""
    key = atomic_files.sha256_of_file(path)[:16]
    return _copy(
        f"{path.stem}-{key}", partial(gguf_files.convert, path), f"converting {path.name} to safetensors, once"
    )


def tokenizer_from_gguf(path: Path) -> Path:
    """Return a cached copy of only the tokenizer of a GGUF file, keyed by the file's path, size and date.

    The content is not hashed, because that takes minutes for a large model.
    """
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    return _copy(
        f"{path.stem}-tokenizer-{key}", partial(gguf_files.convert_tokenizer, path),
        f"reading the tokenizer of {path.name}, once",
    )  # fmt: skip


def has_tokenizer(folder: Path) -> bool:
    """Return whether an adapter's folder has a tokenizer of its own."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def merged(source: str, *, trust: bool) -> str:
    """Return a cached copy of a model with its adapter merged in; if the source is not an adapter, return the source.

    The reference of a policy that starts from the copy includes the adapter, and peft can load adapters trained on it.

    Args:
        source: A folder or a hub id.
        trust: Whether to run Python code that comes with the model.

    Raises:
        ValueError: The adapter is of a kind that cannot be merged.
        OSError: The adapter or its model cannot be read.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    config = find_adapter_config_file(source)
    return source if config is None else str(_merged(with_base(source, trust=trust), Path(config).parent, trust))


def with_base(source: str, *, trust: bool) -> str:
    """Recreate the merged copy that an adapter was trained on, if the cache no longer has it.

    Args:
        source: A folder or a hub id; nothing is done unless it is an adapter that was trained on a merged copy.
        trust: Whether to run Python code that comes with the model.

    Returns:
        The source.

    Raises:
        OSError: The copy is missing, and the adapter that was merged into it is missing too or has changed.
    """
    record = Path(source) / MERGED_FROM
    if not record.is_file():
        return source
    base = Path(
        json.loads((Path(source) / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    )
    if not base.is_dir():
        adapter = (Path(source) / record.read_text(encoding="utf-8")).resolve()
        if not adapter.is_dir():
            raise OSError(f"its model {base} is missing, and so is {adapter}, the adapter that was merged into it")
        again = Path(merged(str(adapter), trust=trust))
        if again != base:
            raise OSError(f"its model {base} is missing; merging {adapter} again gave a different model, {again}")
    return source


def record_merged(model: Any, folder: Path, unfinished: Path) -> None:
    """Record which adapter was merged into a new adapter's base, so that this merged copy can be created again.

    Args:
        model: The new adapter; nothing is written for full weights, or if the base is not a merged copy.
        folder: Folder in which the adapter is saved in the end.
        unfinished: Folder in which it is saved now.
    """
    config = getattr(model, "active_peft_config", None)
    record = Path(str(getattr(config, "base_model_name_or_path", ""))) / MERGED_FROM
    if record.is_file():
        adapter, run = Path(record.read_text(encoding="utf-8")), folder.resolve().parents[1]
        same_run = adapter.is_relative_to(run)  # a run's folder may be moved
        text = os.path.relpath(adapter, folder.resolve()) if same_run else str(adapter)
        (unfinished / MERGED_FROM).write_text(text, encoding="utf-8")


def _merged(source: str, folder: Path, trust: bool) -> Path:
    from peft import AutoPeftModelForCausalLM, PeftConfig
    from transformers import AutoTokenizer

    base = str(PeftConfig.from_pretrained(source).base_model_name_or_path)

    def merge(target: Path) -> None:
        try:
            adapted = AutoPeftModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust
            )
        except RuntimeError as e:  # the shapes of its weights are not the model's
            raise ValueError(f"the adapter does not fit {base}: {str(e).splitlines()[0]}") from e
        if not hasattr(adapted.base_model, "merge_and_unload"):
            raise ValueError(f"an adapter of the kind {adapted.active_peft_config.peft_type} has no weights to merge")
        own = source if has_tokenizer(folder) else base
        tokenizer = AutoTokenizer.from_pretrained(own, trust_remote_code=trust)
        adapted.merge_and_unload(safe_merge=True).save_pretrained(target)
        tokenizer.save_pretrained(target)
        if Path(source).is_dir():
            (target / MERGED_FROM).write_text(str(Path(source).resolve()), encoding="utf-8")

    content = _content(source, "adapter_config.json"), _content(base, "config.json")
    key = hashlib.sha256(" ".join(content).encode()).hexdigest()[:16]
    return _copy(f"{folder.name}-merged-{key}", merge, f"merging the adapter {source} into {base}, once")


def with_rows(source: str, tokenizer: Any, *, trust: bool) -> str:
    """Return a cached copy of a model whose embedding has a row for each token; return the source if it has all rows.

    New rows of the embedding and of the output layer are the mean of the old ones. transformers would add noise, so
    that copies from two machines would differ.

    Args:
        source: A folder or a hub id; an adapter is returned as it is.
        tokenizer: The model's tokenizer, which is saved with the copy.
        trust: Whether to run Python code that comes with the model.

    Returns:
        The copy's folder, or the source.

    Raises:
        ValueError: The embedding cannot be resized.
        OSError: The model cannot be read.
    """
    from transformers import AutoConfig
    from transformers.utils.peft_utils import find_adapter_config_file

    if find_adapter_config_file(source) is not None:
        return source
    config = AutoConfig.from_pretrained(source, trust_remote_code=trust).get_text_config()
    old, needed = getattr(config, "vocab_size", None), 1 + max(tokenizer.get_vocab().values())
    if old is None or needed <= old:
        return source
    key = hashlib.sha256(f"{_content(source, 'config.json')} {needed}".encode()).hexdigest()[:16]
    note = f"adding {needed - old} rows to the embedding of {source}, once"
    return str(_copy(f"{Path(source).name}-rows-{key}", partial(_add_rows, source, tokenizer, needed, trust), note))


def _add_rows(source: str, tokenizer: Any, needed: int, trust: bool, target: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True, trust_remote_code=trust)
    old = len(model.get_input_embeddings().weight)
    model.resize_token_embeddings(needed, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        for value in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if value is not None:
                value.data[old:] = value.data[:old].double().mean(0).to(value.dtype)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / ADDED_ROWS).write_text(str(needed - old), encoding="utf-8")


def added_rows(source: str) -> int:
    """Return how many rows `with_rows` added to a model's embedding; 0 for any other model."""
    file = Path(source) / ADDED_ROWS
    return int(file.read_text(encoding="utf-8")) if file.is_file() else 0


def _content(source: str, file: str) -> str:
    """Return a text that identifies the content of a folder, or of a hub id by the cached path of one of its files."""
    from transformers.utils import cached_file

    if Path(source).is_dir():
        return content_hash(Path(source))
    return str(cached_file(source, file))  # the path names the version's commit


def _copy(name: str, write: Callable[[Path], None], note: str) -> Path:
    """Return the folder of a cached copy of a model and its tokenizer; write it if it is absent or damaged."""
    target = cache_dir("models") / name
    if target.is_dir():
        if matches_content_hash(target):
            return target
        print(f"{target}: damaged (its checksum is wrong); created again", flush=True)
        shutil.rmtree(target)
    unfinished = atomic_files.partial_path(target)
    print(f"prefzoo: {note}", file=sys.stderr, flush=True)
    write(unfinished)
    write_content_hash(unfinished)
    if target.is_dir():  # another process was faster
        shutil.rmtree(unfinished)
    else:
        atomic_files.move_into_place(unfinished, target)
    return target


def write_content_hash(folder: Path) -> None:
    """Write the hash of a model's files beside them."""
    (folder / HASH_FILE).write_text(content_hash(folder), encoding="utf-8")


def matches_content_hash(folder: Path) -> bool:
    """Return whether a model's files still have the hash that was written beside them."""
    hash_file = folder / HASH_FILE
    return hash_file.is_file() and hash_file.read_text(encoding="utf-8") == content_hash(folder)


def content_hash(folder: Path) -> str:
    """Return a hash of a saved model's files: folders with the same hash hold the same model."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json")):
        stat = path.stat()
        digest.update(path.name.encode() + _digest(path, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:16]


@lru_cache
def _digest(path: Path, size: int, changed: int) -> bytes:
    """Return a file's hash; it is computed again only if the file's size or date has changed."""
    return bytes.fromhex(atomic_files.sha256_of_file(path))
