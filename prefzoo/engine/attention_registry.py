"""Register attention functions in transformers' tables, and remove each when no model uses it any more.

Models look up their attention function in process-wide tables. An entry that is added here is removed with the last
model that uses it, so that other code finds transformers' tables unchanged.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

_users: Counter[str] = Counter()


def register(model: Any, name: str, attend: Callable[..., Any], mask: Callable[..., Any]) -> None:
    """Make a model compute attention with `attend`.

    Args:
        model: A transformers model.
        name: Name of the entry in transformers' tables.
        attend: The attention function.
        mask: Function that makes the attention mask for `attend`.
    """
    registration = _Registration(name, attend, mask)
    for module in model.modules():
        if hasattr(module, "config"):  # a module that reads the name holds the entry, even outside the model
            module.attention_registration = registration
    model.set_attn_implementation(name)


class _Registration:
    """A model's use of an entry, which the model holds as an attribute; a copy of the model counts as another use."""

    def __init__(self, name: str, attend: Callable[..., Any], mask: Callable[..., Any]) -> None:
        from transformers import AttentionInterface, AttentionMaskInterface

        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, mask)
        self._arguments = name, attend, mask
        _users[name] += 1
        weakref.finalize(self, _release, name).atexit = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Registration:
        return _Registration(*self._arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Registration, self._arguments


def _release(name: str) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    _users[name] -= 1
    if not _users[name]:
        for table in (AttentionInterface, AttentionMaskInterface):
            table._global_mapping.pop(name, None)  # the tables have no public way to remove an entry
