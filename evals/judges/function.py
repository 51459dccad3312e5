"""A user's Python function as judge. It compares two answers, or scores one at a time."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from prefzoo.data.chat import as_messages
from prefzoo.data.examples import Text
from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.judges.position_swap import PairwiseJudge
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, Outcome, Progress, PromptRow, plain_name
from prefzoo.evals.judges.scoring import ScoringJudge
from prefzoo.evals.judges.verdict_cache import Batch, cached_outcomes
from prefzoo.runtime.cache import Cache, cache_of
from prefzoo.runtime.plugins import RAISED, WrongReturn, describe_error, import_file

LONGEST_VALUE = 60  # most characters of a value in a message
MESSAGES = "messages"
PAIRWISE, SCORING = 3, 2  # parameters of `(instruction, output_1, output_2)` and of `(instruction, output)`


class Function:
    """A user's function, with a cache of its results. An exception makes the result missing, and is the reason.

    A function whose first parameter is named `messages` gets every prompt as a list of messages instead of a text.
    """

    def __init__(self, fn: Callable[..., Any], cache: Cache | None = None) -> None:
        self.fn, self.cache = fn, cache
        self._of_messages = next(iter(inspect.signature(fn).parameters), "") == MESSAGES

    def asked(self, row: PromptRow) -> Text:
        """Return a prompt in the form that the function takes: messages or text."""
        return as_messages("user", row.prompt) if self._of_messages else row.text

    def outcomes(self, questions: Sequence[Sequence[Text]], progress: Progress | None) -> list[Outcome]:
        """Return the function's result for each question, or the reason for a missing one.

        Args:
            questions: the arguments of each call.
            progress: called after each call with the number of finished calls and of all calls.
        """

        def ask(numbers: Sequence[int]) -> Iterator[Batch]:
            for done, i in enumerate(numbers, 1):
                yield {i: self.call(questions[i])}
                if progress:
                    progress(done, len(numbers))

        return cached_outcomes(self.cache, questions, ask)

    def call(self, texts: Sequence[Text]) -> Outcome:
        """Return the function's result, or a description of the exception that it raised."""
        try:
            return self._number(self.fn(*texts))
        except RAISED as e:
            return describe_error(e)

    def _number(self, value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError) as e:
            shown = repr(value)[:LONGEST_VALUE]
            raise WrongReturn(self.fn, f"{self.fn.__name__} returned {shown}; it must return a number") from e


class PairwiseFunction(PairwiseJudge):
    """A function `(instruction, output_1, output_2) -> 1 .. 2`, called for both orders of each pair."""

    def __init__(self, function: Function, name: str) -> None:
        self.function, self.name = function, name

    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        """Return the function's preference for each comparison, or a description of its exception."""
        return self.function.outcomes(
            [[self.function.asked(c.row), c.first.text, c.second.text] for c in comparisons], progress
        )


class ScoringFunction(ScoringJudge):
    """A function `(instruction, output) -> score`; the answer with the higher score wins."""

    def __init__(self, function: Function, name: str) -> None:
        self.function, self.name = function, name

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return the function's score of each answer, or a description of its exception."""
        return self.function.outcomes([[self.function.asked(row), answer.text] for row, answer in answers], progress)


def judge_by(fn: Callable[..., Any], name: str, cache: Cache | None = None) -> Judge:
    """Make a judge from a function.

    Args:
        fn: a function of an instruction and one answer (2 parameters), or of an instruction and two answers (3). Only
            parameters without a default count.
        name: the judge's identity in tables and caches.
        cache: the cache of its results; None for no cache.

    Returns:
        A judge that scores single answers (2 parameters) or compares two (3).

    Raises:
        UserError: the function has another number of parameters.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(fn).parameters.values() if p.kind in kinds and p.default is p.empty]
    if len(parameters) not in (PAIRWISE, SCORING):
        count = f"{len(parameters)} argument{'' if len(parameters) == 1 else 's'}"
        raise UserError(
            f"evals.judge: {plain_name(name)}: takes {count}; write it as (instruction, output_1, output_2) "
            "-> 1 .. 2, or as (instruction, output) -> score"
        )
    return (PairwiseFunction if len(parameters) == PAIRWISE else ScoringFunction)(Function(fn, cache), name)


def load(spec: str, folder: Path) -> Judge:
    """Load a judge from `file.py:function`, a path relative to `folder`, or from `package.module:function`.

    Raises:
        UserError: the function does not exist, fails on import, or cannot be a judge.
    """
    where, _, attribute = spec.rpartition(":")
    if not where or not attribute:
        raise UserError(f"evals.judge: {spec!r} names no function; write it like my_judge.py:better")
    module, code = _module(where, spec, folder)
    fn = getattr(module, attribute, None)
    if not inspect.isfunction(fn):
        have = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        hint = did_you_mean(attribute, have) or f"; it has {', '.join(have) or 'none'}"
        raise UserError(f"evals.judge: {where} has no function {attribute!r}{hint}")
    name = f"function:{spec}@{hashlib.sha256(code).hexdigest()[:12]}"
    return judge_by(fn, name, cache_of("judges", "verdicts", name, str(folder.resolve()), sync=False))


def _module(where: str, spec: str, folder: Path) -> tuple[ModuleType, bytes]:
    """Return the module and its source, whose hash is part of the judge's identity."""
    path = (folder / Path(where).expanduser()).resolve()
    if where.endswith(".py") and not path.is_file():
        raise UserError(f"evals.judge: {spec}: no such file: {path}; the path is relative to the recipe")
    try:
        if not where.endswith(".py"):
            module = importlib.import_module(where)
            return module, Path(str(module.__file__)).read_bytes()
        return import_file(path, f"prefzoo_judge_{path.stem}"), path.read_bytes()
    except RAISED as e:
        raise UserError(f"evals.judge: {spec}: fails on import: {describe_error(e)}; fix it there") from e
