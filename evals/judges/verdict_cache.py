"""A cache for local judges. A killed judging continues where it stopped, and no question is asked twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefzoo.evals.judges.protocol import Outcome
from prefzoo.runtime.cache import Cache, key_of

Batch = Mapping[int, Outcome]  # outcomes by the index of the question


def cached_outcomes(
    cache: Cache | None, questions: Sequence[Any], ask: Callable[[Sequence[int]], Iterable[Batch]]
) -> list[Outcome]:
    """Return the outcome of each question, from the cache or from the judge, which answers equal questions once.

    Only finite numbers are cached. A question without one is asked again in the next call.

    Args:
        cache: the cache of the judge's numbers; None for no cache.
        questions: the questions, as values that JSON can hold.
        ask: called with the indices of the questions to ask; yields their outcomes in batches. Each batch is cached
            before the next is computed.

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
