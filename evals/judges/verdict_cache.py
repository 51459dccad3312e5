"""Cached numbers of local judges: a killed judging goes on where it stopped, and no question is asked twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefzoo.evals.judges.protocol import Outcome
from prefzoo.runtime.cache import Cache, key_of

Batch = Mapping[int, Outcome]  # outcomes by the number of the question


def cached_outcomes(
    cache: Cache | None, questions: Sequence[Any], ask: Callable[[Sequence[int]], Iterable[Batch]]
) -> list[Outcome]:
    """Return the outcome of each question: the cached one, or else the judge's, which is asked each question once.

    A reason why there is no number is not cached: another call asks again.

    Args:
        cache: the judge's numbers; None to read and write none.
        questions: values that JSON can hold.
        ask: gets the numbers of the questions to ask, and yields outcomes in batches; each batch is cached before the
            next is computed.

    Returns:
        An outcome for each question, in order.
    """
    keys = [key_of(question) for question in questions]
    known: dict[str, Outcome] = {}
    for key in dict.fromkeys(keys):
        if cache and (number := cache.get(key)) is not None:
            known[key] = number
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
    for batch in ask(sorted(first.values())) if first else ():
        outcomes = {keys[i]: outcome for i, outcome in batch.items()}
        known |= outcomes
        numbers = {k: v for k, v in outcomes.items() if not isinstance(v, str) and math.isfinite(v)}
        if cache and numbers:
            cache.put(numbers)
    return [known[key] for key in keys]
