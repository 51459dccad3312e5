"""Read a user's losses and modifiers from files and modules: `my_losses.py:mine` or `package.module:mine`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from inspect import isfunction, unwrap
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.plugins import RAISED, describe_error, import_file, import_hint

T = TypeVar("T")


class NameTaken(UserError, ValueError):
    """Two functions have the same name; the message names both files."""


class PlugIns(Generic[T]):
    """The losses or modifiers of users' files and modules, each read once.

    Args:
        word: `loss` or `modifier`, for messages.
        kind: Its class.
        register: Turns a function into a loss or modifier.
        template: An example, shown below messages.
    """

    def __init__(self, word: str, kind: type[T], register: Callable[[Callable[..., Any]], T], template: str) -> None:
        self.word, self.kind, self.register, self.template = word, kind, register, template
        self.loaded: dict[str, T] = {}

    def get(self, spec: str, folder: Path) -> T:
        """Return what `file.py:function` or `module:function` names.

        Args:
            spec: The text; a plain function becomes a loss or modifier.
            folder: Where the paths of files start.

        Raises:
            UserError: There is no such file, module or function, it fails, or it is neither a loss nor a modifier.
        """
        if spec.endswith(".py"):
            own = self._own_names(self._import_file((folder / spec).resolve(), spec))
            cure = f"write {spec}:{own[0]}; it has {', '.join(own)}" if own else "it has no function"
            raise self._error(spec, f"names a file but no function in it; {cure}")
        where, _, attribute = spec.rpartition(":")
        if not where or not attribute:
            missing = "file or module before" if not where else "function after"
            raise self._error(spec, f"no {missing} the colon; write it like {self._example}")
        key = f"{(folder / where).resolve()}:{attribute}" if where.endswith(".py") else spec
        if key not in self.loaded:
            file = where.endswith(".py")
            module = self._import_file((folder / where).resolve(), spec) if file else self._import(where, spec)
            self.loaded[key] = self._offered(module, where, attribute, spec)
        return self.loaded[key]

    @property
    def _example(self) -> str:
        plural = {"loss": "losses"}.get(self.word, f"{self.word}s")
        return f"my_{plural}.py:my_{self.word}"

    def _error(self, spec: str, problem: str) -> UserError:
        return UserError(f"{self.word} {spec!r}: {problem}", self.template)

    def _offered(self, module: ModuleType, where: str, attribute: str, spec: str) -> T:
        """Return a module's loss or modifier; a plain function becomes one."""
        offered = getattr(module, attribute, None)
        if isinstance(offered, self.kind):
            return offered
        if not isfunction(offered):
            own = self._own_names(module)
            hint = did_you_mean(attribute, own) or f"; it has {', '.join(own) or 'no function'}"
            problem = "has no function" if offered is None else "has no function, but something else, named"
            raise self._error(spec, f"{where} {problem} {attribute!r}{hint}")
        try:
            return self.register(offered)
        except NameTaken:
            raise
        except (TypeError, ValueError, NameError) as e:
            raise self._error(spec, f"{e}{import_hint(e)}") from e

    def _own_names(self, module: ModuleType) -> list[str]:
        return [n for n, v in vars(module).items() if isinstance(v, self.kind) or _is_own(v, module)]

    def _import(self, module: str, spec: str) -> ModuleType:
        try:
            return importlib.import_module(module)
        except NameTaken:
            raise
        except ImportError as e:
            problem = f"cannot import {module}: {e}; install it, or name a file: {self._example}"
            raise self._error(spec, problem) from e
        except RAISED as e:  # the module's code may raise anything
            raise self._error(spec, f"{module} fails on import: {describe_error(e)}; fix it there") from e

    def _import_file(self, path: Path, spec: str) -> ModuleType:
        if not path.is_file():
            raise self._error(spec, f"no such file: {path}; the path is relative to the recipe")
        try:
            return import_file(path, f"prefzoo_plugin_{path.stem}_{abs(hash(path)):x}")
        except NameTaken:
            raise
        except RAISED as e:  # a user's file may raise anything; the user gets it in one line
            raise self._error(spec, f"fails on import: {describe_error(e)}; fix it there") from e


def _is_own(value: Any, module: ModuleType) -> bool:
    return isfunction(value) and value.__module__ == module.__name__ and not value.__name__.startswith("_")


def source_file(fn: Callable[..., Any]) -> str:
    """Return the path of the file that defines a function."""
    return str(Path(unwrap(fn).__code__.co_filename).resolve())


def check_name_is_free(word: str, name: str, fn: Callable[..., Any], taken: Callable[..., Any] | None) -> None:
    """Check that no function of another file has a name.

    Args:
        word: `loss` or `modifier`.
        name: The name.
        fn: The function that is to have it.
        taken: The function that has it; None if none does.

    Raises:
        NameTaken: A function of another file has it.
    """
    if taken is not None and source_file(taken) != source_file(fn):
        raise NameTaken(
            f"{word} {name!r} of {source_file(fn)} is taken by {source_file(taken)}; rename one of the functions"
        )
