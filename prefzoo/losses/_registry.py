"""The registry: a decorated function becomes a `Loss`; its signature is its declaration."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from torch import Tensor

from prefzoo.errors import UserError, did_you_mean
from prefzoo.types import LogProbs

LossFn = Callable[..., Tensor]


class Params(BaseModel):
    """The knobs of one loss: strict types, no unknown keys. Each loss gets its own subclass from its signature."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Loss:
    """A named preference loss.

    Attributes:
        fn: `fn(policy[, reference], *, knobs) -> (B,)`, one value per pair, in nats unless said otherwise.
        paper: author, year and where to read it.
        equation: the equation's number there.
        at_reference: the value at policy = reference with default lengths, when it does not depend on the data:
            a function of the knobs (ln 2 for DPO). The loop checks the first step against it.
    """

    fn: LossFn
    paper: str
    equation: str
    at_reference: Callable[[Any], float] | None = None

    @property
    def name(self) -> str:
        return str(getattr(self.fn, "__name__", repr(self.fn)))

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.fn) or ""

    @property
    def needs_reference(self) -> bool:
        return "reference" in inspect.signature(self.fn).parameters

    @cached_property
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The pydantic model of this loss's knobs."""
        hints = inspect.get_annotations(self.fn, eval_str=True)
        knobs = {
            p.name: (hints[p.name], p.default)
            for p in inspect.signature(self.fn).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }
        model: type[Params] = create_model(f"{self.name}_params", __base__=Params, **knobs)  # type: ignore[call-overload]
        return model

    def each(self, policy: LogProbs, reference: LogProbs | None, params: BaseModel) -> Tensor:
        """(B,) the loss of every pair.

        Raises:
            ValueError: the loss needs a reference and got none, or returned something other than one value per pair.
        """
        knobs = params.model_dump()
        if not self.needs_reference:
            value = self.fn(policy, **knobs)
        elif reference is None:
            raise ValueError(f"loss {self.name} compares with a reference, and none was given")
        else:
            value = self.fn(policy, reference, **knobs)
        if value.shape != policy.chosen.shape:
            raise ValueError(
                f"loss {self.name} returned shape {tuple(value.shape)} for {len(policy)} pairs; "
                "it must return one value per pair, without taking the mean"
            )
        return value


_REGISTRY: dict[str, Loss] = {}
_PLUGINS: dict[str, Loss] = {}


def loss(
    *, paper: str, equation: str = "", at_reference: Callable[[Any], float] | None = None
) -> Callable[[LossFn], Loss]:
    """Make a loss of a function `(policy[, reference], *, knobs) -> (B,)` and register it under the function's name.

    Raises:
        TypeError: the signature is not a loss's: first parameter not `policy`, an unknown positional one, a knob
            without annotation or default.
        ValueError: the name is taken.
    """

    def register(fn: LossFn) -> Loss:
        _check_signature(fn)
        made = Loss(fn, paper, equation, at_reference)
        if made.name in _REGISTRY and not _same_source(_REGISTRY[made.name].fn, fn):
            raise ValueError(
                f"loss {made.name!r} is taken by {_REGISTRY[made.name].fn.__module__}; name yours differently"
            )
        _REGISTRY[made.name] = made
        return made

    return register


def _same_source(one: LossFn, other: LossFn) -> bool:
    return one.__code__.co_filename == other.__code__.co_filename


def _check_signature(fn: LossFn) -> None:
    positional = [p.name for p in inspect.signature(fn).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if positional not in (["policy"], ["policy", "reference"]):
        raise TypeError(
            f"loss {fn.__name__}({', '.join(positional)}): a loss takes (policy) or (policy, reference), "
            "then keyword-only knobs behind a *"
        )
    for p in inspect.signature(fn).parameters.values():
        if p.kind is p.KEYWORD_ONLY and (p.annotation is p.empty or p.default is p.empty):
            raise TypeError(
                f"loss {fn.__name__}: knob {p.name!r} needs a type and a default, like `beta: Positive = 0.1`"
            )


def names() -> list[str]:
    """The names of all registered losses, in alphabetical order."""
    _load_entry_points()
    return sorted(_REGISTRY)


def all_losses() -> Iterator[Loss]:
    """Every registered loss, in the order of their names."""
    return (_REGISTRY[name] for name in names())


def get(name: str, folder: Path | None = None) -> Loss:
    """The loss of that name: a registered one, `file.py:function` (relative to `folder`) or `package.module:function`.

    Raises:
        UserError: there is no such loss, file, module or function; the line says what is near it.
    """
    if ":" in name:
        return _plugin(name, folder or Path.cwd())
    if name not in names():
        hint = did_you_mean(name, names()) or "; `prefzoo losses` lists all, `my_losses.py:my_loss` names your own"
        raise UserError(f"no such loss: {name!r}{hint}")
    return _REGISTRY[name]


def _plugin(spec: str, folder: Path) -> Loss:
    where, _, attribute = spec.rpartition(":")
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


def _import_file(path: Path, spec: str) -> Any:
    if not path.is_file():
        raise UserError(f"loss {spec!r}: no such file: {path}; the path is relative to the recipe")
    name = f"prefzoo_plugin_{path.stem}_{abs(hash(path)):x}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None and found.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as e:  # whatever a user's file raises is the user's to read, in one line
        del sys.modules[name]
        raise UserError(f"loss {spec!r}: {path} fails on import: {type(e).__name__}: {e}") from e
    return module


_entry_points_loaded = False


def _load_entry_points() -> None:
    """Losses that installed packages offer under the group `prefzoo.losses`."""
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
            _REGISTRY.setdefault(point.name, found)
