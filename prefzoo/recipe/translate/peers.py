"""Which library's configuration is read how."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from prefzoo.errors import UserError
from prefzoo.recipe.translate import axolotl, llamafactory, trl
from prefzoo.recipe.translate.translation import Place, Translation


@dataclass(frozen=True)
class Reader:
    """How a library's configurations are read.

    Attributes:
        version: the library, and what of it was read.
        methods: what a configuration may be for.
        read: fills in a translation.
    """

    version: str
    methods: tuple[str, ...]
    read: Callable[[Translation, str], None]


PEERS = {
    "trl": Reader(trl.VERSION, trl.METHODS, trl.read),
    "llamafactory": Reader(llamafactory.VERSION, llamafactory.STAGES, llamafactory.read),
    "axolotl": Reader(axolotl.VERSION, axolotl.KINDS, axolotl.read),
}


def translate(peer: str, path: Path, place: Place, method: str = "") -> Translation:
    """Translate a configuration.

    Args:
        peer: a name in `PEERS`.
        path: the configuration, YAML or JSON.
        place: where its relative paths start, and where the recipe is to be.
        method: which of the library's trainings it is for, where it does not say so itself.

    Returns:
        The translation, whose `text` is the recipe.

    Raises:
        UserError: the file cannot be read, or trains no preference loss.
    """
    reader = PEERS[peer]
    if method and method not in reader.methods:
        raise UserError(f"--method: {method} is not translated from {peer}; there are {', '.join(reader.methods)}")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"{path}: cannot be read ({' '.join(str(e).split())}); give a YAML or JSON file") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of keys; give the configuration of a training")
    translation = Translation(reader.version, place, {str(key): value for key, value in values.items()})
    try:
        reader.read(translation, method)
    except UserError as e:
        raise UserError([f"{path}: {line}" for line in e.lines]) from e
    except (TypeError, ValueError, AttributeError, KeyError) as e:
        raise UserError(f"{path}: a key has a value of another kind than {peer} reads ({e}); correct it there") from e
    return translation
