"""A user's Python function as judge: of both answers, or of one at a time."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.judges.position_swap import Said, both_orders, by_scores, higher_wins
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow, Report, Verdict
from prefzoo.evals.judges.verdict_cache import Kept, Part, kept_of, once
from prefzoo.runtime.plugins import import_file
from prefzoo.runtime.redaction import redact

OF_BOTH, OF_ONE = 3, 2  # parameters of `(instruction, output_1, output_2)` and of `(instruction, output)`
SAYS = 80  # characters of an exception that are kept


class Function:
    """`(instruction, output_1, output_2) -> 1 .. 2`, asked in both orders. `kept`: where what it said is kept."""

    prompt_hash = ""

    def __init__(self, fn: Callable[..., Any], name: str, kept: Kept | None = None) -> None:
        self.fn, self.name, self.kept = fn, name, kept
        self.parameters = _parameters(fn, name)

    def check(self) -> None:
        """It is imported, hence ready."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """What a function costs is its author's to know."""
        return ""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """What the function raises becomes the reason of a missing verdict."""
        return both_orders(asked, lambda seats: self._say([(c.row, c.first, c.second) for c in seats], report))

    def _say(self, questions: Sequence[tuple[PromptRow, *tuple[Answer, ...]]], report: Report | None) -> list[Said]:
        words = [[row.prompt, *(a.text for a in answers)] for row, *answers in questions]

        def ask(todo: Sequence[int]) -> Iterator[Part]:
            for done, i in enumerate(todo, 1):
                yield {i: self._one(words[i])}
                if report:
                    report(done, len(todo))

        return once(self.kept, words, ask)

    def _one(self, words: Sequence[str]) -> Said:
        try:
            return float(self.fn(*words))
        except Exception as e:  # a user's code may raise anything
            return redact(f"{type(e).__name__}: {e}")[:SAYS].replace("\n", " ")


class FunctionOfOne(Function):
    """`(instruction, output) -> score`; the higher score wins."""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """Each answer is scored once."""
        said = self.scores([(c.row, a) for c in asked for a in (c.first, c.second)], report)
        return by_scores(asked, list(zip(said[::2], said[1::2], strict=True)), higher_wins)

    def scores(self, asked: Sequence[tuple[PromptRow, Answer]], report: Report | None = None) -> list[Said]:
        """Of each answer, on the function's own scale; or why there is none."""
        return self._say(asked, report)


def _parameters(fn: Callable[..., Any], name: str) -> int:
    """How many answers it takes, by its parameters without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p for p in inspect.signature(fn).parameters.values() if p.kind in kinds and p.default is p.empty]
    if len(found) not in (OF_BOTH, OF_ONE):
        raise UserError(
            f"evals.judge: {name} takes {len(found)} arguments; write it as (instruction, output_1, output_2) "
            "-> 1 .. 2, or as (instruction, output) -> score"
        )
    return len(found)


def load(spec: str, folder: Path) -> Function:
    """The function of `file.py:function` (relative to `folder`) or `package.module:function`.

    Raises:
        UserError: there is none, or it is no judge.
    """
    where, _, attribute = spec.rpartition(":")
    if not where or not attribute:
        raise UserError(f"evals.judge: {spec!r} names no function; write it like my_judge.py:better")
    module, code = _module(where, spec, folder)
    found = getattr(module, attribute, None)
    if not inspect.isfunction(found):
        have = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        hint = did_you_mean(attribute, have) or f"; it has {', '.join(have) or 'none'}"
        raise UserError(f"evals.judge: {where} has no function {attribute!r}{hint}")
    name = f"function:{spec}@{hashlib.sha256(code).hexdigest()[:12]}"
    kind = FunctionOfOne if _parameters(found, name) == OF_ONE else Function
    return kind(found, name, kept_of(name, str(folder.resolve())))


def _module(where: str, spec: str, folder: Path) -> tuple[ModuleType, bytes]:
    """The module and its source, whose hash is part of the judge's identity."""
    path = (folder / Path(where).expanduser()).resolve()
    if where.endswith(".py") and not path.is_file():
        raise UserError(f"evals.judge: {spec}: no such file: {path}; the path is relative to the recipe")
    try:
        if not where.endswith(".py"):
            module = importlib.import_module(where)
            return module, Path(str(module.__file__)).read_bytes()
        return import_file(path, f"prefzoo_judge_{path.stem}"), path.read_bytes()
    except Exception as e:  # whatever a user's file raises is the user's to read, in one line
        says = str(e).replace("\n", " ")
        raise UserError(f"evals.judge: {spec}: fails on import: {type(e).__name__}: {says}; mend it there") from e
