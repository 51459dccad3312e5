"""Register losses: a decorated function becomes a `Loss`, declared by its signature."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError, did_you_mean
from prefzoo.losses._loss import Loss, LossFn, check_metadata, check_signature
from prefzoo.losses._sum import Sum, is_sum, parse
from prefzoo.runtime.plugins import import_file, load_entry_points


class NameTaken(UserError, ValueError):
    """Two functions have the same name; the message names both files."""


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
    """Make a function `(policy[, reference, ...], *, knobs)` a loss and register it under its name.

    Args:
        paper: Author, year and where to read it.
        equation: Where in the paper: number of an equation, a section, or whose code was read.
        at_reference: The loss at policy = reference as a function of the knobs, if it does not depend on the data.
        group: Group in the catalogue; by default unpaired, reference-free or pairwise, by the signature.
        grid: Published values of knobs.
        traps: Short sentences on what goes wrong with the loss and where implementations differ.
        couples: How the rows of a batch depend on each other; empty for independent rows.
        provisional: Why the formula is uncertain; empty if it was read in the paper or the authors' code.
        learning_rate: Published learning rates.

    Returns:
        A decorator that returns the `Loss`.

    Raises:
        TypeError: The signature is not that of a loss: the first parameter is not `policy`, a positional parameter is
            unknown, or a knob has no annotation or default.
        NameTaken: Another function has the name.
        ValueError: The group does not exist, or the grid does not fit the knobs.
    """

    def register(fn: LossFn) -> Loss:
        check_signature(fn)
        registered = Loss(
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
        check_metadata(registered)
        taken = _REGISTRY.get(registered.name)
        if taken is not None and _source_file(taken.fn) != _source_file(fn):
            raise NameTaken(
                f"loss {registered.name!r} of {_source_file(fn)} is taken by {_source_file(taken.fn)}; "
                "rename one of the functions"
            )
        _REGISTRY[registered.name] = registered
        return registered

    return register


def _group(fn: LossFn) -> str:
    bare = Loss(fn, "")
    if bare.unpaired:
        return "unpaired"
    return "pairwise" if bare.needs_reference else "reference-free"


def _source_file(fn: LossFn) -> str:
    return str(Path(fn.__code__.co_filename).resolve())


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
        hint = did_you_mean(name, names()) or "; `prefzoo losses` lists all, `my_losses.py:my_loss` names your own"
        raise UserError(f"no such loss: {name!r}{hint}")
    return _REGISTRY[name]


def _plugin(spec: str, folder: Path) -> Loss:
    where, _, attribute = spec.rpartition(":")
    if not where or not attribute:
        missing = "file or module before" if not where else "function after"
        raise UserError(f"loss {spec!r}: no {missing} the colon; write it like my_losses.py:my_loss")
    key = f"{(folder / where).resolve()}:{attribute}" if where.endswith(".py") else spec
    if key not in _PLUGINS:
        module = _import_file((folder / where).resolve(), spec) if where.endswith(".py") else _import(where, spec)
        plugin = getattr(module, attribute, None)
        if not isinstance(plugin, Loss):
            have = [n for n, v in vars(module).items() if isinstance(v, Loss)]
            hint = did_you_mean(attribute, have) or f"; it has {', '.join(have) or 'no function decorated with @loss'}"
            raise UserError(f"loss {spec!r}: {where} has no loss {attribute!r}{hint}")
        _PLUGINS[key] = plugin
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
    except Exception as e:  # the module's code may raise anything
        raise UserError(f"loss {spec!r}: {module} fails on import: {type(e).__name__}: {e}; mend it there") from e


def _import_file(path: Path, spec: str) -> Any:
    if not path.is_file():
        raise UserError(f"loss {spec!r}: no such file: {path}; the path is relative to the recipe")
    try:
        return import_file(path, f"prefzoo_plugin_{path.stem}_{abs(hash(path)):x}")
    except Exception as e:  # a user's file may raise anything; the user gets it in one line
        if isinstance(e, NameTaken):
            raise
        raise UserError(f"loss {spec!r}: {path} fails on import: {type(e).__name__}: {e}; mend it there") from e


@lru_cache(maxsize=1)
def _load_entry_points() -> None:
    """Register the losses that installed packages offer as entry points `prefzoo.losses`, by their functions' names."""

    def register(_: EntryPoint, offered: Any) -> str | None:
        if not isinstance(offered, Loss):
            return "it is not decorated with @loss"
        _REGISTRY.setdefault(offered.name, offered)
        return None

    load_entry_points("prefzoo.losses", register)
