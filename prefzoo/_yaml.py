"""YAML with places: values plus the line of every field; duplicate keys refused, `1e-5` read as a number."""

from __future__ import annotations

import re
from typing import Any

import yaml

from prefzoo.errors import UserError

Path = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats (YAML 1.1 takes 1e-5 for text)."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse(text: str, place: str) -> tuple[Any, dict[Path, int]]:
    """The document, and the line of each field by its path.

    Raises:
        UserError: broken YAML or duplicate keys, with the line.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        faults: list[str] = []
        if node is not None:
            _walk(node, (), lines, faults, place)
        if faults:
            raise UserError(faults)
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{place}{line}: not valid YAML: {getattr(e, 'problem', None) or e}") from e
    finally:
        loader.dispose()


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], faults: list[str], place: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(getattr(key, "value", key)), key.start_mark.line + 1
            if name in seen:
                faults.append(f"{place}:{line}: {'.'.join((*path, name))}: given twice (first in line {seen[name]})")
            seen[name] = line
            lines[(*path, name)] = line
            _walk(value, (*path, name), lines, faults, place)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*path, str(i)), lines, faults, place)
