"""Check the inputs of a loss, so that an error names what is missing or does not match before torch fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NoReturn

from prefzoo.losses._torch import torch

MISSING_INPUT = {
    "policy": ("scores a policy", "pass its log-probs"),
    "reference": ("compares with a reference", "score one, or use a loss without (simpo, orpo, cpo, ...)"),
    "scores": ("reads the data's scores", "fill score_chosen and score_rejected, or use a loss without"),
    "kl": ("reads the KL of every token", "have the engine compute it, or use dpo"),
    "mismatched": ("estimates a KL from mismatched pairs", "score prompts with other rows' answers, or use bco"),
}
PER_ROW = ("reference", "scores", "kl")  # as many rows as the policy has


class _Absent:
    """Stand in for a field that is None: a loss that reads it raises a clear error."""

    def __init__(self, loss: str, field: str) -> None:
        self.__dict__["fault"] = f"loss {loss} reads {field}, which is None; fill it, or use a loss that does not"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(self.fault)

    def __getitem__(self, index: Any) -> NoReturn:
        raise ValueError(self.fault)

    def __neg__(self) -> NoReturn:
        raise ValueError(self.fault)

    def _refuse(self, other: Any) -> NoReturn:
        raise ValueError(self.fault)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __gt__ = __ge__ = __lt__ = __le__ = _refuse

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        """Refuse every function of torch that is called with such a field, whichever argument it is."""
        absent = next(a for a in (*args, *(kwargs or {}).values()) if isinstance(a, cls))
        raise ValueError(absent.fault)


def check_inputs(loss: str, needs: Mapping[str, type[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the inputs of a loss.

    Args:
        loss: its name, for messages.
        needs: type of each input that it takes.
        given: the inputs.

    Returns:
        The inputs that it takes; fields that are None raise a ValueError once the loss reads them.

    Raises:
        ValueError: an input is missing or of another type, one of its fields is not a tensor, or their numbers of rows
            differ.
    """
    checked = {name: _checked(loss, name, kind, given[name]) for name, kind in needs.items()}
    rows = _rows(loss, "policy", checked["policy"])
    for name, value in checked.items():
        count = _rows(loss, name, value)
        if name in PER_ROW and None not in (rows, count) and rows != count:
            raise ValueError(f"loss {loss}: policy has {rows} rows, {name} {count}; both must have the same rows")
    return checked


def _checked(loss: str, name: str, kind: type[Any], value: Any) -> Any:
    if value is None:
        needs, cure = MISSING_INPUT[name]
        raise ValueError(f"loss {loss} {needs}, but none was given; {cure}")
    if not isinstance(value, kind):
        raise ValueError(f"loss {loss} takes {name}: {kind.__name__}, not {type(value).__name__}")
    absent: dict[str, Any] = {}
    inputs: Any = value  # a frozen dataclass of tensors
    for one in fields(inputs):
        content = getattr(inputs, one.name)
        if content is None:
            absent[one.name] = _Absent(loss, f"{name}.{one.name}")
        elif not isinstance(content, torch.Tensor):
            raise ValueError(
                f"loss {loss}: {name}.{one.name} is {type(content).__name__}, not a tensor; convert it with "
                "torch.tensor"
            )
    return replace(inputs, **absent) if absent else inputs


def _rows(loss: str, name: str, value: Any) -> int | None:
    """Return the number of rows of all fields; None if all are missing.

    Raises:
        ValueError: a field has no rows, or another number of rows than the first.
    """
    count, first = None, ""
    for one in fields(value):
        content = getattr(value, one.name)
        if not isinstance(content, torch.Tensor):
            continue
        if not content.ndim:
            raise ValueError(f"loss {loss}: {name}.{one.name} is one number; it must have a value for each row")
        if count is None:
            count, first = len(content), one.name
        elif len(content) != count:
            raise ValueError(
                f"loss {loss}: {name}.{first} has {count} rows, {name}.{one.name} {len(content)}; give both the same "
                "number"
            )
    return count
