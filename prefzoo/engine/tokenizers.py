"""Load a model's tokenizer without its weights, for commands that only read data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefzoo.engine import model_copies
from prefzoo.engine.model_sources import UNREADABLE, find_model, is_gguf, quiet, unloadable
from prefzoo.runtime.distributed import process_state


@quiet()
def load_tokenizer(spec: str, folder: Path, *, trust: bool = False) -> Any:
    """Load the tokenizer of a model with its chat template, the same that `models.load` returns with `merge`.

    No weights are converted, merged or downloaded.

    Args:
        spec: The model: `package://module/file.gguf`, a `.gguf` path, a folder, or a hub id; an adapter too.
        folder: Folder that relative paths start from.
        trust: Whether to run Python code that comes with the tokenizer; if so, a message says so.

    Returns:
        A transformers tokenizer.

    Raises:
        UserError: The model is absent, or its tokenizer cannot be read, or needs code that is not trusted.
    """
    from transformers import AutoTokenizer

    source = find_model(spec, folder)
    if trust and process_state().is_main_process:
        print(f"model {spec}: Python code that comes with it is run (the recipe's trust_remote_code: true)", flush=True)
    try:
        source = str(model_copies.tokenizer_from_gguf(Path(source))) if is_gguf(source) else _with_tokenizer(source)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust)
    except UNREADABLE as e:
        raise unloadable(spec, e) from e
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _with_tokenizer(source: str) -> str:
    """Return the source; for an adapter without its own tokenizer, return its base model."""
    from transformers.utils.peft_utils import find_adapter_config_file

    config = find_adapter_config_file(source)
    if config is None or model_copies.has_tokenizer(Path(config).parent):
        return source
    base = str(json.loads(Path(config).read_text(encoding="utf-8"))["base_model_name_or_path"])
    return _with_tokenizer(base)
