"""Entries in transformers' tables of attention functions, each as long as a model lives that names it.

Models look their attention up in process-wide tables. An entry here is removed with the last model that uses it, so
that other code finds transformers' tables unchanged.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

_users: Counter[str] = Counter()


def register(model: Any, name: str, attend: Callable[..., Any], mask: Callable[..., Any]) -> None:
    """Let a model attend with a function of our own.

    Args:
        model: a model of transformers.
        name: the entry's.
        attend: the attention function.
        mask: makes the attention mask that `attend` takes.
    """
    registration = _Registration(name, attend, mask)
    for module in model.modules():
        if hasattr(module, "config"):  # whatever reads the name keeps the entry, even outside the model
            module.attention_registration = registration
    model.set_attn_implementation(name)


class _Registration:
    """One model's claim on an entry; the model holds it as an attribute, and a copy of the model holds another."""

    def __init__(self, name: str, attend: Callable[..., Any], mask: Callable[..., Any]) -> None:
        from transformers import AttentionInterface, AttentionMaskInterface

        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, mask)
        self._made_of = name, attend, mask
        _users[name] += 1
        weakref.finalize(self, _release, name).atexit = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Registration:
        return _Registration(*self._made_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Registration, self._made_of


def _release(name: str) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    _users[name] -= 1
    if not _users[name]:
        for table in (AttentionInterface, AttentionMaskInterface):
            table._global_mapping.pop(name, None)  # the tables have no public way to remove an entry
