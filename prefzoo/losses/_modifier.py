"""Define a modifier: a function that changes the log-probs a loss is given, or the values it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import create_model

from prefzoo.losses._params import Params
from prefzoo.losses._signature import INPUTS, KNOB_TYPES
from prefzoo.types import Answers

MODIFIERS = "modifiers"  # their group in the catalogue
VALUES = "values"
TAKEN = (VALUES, "policy", "reference", "scores", "kl")
ModifierFn = Callable[..., Any]


@dataclass(frozen=True)
class Modifier:
    """A named change of losses.

    Attributes:
        fn: `fn(policy[, reference, scores, kl], *, knobs)` returns the log-probs that the loss is given in place of
            `policy`; `fn(values[, policy, reference, scores, kl], *, knobs)` returns the values, one per row, that
            take the place of the loss's.
        paper, equation, grid, traps, couples, provisional, learning_rate: As of a `Loss`.
        at_reference: Its result at policy = reference, where all rows have the same loss, as a function of that loss
            and the knobs. None if that depends on the data.
        pairs_only: Whether it takes only values of pairs, not of single answers.
        excludes: Names of modifiers that it cannot be combined with.
    """

    fn: ModifierFn
    paper: str = ""
    equation: str = ""
    at_reference: Callable[[float, Any], float] | None = None
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    traps: tuple[str, ...] = ()
    couples: str = ""
    provisional: str = ""
    learning_rate: tuple[float, ...] = ()
    pairs_only: bool = False
    excludes: tuple[str, ...] = ()
    group: ClassVar[str] = MODIFIERS

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(getattr(self.fn, "__name__", repr(self.fn)))

    @property
    def doc(self) -> str:
        """The docstring: a summary line, the formula, and notes on it."""
        return inspect.getdoc(self.fn) or ""

    @cached_property
    def needs(self) -> Mapping[str, tuple[type, ...]]:
        """The types that each input may have; `policy` and `reference` may be of pairs or of single answers."""
        hints = inspect.get_annotations(self.fn, eval_str=True)
        signature = inspect.signature(self.fn).parameters
        kinds = {name: hints.get(name, INPUTS[name][0]) for name in TAKEN if name in signature and name != VALUES}
        return {name: get_args(kind) if is_union(kind) else (kind,) for name, kind in kinds.items()}

    @property
    def of_values(self) -> bool:
        """Whether it changes the loss's values; otherwise the log-probs that the loss is given."""
        return VALUES in inspect.signature(self.fn).parameters

    @cached_property
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The pydantic model of its knobs."""
        hints = inspect.get_annotations(self.fn, eval_str=True)
        knobs: Any = {
            p.name: (hints.get(p.name, KNOB_TYPES.get(type(p.default))), p.default)
            for p in inspect.signature(self.fn).parameters.values()
            if p.name not in TAKEN
        }
        return create_model(f"{self.name}_params", __base__=Params, **knobs)

    def needs_of(self, *, unpaired: bool) -> dict[str, type]:
        """Return the type of each input for a loss of pairs or of single answers; without those that do not fit."""
        fitting = {
            name: [kind for kind in kinds if name in ("scores", "kl") or issubclass(kind, Answers) == unpaired]
            for name, kinds in self.needs.items()
        }
        return {name: kinds[0] for name, kinds in fitting.items() if kinds}


def is_union(kind: Any) -> bool:
    """Return whether an annotation is a union of types."""
    return get_origin(kind) in (Union, type(int | str))
