"""Register losses: a decorated function becomes a `Loss`, declared by its signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint
from inspect import isfunction
from pathlib import Path
from typing import Any, overload

from prefzoo.errors import UserError, did_you_mean
from prefzoo.losses._loss import Loss, check_metadata
from prefzoo.losses._modifier import Modifier
from prefzoo.losses._modifier_registry import all_modifiers
from prefzoo.losses._other_names import OTHER_NAMES
from prefzoo.losses._plug_ins import PlugIns, check_name_is_free
from prefzoo.losses._signature import TEMPLATE, LossFn, adapted, check_signature
from prefzoo.losses._sum import Sum, is_sum, parse
from prefzoo.runtime.plugins import load_entry_points

AS_MODIFIER = "it is a modifier: name a loss, and write modifiers: [{0}]"
_REGISTRY: dict[str, Loss] = {}


@overload
def loss(fn: LossFn, /) -> Loss: ...


@overload
def loss(
    *, paper: str = "", equation: str = "", at_reference: Callable[[Any], float] | None = None, group: str = "",
    grid: Mapping[str, tuple[float, ...]] | None = None, traps: tuple[str, ...] = (), couples: str = "",
    mean_only: str = "", provisional: str = "", learning_rate: tuple[float, ...] = (),
    score_range: tuple[float, float] | None = None,
) -> Callable[[LossFn], Loss]: ...  # fmt: skip


def loss(fn: LossFn | None = None, /, **notes: Any) -> Loss | Callable[[LossFn], Loss]:
    """Make a function of log-probs a loss and register it under its name: `@loss`, or `@loss(paper="...")` with notes.

    Args:
        fn: A function `(policy[, reference, scores, kl, mismatched, state], knobs)` that returns a value per row. Knobs
            have defaults; their types may be annotated. A function of TRL's `policy_chosen_logps` and the like will do.
        notes: Any of the attributes of `Loss`: paper, equation, at_reference, group (by default unpaired,
            reference-free or pairwise, by the signature), grid, traps, couples, mean_only, provisional, learning_rate,
            score_range.

    Returns:
        The `Loss`, or a decorator that returns it.

    Raises:
        TypeError: The signature is not that of a loss: there is no `policy`, a parameter without a default is not an
            input, a knob's type is unknown, or the argument is not a function.
        NameTaken: Another function has the name.
        ValueError: The group does not exist, or the grid does not fit the knobs.
    """
    if isinstance(fn, str):
        raise TypeError(f"@loss({fn!r}): name the argument: @loss(paper={fn!r}), or write only @loss")
    return _register(fn, notes) if fn is not None else lambda decorated: _register(decorated, notes)


def _register(fn: LossFn, notes: dict[str, Any]) -> Loss:
    fn = adapted(fn) if isfunction(fn) else fn
    check_signature(fn)
    registered = Loss(fn, **{**notes, "group": notes.get("group") or _group(fn), "grid": notes.get("grid") or {}})
    check_metadata(registered)
    taken = _REGISTRY.get(registered.name)
    check_name_is_free("loss", registered.name, fn, taken.fn if taken else None)
    _REGISTRY[registered.name] = registered
    return registered


def _group(fn: LossFn) -> str:
    bare = Loss(fn, "")
    if bare.unpaired:
        return "unpaired"
    return "pairwise" if bare.needs_reference else "reference-free"


_PLUGINS = PlugIns("loss", Loss, lambda fn: _register(fn, {}), TEMPLATE)


def names() -> list[str]:
    """Return the names of all registered losses in alphabetical order."""
    _load_entry_points()
    return sorted(_REGISTRY)


def all_losses() -> Iterator[Loss]:
    """Return all registered losses in the order of their names."""
    return (_REGISTRY[name] for name in names())


def get(name: str, folder: Path | None = None) -> Loss | Sum:
    """Return the loss of a name, or the sum of losses that a text like `dpo + 0.2*sft` describes.

    A name is that of a registered loss, `file.py:function` (relative to `folder`) or `package.module:function`.

    Raises:
        UserError: There is no such loss, file, module or function, or the sum cannot be read.
    """
    return parse(name, lambda term: _one(term, folder)) if is_sum(name) else _one(name, folder)


def look_up(name: str) -> Loss | Sum | Modifier:
    """Return the loss, the sum of losses or the modifier of a name.

    Raises:
        UserError: There is none of that name.
    """
    modifiers = {one.name: one for one in all_modifiers()}
    return modifiers[name] if name in modifiers else get(name)


def _one(name: str, folder: Path | None) -> Loss:
    if ":" in name or name.endswith(".py"):
        return _PLUGINS.get(name, folder or Path.cwd())
    if name not in names():
        plain = name.lower().replace("-", "_")
        other = OTHER_NAMES.get(plain) or AS_MODIFIER.format(plain) * (plain in {m.name for m in all_modifiers()})
        hint = f"; {other}" if other else did_you_mean(plain, names())
        hint = hint or "; `prefzoo losses` lists all, `my_losses.py:my_loss` names your own"
        raise UserError(f"no such loss: {name!r}{hint}")
    return _REGISTRY[name]


@lru_cache(maxsize=1)
def _load_entry_points() -> None:
    """Register the losses that installed packages offer as entry points `prefzoo.losses`, by their functions' names."""

    def register(_: EntryPoint, offered: Any) -> str | None:
        if not isinstance(offered, Loss):
            loss(offered)
        else:
            _REGISTRY.setdefault(offered.name, offered)
        return None

    load_entry_points("prefzoo.losses", register)
