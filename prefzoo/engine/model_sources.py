"""Find models in packages, GGUF files, folders or on the hub, and report why one cannot be loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.runtime.paths import PACKAGE_SCHEME, resolve_package
from prefzoo.runtime.run_folders import REMOVED

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
UNREADABLE = (OSError, ValueError, KeyError)  # what `from_pretrained` raises if it cannot load a model


def find_model(spec: str, folder: Path) -> str:
    """Return the location of a model: a folder of safetensors, the path of a GGUF file, or a hub id.

    Args:
        spec: The model, as the user wrote it.
        folder: Folder that relative paths start from.

    Raises:
        UserError: The file or folder is absent, or it holds no model or only pickles.
    """
    path = resolve_package(spec) if spec.startswith(PACKAGE_SCHEME) else folder / Path(spec).expanduser()
    if is_gguf(str(path)):
        if not path.is_file():
            raise UserError(f"model {spec}: no such file: {path}; paths in a recipe are relative to the recipe")
        return str(path)
    if path.is_dir():
        if (path / REMOVED).is_file():
            raise UserError(f"model {spec}: {(path / REMOVED).read_text(encoding='utf-8').strip()}")
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


def is_gguf(source: str) -> bool:
    """Return whether a model is a GGUF file."""
    return Path(source).suffix == ".gguf"


def refuse_pickles(name: str, folder: Path) -> None:
    """Check that a folder does not hold weights as pickles only, because reading a pickle can run code.

    Raises:
        UserError: The folder has pickles and no safetensors; the message begins with `name`.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickle = next((path for suffix in PICKLES for path in sorted(folder.glob(f"*{suffix}"))), None)
    if pickle is not None:
        package, kind = ("peft", "AutoPeftModelForCausalLM") if (folder / "adapter_config.json").is_file() else (
            "transformers", "AutoModelForCausalLM"
        )  # fmt: skip
        code = f"from {package} import {kind} as M; M.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        raise UserError(
            f"{name}: {pickle.name} is a pickle, which can run code when it is read, and is not loaded; if you "
            f'trust its source, convert it to safetensors: python -c "{code}"'
        )


def trust_error(name: str, reason: str) -> str:
    """Return the message for a model that was refused because of its own code or pickles, else an empty string."""
    if "trust_remote_code" in reason or "custom code" in reason:
        return (
            f"{name}: comes with its own Python code, which is not run; if you have read that code and trust "
            "it, set trust_remote_code: true in the recipe"
        )
    if "safetensors" in reason:
        return (
            f"{name}: has no weights in safetensors, and pickles are not loaded ({reason}); "
            "if you trust its source, convert it (from_pretrained, then save_pretrained)"
        )
    return ""


def unloadable(spec: str, error: Exception) -> UserError:
    """Return the error for a model that `from_pretrained` refused.

    Args:
        spec: The model, as the user wrote it.
        error: One of `UNREADABLE`.
    """
    reason = (str(error).splitlines() or [""])[0]
    untrusted = trust_error(f"model {spec}", reason)
    cure = "name a local folder or a .gguf file, or check the id, the network and HF_HUB_OFFLINE"
    return UserError(untrusted or f"model {spec}: cannot be loaded ({type(error).__name__}: {reason}); {cure}")


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars, because stages show their own, and let the hub log errors but not retries."""
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
