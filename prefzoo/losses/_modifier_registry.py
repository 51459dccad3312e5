"""Register modifiers: a decorated function becomes a `Modifier`, declared by its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args, overload

from prefzoo.errors import UserError, did_you_mean
from prefzoo.losses._modifier import TAKEN, VALUES, Modifier, ModifierFn, is_union
from prefzoo.losses._params import check_grid
from prefzoo.losses._plug_ins import PlugIns, check_name_is_free
from prefzoo.losses._signature import INPUTS, KNOB_TYPES
from prefzoo.runtime.plugins import load_entry_points

MODIFIER_TEMPLATE = """\
A modifier is a function in a file of yours, say my_modifiers.py, that a variant names by
`modifiers: [{my_modifiers.py:mine: {}}]`. It changes the values of a loss:
  def mine(values, scale=2.0):  # (B,), one per row
      return scale * values
or the log-probs that the loss is given:
  from prefzoo.types import TokenLogProbs

  def mine(policy: TokenLogProbs, reference: TokenLogProbs, floor=-5.0):
      return policy.map_tokens(lambda own, base: own.clamp(min=floor), reference)"""
_REGISTRY: dict[str, Modifier] = {}


@overload
def modifier(fn: ModifierFn, /) -> Modifier: ...


@overload
def modifier(
    *, paper: str = "", equation: str = "", at_reference: Callable[[float, Any], float] | None = None,
    grid: Mapping[str, tuple[float, ...]] = ..., traps: tuple[str, ...] = (), couples: str = "", provisional: str = "",
    learning_rate: tuple[float, ...] = (), pairs_only: bool = False, excludes: tuple[str, ...] = (),
) -> Callable[[ModifierFn], Modifier]: ...  # fmt: skip


def modifier(fn: ModifierFn | None = None, /, **notes: Any) -> Modifier | Callable[[ModifierFn], Modifier]:
    """Make a function a modifier and register it under its name: `@modifier`, or `@modifier(paper="...")` with notes.

    Args:
        fn: A function of log-probs that returns log-probs, or one of values that returns values; see `Modifier`.
        notes: Any of the attributes of `Modifier`.

    Returns:
        The `Modifier`, or a decorator that returns it.

    Raises:
        TypeError: The signature is not that of a modifier.
        NameTaken: Another function has the name.
        ValueError: The grid does not fit the knobs.
    """
    return _register(fn, notes) if fn is not None else lambda decorated: _register(decorated, notes)


def _register(fn: ModifierFn, notes: dict[str, Any]) -> Modifier:
    _check_signature(fn)
    registered = Modifier(fn, **notes)
    check_grid(f"modifier {registered.name}", registered.Params, registered.grid)
    taken = _REGISTRY.get(registered.name)
    check_name_is_free("modifier", registered.name, fn, taken.fn if taken else None)
    _REGISTRY[registered.name] = registered
    return registered


def _check_signature(fn: ModifierFn) -> None:
    """Check that a function has the signature of a modifier.

    Raises:
        TypeError: The signature is wrong; the message names the parameter.
    """
    if not inspect.isfunction(fn):
        raise TypeError(f"modifier {getattr(fn, '__name__', fn)!r} is not a function")
    parameters = inspect.signature(fn).parameters
    shown = f"modifier {fn.__name__}({', '.join(parameters)})"
    if not {VALUES, "policy"} & set(parameters):
        raise TypeError(f"{shown}: a modifier takes policy and returns log-probs, or takes values and returns values")
    hints = inspect.get_annotations(fn, eval_str=True)
    for p in parameters.values():
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            raise TypeError(
                f"{shown}: {p.name} is *args, **kwargs or positional-only; a modifier must not have such a parameter"
            )
        if p.name == VALUES:
            continue
        if p.name in TAKEN:
            _check_annotation(shown, p.name, hints.get(p.name))
        elif p.default is p.empty:
            raise TypeError(f"{shown}: {p.name} is not an input of a modifier; a knob needs a default, like `beta=0.1`")
        elif p.name not in hints and type(p.default) not in KNOB_TYPES:
            raise TypeError(f"{shown}: knob {p.name!r} needs a type, like `beta: Positive = 0.1`")


def _check_annotation(shown: str, name: str, kind: Any) -> None:
    allowed = INPUTS[name]
    given = () if kind is None else get_args(kind) if is_union(kind) else (kind,)
    wrong = [one for one in given if one not in allowed]
    if wrong:
        names = " or ".join(one.__name__ for one in allowed)
        raise TypeError(f"{shown}: {name} must be annotated {names}, not {getattr(wrong[0], '__name__', wrong[0])}")


_PLUGINS = PlugIns("modifier", Modifier, lambda fn: _register(fn, {}), MODIFIER_TEMPLATE)


def all_modifiers() -> Iterator[Modifier]:
    """Return all registered modifiers in the order of their names."""
    _load_entry_points()
    return (_REGISTRY[name] for name in sorted(_REGISTRY))


def get_modifier(name: str, folder: Path | None = None) -> Modifier:
    """Return the modifier of a name: a registered one, `file.py:function` or `package.module:function`.

    Args:
        name: The name.
        folder: Where the paths of files start.

    Raises:
        UserError: There is no such modifier, file, module or function.
    """
    if ":" in name:
        return _PLUGINS.get(name, folder or Path.cwd())
    names = [one.name for one in all_modifiers()]
    if name not in names:
        hint = did_you_mean(name.lower().replace("-", "_"), names) or f"; there are {', '.join(names)}"
        raise UserError(f"no such modifier: {name!r}{hint}")
    return _REGISTRY[name]


@lru_cache(maxsize=1)
def _load_entry_points() -> None:
    """Register the modifiers that installed packages offer as entry points `prefzoo.modifiers`."""

    def register(_: EntryPoint, offered: Any) -> str | None:
        if not isinstance(offered, Modifier):
            modifier(offered)
        else:
            _REGISTRY.setdefault(offered.name, offered)
        return None

    load_entry_points("prefzoo.modifiers", register)
