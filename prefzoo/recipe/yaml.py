"""Read a recipe's text: YAML as plain values, the line of each, overrides on top, and all faults at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.paths import packaged_recipes

Keys = tuple[str, ...]
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"


def _float(text: str) -> float:
    """Read a YAML number; Python writes `.inf` and `.nan` without the dot."""
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


# YAML 1.2's core schema. PyYAML implements 1.1, where 1e-5 is text, `no` is false and 2024-01-01 is a date.
_SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda _: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+", int),
    "float": (_FLOAT, _float),
    "str": (r"(?s:.*)", str),
}
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes text which YAML 1.1 or 1.2 would read as another type."""


for _kind, (_pattern, _) in _SCALARS.items():
    if _kind != "str":
        _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), None)
_Dumper.add_implicit_resolver(_TAG + "float", re.compile(f"^(?:{_FLOAT})$"), list("-+.0123456789"))


def dump(plain: dict[str, Any]) -> str:
    """Return plain values as YAML, in their order; `RawRecipe` reads the same values back."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


@dataclass
class _Parsed:
    """A text's value, the line of each key and list item, and (line, keys, message) for each fault."""

    value: Any = None
    lines: dict[Keys, int] = field(default_factory=dict)
    faults: list[tuple[int, Keys, str]] = field(default_factory=list)
    unread: set[Keys] = field(default_factory=set)
    broken: bool = False


def _parse(text: str) -> _Parsed:
    parsed = _Parsed()
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            parsed.value = _plain(node, (), node.start_mark.line + 1, parsed)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        parsed.faults.append((line, (), f"not valid YAML: {e.problem}; look at indentation, colons, quotes here"))
        parsed.broken = True
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        parsed.faults.append((line, (), f"not valid YAML: character {e.character!r} is not allowed; remove it"))
        parsed.broken = True
    except RecursionError:
        parsed.faults.append((1, (), "nested too deeply, or an alias (*) inside its own anchor (&); write it out"))
        parsed.broken = True
    return parsed


def _plain(node: yaml.Node, keys: Keys, line: int, parsed: _Parsed) -> Any:
    """Return the value of a node and record its line in `parsed.lines`. An alias becomes a copy."""
    parsed.lines[keys] = line
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, keys, parsed)
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return [_plain(item, (*keys, str(i)), item.start_mark.line + 1, parsed) for i, item in items]
    kind = node.tag.removeprefix(_TAG)
    pattern, construct = _SCALARS.get(kind, ("(?!)", str))  # an unknown tag never matches
    try:
        if re.fullmatch(pattern, node.value):
            return construct(node.value)
        parsed.faults.append((line, keys, f"cannot read {node.value!r} as {node.tag}; leave out the tag"))
    except ValueError:  # Python does not read whole numbers of thousands of digits
        parsed.faults.append((line, keys, f"a number of {len(node.value)} digits is too long; shorten it"))
    parsed.unread.add(keys)
    return None


def _mapping(node: yaml.MappingNode, keys: Keys, parsed: _Parsed) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, child in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            parsed.faults.append((line, keys, "a key must be plain text, not a list or a mapping; write `key: value`"))
        elif key.value in value:
            first = parsed.lines[*keys, key.value]
            parsed.faults.append((line, (*keys, key.value), f"given twice, first at line {first}; keep one"))
        else:
            value[key.value] = _plain(child, (*keys, key.value), line, parsed)
    return value


class Reporter(Protocol):
    """A collector of faults: a recipe's `RawRecipe`, or a list of lines."""

    def fault(self, keys: Keys, message: str, hint: str = "") -> None:
        """Add a fault of the value at `keys`.

        Args:
            keys: Where the value is.
            message: What is wrong with it, and the cure.
            hint: Longer help.
        """


DATA = (".jsonl", ".csv", ".parquet", ".gz")  # kinds of files that are not recipes


