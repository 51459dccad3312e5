"""Measure checkpoints in turn with one model in memory: only the weights of the next one are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

SETTINGS = ("config.json", "generation_config.json")
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX, INSERTED = "base_model.model.", ".default"  # of an adapter's weight: in peft's file alone, in the model alone


class CheckpointReader:
    """Load the first checkpoint, and read the weights of later ones into the same model if they fit it.

    Loading a model takes seconds: its modules are created and its attention is tried. A reader holds one model, so the
    model that it returned has other weights after the next call. An adapter is read into the last model unless that was
    cast to another precision, which rounds the frozen weights.
    """

    def __init__(self, load: Callable[[Path], Any]) -> None:
        """Load nothing yet.

        Args:
            load: returns the model in a folder, on its device, in fp32.
        """
        self._load = load
        self._model: Any = None
        self._settings: list[bytes] = []
        self._buffers: dict[str, Tensor] = {}

    def read(self, folder: Path) -> Any:
        """Return the model in a folder, in fp32.

        Args:
            folder: a checkpoint, as transformers or peft saved it.
        """
        settings = [path.read_bytes() if (path := folder / name).is_file() else b"" for name in (*SETTINGS, ADAPTER)]
        fill = self._fill_adapter if (folder / ADAPTER).is_file() else self._fill
        if self._model is None or settings != self._settings or not fill(folder):
            self._model = None  # frees memory for the next one
            self._model = self._load(folder)
            self._settings = settings
            self._buffers = {name: value.clone() for name, value in self._model.named_buffers()}
        return self._model

    @torch.no_grad()
    def _fill_adapter(self, folder: Path) -> bool:
        """Copy an adapter's weights into the model, unless it was rounded, or they are not exactly the model's own."""
        path, state = folder / ADAPTER_WEIGHTS, self._model.state_dict()
        own = {PREFIX + name.replace(INSERTED, ""): value for name, value in state.items() if INSERTED in name}
        rounded = any(value.is_floating_point() and value.dtype != torch.float32 for value in state.values())
        if rounded or not path.is_file() or own.keys() != set(_names(path)):
            return False
        with safe_open(path, "pt", device=str(self._model.device)) as file:
            values = {name: file.get_tensor(name) for name in own}
        if any(value.shape != own[name].shape for name, value in values.items()):
            return False
        for name, value in values.items():
            own[name].copy_(value)
        return True

    @torch.no_grad()
    def _fill(self, folder: Path) -> bool:
        """Copy the weights in a folder into the model, unless their names and shapes are not exactly the model's."""
        files = {name: path for path in sorted(folder.glob("*.safetensors")) for name in _names(path)}
        own = self._model.state_dict(keep_vars=True)
        filled = {id(own[name]) for name in files if name in own}  # of tied weights one is saved
        if not files.keys() <= own.keys() or any(id(value) not in filled for value in own.values()):
            return False
        own = self._model.float().state_dict()
        for name, value in self._model.named_buffers():  # some are in no file, and were rounded with the weights
            value.copy_(self._buffers[name])
        for path in sorted(set(files.values())):
            with safe_open(path, "pt", device=str(self._model.device)) as file:
                for name in _names(path):
                    value = file.get_tensor(name)
                    if value.shape != own[name].shape:
                        return False
                    own[name].copy_(value)
        return True


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())
