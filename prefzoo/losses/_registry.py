"""The registry: a decorated function becomes a `Loss`; its signature is its declaration."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError, did_you_mean
from prefzoo.losses._loss import Loss, LossFn, check_metadata, check_signature
from prefzoo.losses._sum import Sum, is_sum, parse
from prefzoo.runtime.plugins import import_file
from prefzoo.types import Answers


class NameTaken(UserError, ValueError):
    """Two functions of one name; the line names both places."""


_REGISTRY: dict[str, Loss] = {}
_PLUGINS: dict[str, Loss] = {}


def loss(
    *,
    paper: str,
    equation: str = "",
    at_reference: Callable[[Any], float] | None = None,
    group: str = "",
    grid: Mapping[str, tuple[float, ...]] | None = None,
    traps: tuple[str, ...] = (),
    couples: str = "",
    provisional: str = "",
    learning_rate: tuple[float, ...] = (),
) -> Callable[[LossFn], Loss]:
    """Make a loss of a function `(policy[, reference, ...], *, knobs)` and register it under the function's name.

    The arguments are `Loss`'s attributes. Without a `group` it is shown as unpaired, reference-free or pairwise,
    as its signature says.

    Raises:
        TypeError: the signature is not a loss's: first parameter not `policy`, an unknown positional one, a knob
            without annotation or default.
        NameTaken: another function has the name.
        ValueError: there is no such group, or the grid does not fit the knobs.
    """

    def register(fn: LossFn) -> Loss:
        check_signature(fn)
        made = Loss(
            fn,
            paper,
            equation,
            at_reference,
            group or _group(fn),
            grid or {},
            traps,
            couples,
            provisional,
            learning_rate,
        )
        check_metadata(made)
        taken = _REGISTRY.get(made.name)
        if taken is not None and _place(taken.fn) != _place(fn):
            raise NameTaken(
                f"loss {made.name!r} of {_place(fn)} is taken by {_place(taken.fn)}; rename one of the functions"
            )
        _REGISTRY[made.name] = made
        return made

    return register


def _group(fn: LossFn) -> str:
    made = Loss(fn, "")
    if made.needs["policy"] is Answers:
        return "unpaired"
    return "pairwise" if made.needs_reference else "reference-free"


def _place(fn: LossFn) -> str:
    return str(Path(fn.__code__.co_filename).resolve())


def names() -> list[str]:
    """The names of all registered losses, in alphabetical order."""
    _load_entry_points()
    return sorted(_REGISTRY)


def all_losses() -> Iterator[Loss]:
    """Every registered loss, in the order of their names."""
    return (_REGISTRY[name] for name in names())


def get(name: str, folder: Path | None = None) -> Loss | Sum:
    """The loss of that name, or the sum of losses that the text names, like `dpo + 0.2*sft`.

    A name is a registered one, `file.py:function` (relative to `folder`) or `package.module:function`.

    Raises:
        UserError: there is no such loss, file, module or function, or the sum cannot be read; the line says why.
    """
    return parse(name, lambda term: _one(term, folder)) if is_sum(name) else _one(name, folder)


def _one(name: str, folder: Path | None) -> Loss:
    if ":" in name:
        return _plugin(name, folder or Path.cwd())
    if name not in names():
        hint = did_you_mean(name, names()) or "; `prefzoo losses` lists all, `my_losses.py:my_loss` names your own"
        raise UserError(f"no such loss: {name!r}{hint}")
    return _REGISTRY[name]


def _plugin(spec: str, folder: Path) -> Loss:
    where, _, attribute = spec.rpartition(":")
    if not where or not attribute:
        missing = "file or module in front of" if not where else "function behind"
        raise UserError(f"loss {spec!r}: no {missing} the colon; write it like my_losses.py:my_loss")
    key = f"{(folder / where).resolve()}:{attribute}" if where.endswith(".py") else spec
    if key not in _PLUGINS:
        module = _import_file((folder / where).resolve(), spec) if where.endswith(".py") else _import(where, spec)
        found = getattr(module, attribute, None)
        if not isinstance(found, Loss):
            have = [n for n, v in vars(module).items() if isinstance(v, Loss)]
            hint = did_you_mean(attribute, have) or f"; it has {', '.join(have) or 'no function decorated with @loss'}"
            raise UserError(f"loss {spec!r}: {where} has no loss {attribute!r}{hint}")
        _PLUGINS[key] = found
    return _PLUGINS[key]


def _import(module: str, spec: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise UserError(
            f"loss {spec!r}: cannot import {module}: {e}; install it, or name a file: my_losses.py:my_loss"
        ) from e
    except NameTaken:
        raise
    except Exception as e:  # as in a file
        raise UserError(f"loss {spec!r}: {module} fails on import: {type(e).__name__}: {e}; mend it there") from e


def _import_file(path: Path, spec: str) -> Any:
    if not path.is_file():
        raise UserError(f"loss {spec!r}: no such file: {path}; the path is relative to the recipe")
    try:
        return import_file(path, f"prefzoo_plugin_{path.stem}_{abs(hash(path)):x}")
    except Exception as e:  # whatever a user's file raises is the user's to read, in one line
        if isinstance(e, NameTaken):
            raise
        raise UserError(f"loss {spec!r}: {path} fails on import: {type(e).__name__}: {e}; mend it there") from e


_entry_points_loaded = False


def _load_entry_points() -> None:
    """Losses that installed packages offer under the group `prefzoo.losses`; their names are their functions'."""
    global _entry_points_loaded  # noqa: PLW0603 - once per process
    if _entry_points_loaded:
        return
    _entry_points_loaded = True
    for point in entry_points(group="prefzoo.losses"):
        try:
            found = point.load()
        except Exception as e:  # one broken package must not take the whole tool down
            print(
                f"prefzoo: entry point {point.name} = {point.value} fails: {type(e).__name__}: {e}",
                file=sys.stderr,
            )
            continue
        if isinstance(found, Loss):
            _REGISTRY.setdefault(found.name, found)
