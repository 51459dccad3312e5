"""Convert GGUF files to safetensors in seconds: transformers reads a file three times, a string at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from prefzoo.errors import UserError


def convert(path: Path, folder: Path) -> None:
    """Write a GGUF file's model, in fp32, and its tokenizer as `from_pretrained` reads them.

    Args:
        path: The GGUF file.
        folder: Folder to write to.

    Raises:
        UserError: It is no GGUF file, or a broken one.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.initialization import no_init_weights

    with _read_once(path):
        packed = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # A model read from GGUF is marked as quantised and cannot be saved: rebuild it from config and state dict.
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with no_init_weights():
        plain = AutoModelForCausalLM.from_config(config)
    plain.tie_weights()
    plain.load_state_dict(packed.state_dict())
    plain.generation_config = packed.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def convert_tokenizer(path: Path, folder: Path) -> None:
    """Write a GGUF file's tokenizer alone.

    Args:
        path: The GGUF file.
        folder: Folder to write to.

    Raises:
        UserError: It is no GGUF file, or a broken one.
    """
    from transformers import AutoTokenizer

    with _read_once(path):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.save_pretrained(folder)


@contextmanager
def _read_once(path: Path) -> Iterator[None]:
    """Parse a file once, and work out the names of a model's tensors once instead of for each of its modules.

    transformers takes both from the module `gguf` when it needs them; the module is as before afterwards.

    Raises:
        UserError: The file cannot be parsed.
    """
    import gguf

    replaced: dict[str, Callable[..., Any]] = {
        "GGUFReader": lru_cache(None)(_reader_class(gguf.GGUFReader)),
        "get_tensor_name_map": lru_cache(None)(gguf.get_tensor_name_map),
    }
    before = {name: getattr(gguf, name) for name in replaced}
    try:
        for name, function in replaced.items():
            setattr(gguf, name, function)
        yield
    except (struct.error, ValueError, LookupError, OSError, TypeError) as e:  # what the reader meets in other bytes
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(
            f"model {path}: cannot be read as a GGUF file ({reason}); if it was downloaded, download it again"
        ) from e
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)


def _reader_class(base: type[Any]) -> type[Any]:
    """Return the reader with its file as a plain array: slices of a memmap take several times as long."""

    class Reader(base):  # type: ignore[misc]
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            import numpy as np

            self._data = np.asarray(mapped)

    return Reader