class RawRecipe:
    """A recipe's raw values, the place of each (a line of the file, or an override), and the faults so far.

    Raises:
        UserError: The file is absent, a folder, unreadable, not UTF-8, empty, not valid YAML, or not a mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[tuple[int | str, Keys, str]] = []
        self.hints: dict[str, None] = {}
        if path.suffix in DATA and path.is_file():
            raise UserError(f"{path}: is data, not a recipe; `prefzoo init --data {path}` writes a recipe for it")
        parsed = _parse(_read(path))
        self.places: dict[Keys, int | str] = dict(parsed.lines)
        self.faults.extend(parsed.faults)
        self.unread = parsed.unread
        if parsed.broken:
            self.raise_faults()
        if parsed.value is None:
            raise UserError(f"{path}: is empty; a recipe needs name, model, data and variants")
        if not isinstance(parsed.value, dict):
            kind = "a list" if isinstance(parsed.value, list) else f"the value {parsed.value!r:.60}"
            raise UserError(f"{path}:{parsed.lines[()]}: a recipe is a mapping, and this is {kind}; write `name: ...`")
        self.data: dict[str, Any] = parsed.value

    def fault(self, keys: Keys, message: str, hint: str = "") -> None:
        """Add a fault of the value at `keys`, at the place of its nearest written parent.

        Args:
            keys: Where the value is.
            message: What is wrong with it, and the cure.
            hint: Longer help, such as an example; shown once below all faults.
        """
        if keys in self.unread:  # its text is reported already
            return
        near = next(keys[:n] for n in range(len(keys), -1, -1) if keys[:n] in self.places)
        fault = (self.places[near], keys, message)
        if fault not in self.faults:  # a variant is read again for each value of its axes
            self.faults.append(fault)
            self.hints |= {hint: None} if hint else {}

    def raise_faults(self) -> None:
        """Raise all faults as one `UserError`, ordered by line, those of overrides last.

        Raises:
            UserError: There is a fault.
        """
        lines = []
        for place, keys, message in sorted(self.faults, key=lambda fault: _order(fault[0])):
            where = f"{self.path}:{place}" if isinstance(place, int) else place
            lines.append(": ".join(part for part in (where, ".".join(keys), message) if part).replace("\n", "\\n"))
        if lines:
            raise UserError(lines, "\n\n".join(self.hints))

    def override(self, text: str) -> None:
        """Apply an override like `a.b=value`, with the value in YAML."""
        place = f"--set {text}"
        dotted, equals, value = text.partition("=")
        if not equals or not all(dotted.split(".")):
            self.faults.append((place, (), "needs the form field=value; like `--set train.batch=16`"))
            return
        parsed = _parse(value)
        keys = self._keys(dotted, place)
        self.faults.extend((place, (*keys, *below), message) for _, below, message in parsed.faults)
        self.unread = {k for k in self.unread if k[: len(keys)] != keys} | {(*keys, *k) for k in parsed.unread}
        if not keys or parsed.broken:
            return
        at: Any = self.data
        for depth, key in enumerate(keys, start=1):
            if isinstance(at, list) and not (key.isdecimal() and int(key) < len(at)):
                have = f"0 to {len(at) - 1}" if at else "none"
                self.faults.append((place, keys[:depth], f"no such item of the list; there are {have}"))
                return
            own: Any = int(key) if isinstance(at, list) else key
            if depth == len(keys):
                at[own] = parsed.value
                break
            below = at[own] if isinstance(at, list) else at.get(own)
            if not isinstance(below, dict | list):  # absent, null, or a value that validation will refuse
                at[own] = {}
                self.places[keys[:depth]] = place
            at = at[own]
        self.places = {k: v for k, v in self.places.items() if k[: len(keys)] != keys} | {keys: place}

    def _keys(self, dotted: str, place: str) -> Keys:
        """Split at the dots, except within the name of a variant; return () if there is no such variant."""
        first, *rest = dotted.split(".")
        variants = self.data.get("variants")
        if first != "variants" or len(rest) <= 1 or not isinstance(variants, dict):
            return (first, *rest)
        for n in range(len(rest), 0, -1):
            if (name := ".".join(rest[:n])) in variants:
                return (first, name, *rest[n:])
        hint = did_you_mean(rest[0], list(variants)) or f"; there are {', '.join(variants)}"
        self.faults.append((place, (first, rest[0]), f"no such variant{hint}"))
        return ()


def _order(place: int | str) -> float:
    return place if isinstance(place, int) else float("inf")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        packaged = did_you_mean(path.name, packaged_recipes())
        hint = did_you_mean(path.name, near) or packaged or "; give the path of a recipe (YAML)"
        raise UserError(f"{path}: no such file{hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the path of a recipe in it") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: byte {e.start} ({e.object[e.start]:#04x}) is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as e:  # no permission, a name too long or with a NUL in it, ...
        raise UserError(f"{str(path)!r}: cannot be read: {e}; check the path and its permissions") from None
