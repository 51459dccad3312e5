"""Register losses: a decorated function becomes a `Loss`, declared by its signature."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint
from inspect import isfunction, unwrap
from pathlib import Path
from types import ModuleType
from typing import Any, overload

from prefzoo.errors import UserError, did_you_mean
from prefzoo.losses._loss import Loss, check_metadata
from prefzoo.losses._other_names import OTHER_NAMES
from prefzoo.losses._signature import TEMPLATE, LossFn, adapted, check_signature
from prefzoo.losses._sum import Sum, is_sum, parse
from prefzoo.runtime.plugins import RAISED, describe_error, import_file, import_hint, load_entry_points


class NameTaken(UserError, ValueError):
    """Two functions have the same name; the message names both files."""


_REGISTRY: dict[str, Loss] = {}
_PLUGINS: dict[str, Loss] = {}


@overload
def loss(fn: LossFn, /) -> Loss: ...


@overload
def loss(
    *, paper: str = "", equation: str = "", at_reference: Callable[[Any], float] | None = None, group: str = "",
    grid: Mapping[str, tuple[float, ...]] | None = None, traps: tuple[str, ...] = (), couples: str = "",
    provisional: str = "", learning_rate: tuple[float, ...] = (),
) -> Callable[[LossFn], Loss]: ...  # fmt: skip


def loss(fn: LossFn | None = None, /, **notes: Any) -> Loss | Callable[[LossFn], Loss]:
    """Make a function of log-probs a loss and register it under its name: `@loss`, or `@loss(paper="...")` with notes.

    Args:
        fn: A function `(policy[, reference, scores, kl, mismatched, state], knobs)` that returns a value per row. Knobs
            have defaults; their types may be annotated. A function of TRL's `policy_chosen_logps` and the like will do.
        notes: Any of the attributes of `Loss`: paper, equation, at_reference, group (by default unpaired,
            reference-free or pairwise, by the signature), grid, traps, couples, provisional, learning_rate.

    Returns:
        The `Loss`, or a decorator that returns it.

    Raises:
        TypeError: The signature is not that of a loss: there is no `policy`, a parameter without a default is no input,
            a knob's type is unknown, or the argument is no function.
        NameTaken: Another function has the name.
        ValueError: The group does not exist, or the grid does not fit the knobs.
    """
    if isinstance(fn, str):
        raise TypeError(f"@loss({fn!r}): name what it is: @loss(paper={fn!r}), or write @loss alone")
    return _register(fn, notes) if fn is not None else lambda decorated: _register(decorated, notes)


def _register(fn: LossFn, notes: dict[str, Any]) -> Loss:
    fn = adapted(fn) if isfunction(fn) else fn
    check_signature(fn)
    registered = Loss(fn, **{**notes, "group": notes.get("group") or _group(fn), "grid": notes.get("grid") or {}})
    check_metadata(registered)
    taken = _REGISTRY.get(registered.name)
    if taken is not None and _source_file(taken.fn) != _source_file(fn):
        raise NameTaken(
            f"loss {registered.name!r} of {_source_file(fn)} is taken by {_source_file(taken.fn)}; "
            "rename one of the functions"
        )
    _REGISTRY[registered.name] = registered
    return registered


def _group(fn: LossFn) -> str:
    bare = Loss(fn, "")
    if bare.unpaired:
        return "unpaired"
    return "pairwise" if bare.needs_reference else "reference-free"


def _source_file(fn: LossFn) -> str:
    return str(Path(unwrap(fn).__code__.co_filename).resolve())


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


def _one(name: str, folder: Path | None) -> Loss:
    if ":" in name:
        return _plugin(name, folder or Path.cwd())
    if name not in names():
        plain = name.lower().replace("-", "_")
        other = OTHER_NAMES.get(plain)
        hint = f"; {other}" if other else did_you_mean(plain, names())
        hint = hint or "; `prefzoo losses` lists all, `my_losses.py:my_loss` names your own"
        raise UserError(f"no such loss: {name!r}{hint}")
    return _REGISTRY[name]


def _plugin(spec: str, folder: Path) -> Loss:
    where, _, attribute = spec.rpartition(":")
    if not where or not attribute:
        missing = "file or module before" if not where else "function after"
        raise _plugin_error(spec, f"no {missing} the colon; write it like my_losses.py:my_loss")
    key = f"{(folder / where).resolve()}:{attribute}" if where.endswith(".py") else spec
    if key not in _PLUGINS:
        module = _import_file((folder / where).resolve(), spec) if where.endswith(".py") else _import(where, spec)
        _PLUGINS[key] = _loss_of(module, where, attribute, spec)
    return _PLUGINS[key]


def _plugin_error(spec: str, problem: str) -> UserError:
    return UserError(f"loss {spec!r}: {problem}", TEMPLATE)


def _loss_of(module: ModuleType, where: str, attribute: str, spec: str) -> Loss:
    """Return a module's loss; a plain function becomes one."""
    offered = getattr(module, attribute, None)
    if isinstance(offered, Loss):
        return offered
    if not isfunction(offered):
        own = [n for n, v in vars(module).items() if isinstance(v, Loss) or _is_own(v, module)]
        hint = did_you_mean(attribute, own) or f"; it has {', '.join(own) or 'no function'}"
        problem = "has no function" if offered is None else "has no function, but something else, called"
        raise _plugin_error(spec, f"{where} {problem} {attribute!r}{hint}")
    try:
        return loss(offered)
    except NameTaken:
        raise
    except (TypeError, ValueError, NameError) as e:
        raise _plugin_error(spec, f"{e}{import_hint(e)}") from e


def _is_own(value: Any, module: ModuleType) -> bool:
    return isfunction(value) and value.__module__ == module.__name__ and not value.__name__.startswith("_")


def _import(module: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except NameTaken:
        raise
    except ImportError as e:
        problem = f"cannot import {module}: {e}; install it, or name a file: my_losses.py:my_loss"
        raise _plugin_error(spec, problem) from e
    except RAISED as e:  # the module's code may raise anything
        raise _plugin_error(spec, f"{module} fails on import: {describe_error(e)}; fix it there") from e


def _import_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise _plugin_error(spec, f"no such file: {path}; the path is relative to the recipe")
    try:
        return import_file(path, f"prefzoo_plugin_{path.stem}_{abs(hash(path)):x}")
    except NameTaken:
        raise
    except RAISED as e:  # a user's file may raise anything; the user gets it in one line
        raise _plugin_error(spec, f"fails on import: {describe_error(e)}; fix it there") from e


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
