"""A translation in the making: the keys that are left of a peer's configuration, and the recipe so far."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prefzoo.errors import UserError

SECRET = re.compile(r"(key|token|secret|password|webhook|webhook_url|credential)s?$", re.IGNORECASE)
OFF: tuple[Any, ...] = (None, "", False, "none", "no", "false", [], {})  # values by which a key asks for nothing
ORDER = ("name", "seed", "model", "reference", "trust_remote_code", "data", "train", "variants", "evals")


@dataclass(frozen=True)
class Place:
    """Where a configuration is read and a recipe written.

    Attributes:
        origin: the folder in which the peer is started, where relative paths of its configuration begin.
        target: the recipe's folder.
        processes: how many devices train.
        can_quantize: whether this machine can train on four-bit weights, and with eight-bit moments.
    """

    origin: Path
    target: Path
    processes: int = 1
    can_quantize: bool = False

    def path(self, text: str) -> str:
        """Return a path of the configuration as the recipe writes it; of what is no file or folder, the text itself."""
        path = self.origin / Path(text).expanduser()
        return os.path.relpath(path.resolve(), self.target.resolve()) if path.exists() else text


@dataclass
class Translation:
    """A peer's configuration on its way into a recipe.

    Attributes:
        peer: the library, with the version that was read.
        place: of files.
        left: the keys that are not translated yet.
        recipe: what is written so far, as nested mappings.
        comments: dotted field of the recipe -> the remark beside it.
        mapped: key -> the field that it became, with the same meaning.
        differs: key -> what changes.
        left_out: key -> why.
        loss_key: the peer's key that names the loss.
        aliases: key -> the peer's own name of it, where that was replaced by another peer's.
    """

    peer: str
    place: Place
    left: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    mapped: dict[str, str] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    loss_key: str = "loss_type"
    aliases: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.given = {key: value for key, value in self.left.items() if value is not None}

    def take(self, key: str, default: Any = None) -> Any:
        """Return a key's value, the default where it is absent or empty, and count the key as read."""
        value = self.left.pop(key, None)
        return default if value is None else value

    def number(self, key: str, default: float) -> float:
        """Return a key's value as a number.

        Raises:
            UserError: it is none.
        """
        value = self.take(key, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise UserError(f"{key}: must be a number (is {value!r}); correct it in the configuration") from None

    def set(self, field_name: str, value: Any, key: str = "", note: str = "") -> None:
        """Write a field of the recipe.

        Args:
            field_name: dotted.
            value: a plain value.
            key: the peer's key that it comes from; empty for a default of the peer's.
            note: what differs there; empty if nothing does.
        """
        at = self.recipe
        *path, last = field_name.split(".")
        for name in path:
            at = at.setdefault(name, {})
        at[last] = value
        key = self.aliases.get(key, key)
        given = key in self.given
        if note:
            self.differ(key or field_name, note)
        elif given:
            self.mapped[key] = field_name
        self.comments[field_name] = f"from {key}" if given else f"{self.peer.split()[0]}'s default"
        if note:
            self.comments[field_name] += f"; differs: {note}"

    def differ(self, key: str, note: str) -> None:
        """Record that something is not the same here as there."""
        self.differs[key] = note
        self.mapped.pop(key, None)

    def leave(self, keys: str, why: str) -> None:
        """Take keys that have no counterpart, separated by spaces; those that ask for nothing count as translated."""
        for key in keys.split():
            if key in self.left and not _asks_for_nothing(self.left.pop(key)):
                self.left_out[key] = why

    def use(self, key: str, target: str) -> None:
        """Record what a key became, if the configuration has it."""
        key = self.aliases.get(key, key)
        if key in self.given and key not in self.differs:
            self.mapped[key] = target

    def name_unused(self, defaults: Mapping[str, Any], why: str) -> None:
        """Name the keys that the configuration has, and that neither became something nor are reported yet.

        Args:
            defaults: key -> the peer's default, by which a key asks for nothing.
            why: for all of them.
        """
        for name, default in defaults.items():
            key = self.aliases.get(name, name)
            value = self.given.get(key)
            told = key in self.mapped or key in self.differs or key in self.left_out
            if not told and value != default and not _asks_for_nothing(value):
                self.left.pop(key, None)
                self.left_out[key] = why

    @property
    def unknown(self) -> list[str]:
        """The keys that no table knows, as `key: value`; values of keys that are named like a secret are hidden."""
        return [f"{key}: {'***' if SECRET.search(key) else repr(value)}" for key, value in self.left.items()]

    def text(self) -> str:
        """Return the recipe as YAML with remarks, headed by what changes."""
        lines = [f"# From a configuration of {self.peer}; check it with `prefzoo check`."]
        for title, entries in (("Differs", self.differs), ("Left out", self.left_out)):
            if entries:
                lines += [f"# {title}:", *(f"#   {key}: {_line(note)}" for key, note in entries.items())]
        if self.left:
            lines += ["# Unknown, not translated:", *(f"#   {_line(entry)}" for entry in self.unknown)]
        ordered = {name: self.recipe[name] for name in ORDER if name in self.recipe}
        return "\n".join([*lines, *self._written(ordered, "", 0)]) + "\n"

    def _written(self, values: Mapping[str, Any], prefix: str, depth: int) -> list[str]:
        lines = []
        for key, value in values.items():
            at, indent = f"{prefix}{key}", "  " * depth
            if isinstance(value, Mapping) and value:
                lines += [f"{indent}{key}:", *self._written(value, f"{at}.", depth + 1)]
                continue
            comment = f"  # {_line(self.comments[at])}" if at in self.comments else ""
            lines.append(f"{indent}{key}: {_scalar(value)}{comment}")
        return lines


def _asks_for_nothing(value: Any) -> bool:
    return any(value is off or (type(value) is type(off) and value == off) for off in OFF)


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).split("\n...")[0].strip()


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def slug(text: str) -> str:
    """Return a text as the name of a run or of a variant."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-._")[:64] or "translated"
