"""A user's Python function as judge: of both answers, or of one at a time."""

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

LONGEST_VALUE = 60  # characters of a value that are shown
MESSAGES = "messages"
PAIRWISE, SCORING = 3, 2  # parameters of `(instruction, output_1, output_2)` and of `(instruction, output)`


class Function:
    """A function of texts, each of whose numbers is cached. What it raises is the reason why there is none.

    One whose first parameter is named `messages` gets every prompt as a list of messages instead of a text.
    """

    def __init__(self, fn: Callable[..., Any], cache: Cache | None = None) -> None:
        self.fn, self.cache = fn, cache
        self._of_messages = next(iter(inspect.signature(fn).parameters), "") == MESSAGES

    def asked(self, row: PromptRow) -> Text:
        """Return a prompt as the function takes it."""
        return as_messages("user", row.prompt) if self._of_messages else row.text

    def outcomes(self, questions: Sequence[Sequence[Text]], progress: Progress | None) -> list[Outcome]:
        """Return the function's number for each question, which are its arguments."""

        def ask(numbers: Sequence[int]) -> Iterator[Batch]:
            for done, i in enumerate(numbers, 1):
                yield {i: self.call(questions[i])}
                if progress:
                    progress(done, len(numbers))

        return cached_outcomes(self.cache, questions, ask)

    def call(self, texts: Sequence[Text]) -> Outcome:
        """Return the function's number, or what it raised and where."""
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
    """`(instruction, output_1, output_2) -> 1 .. 2`, called in both orders."""

    def __init__(self, function: Function, name: str) -> None:
        self.function, self.name = function, name

    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        """Return the function's preference for each comparison, or what it raised."""
        return self.function.outcomes(
            [[self.function.asked(c.row), c.first.text, c.second.text] for c in comparisons], progress
        )


class ScoringFunction(ScoringJudge):
    """`(instruction, output) -> score`; the higher score wins."""

    def __init__(self, function: Function, name: str) -> None:
        self.function, self.name = function, name

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return the function's score of each answer, or what it raised."""
        return self.function.outcomes([[self.function.asked(row), answer.text] for row, answer in answers], progress)


def judge_by(fn: Callable[..., Any], name: str, cache: Cache | None = None) -> Judge:
    """Make a judge of a function.

    Args:
        fn: takes an instruction and one answer, or an instruction and two, by its parameters without a default.
        name: identity of the judge.
        cache: where its numbers are cached; None caches none.

    Returns:
        A judge that scores answers, or one that compares two.

    Raises:
        UserError: it takes another number of arguments.
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
    """Load the function of `file.py:function` (relative to `folder`) or `package.module:function` as a judge.

    Raises:
        UserError: there is none, or it is no judge.
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
