"""Convert GGUF files to safetensors in seconds; transformers alone would parse a file three times, and slowly."""

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
    """Convert a GGUF file to a model in fp32 and a tokenizer that `from_pretrained` can load.

    Args:
        path: The GGUF file.
        folder: Folder to write to.

    Raises:
        UserError: The file is not a GGUF file, or it is damaged.
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
    """Convert only the tokenizer of a GGUF file.

    Args:
        path: The GGUF file.
        folder: Folder to write to.

    Raises:
        UserError: The file is not a GGUF file, or it is damaged.
    """
    from transformers import AutoTokenizer

    with _read_once(path):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.save_pretrained(folder)


@contextmanager
def _read_once(path: Path) -> Iterator[None]:
    """Parse the file once, and map the names of a model's tensors once instead of once per module.

    transformers looks up both functions in the module `gguf`; they are replaced there within this context.

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
    except (struct.error, ValueError, LookupError, OSError, TypeError) as e:  # raised for bytes that are not GGUF
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(
            f"model {path}: cannot be read as a GGUF file ({reason}); if it was downloaded, download it again"
        ) from e
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)


def _reader_class(base: type[Any]) -> type[Any]:
    """Return a reader class that holds the file as a plain array: slicing a memmap is several times slower."""

    class Reader(base):  # type: ignore[misc]
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            import numpy as np

            self._data = np.asarray(mapped)

    return Reader
