"""Compute the lengths of answers, and find answers that are short or that begin alike."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefzoo.data.audits.findings import Flagged, flagged_rows
from prefzoo.data.audits.kinds import FEW_TOKENS, SAME_START
from prefzoo.data.tokens import TokenExample, TokenPair

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lengths:
    """Statistics of `n` numbers of tokens; all zero if `n` is 0.

    Attributes:
        p95: the 95th percentile, by the nearest-rank method.
    """

    n: int
    mean: float
    median: float
    p95: int
    longest: int


@dataclass(frozen=True)
class TokenAudit:
    """The results of an audit of token ids.

    Attributes:
        chosen, rejected: scored tokens per answer, end-of-turn included; for labelled answers, those of the desirable
            and of the undesirable ones.
        chosen_longer, rejected_longer: the share of pairs in which that answer has more scored tokens; 0 without pairs.
        differing: per pair, the length of the range in which the answers differ, in tokens of the longer answer; None
            without pairs.
        histogram: (upper bound, chosen answers, rejected answers) for each range of lengths: 1, 2, 3 to 4, 5 to 8, and
            so on, from the shortest to the longest answer.
        flagged: the odd rows, by kind; kinds without rows are left out.
    """

    chosen: Lengths
    rejected: Lengths
    chosen_longer: float
    rejected_longer: float
    differing: Lengths | None
    histogram: tuple[tuple[int, int, int], ...]
    flagged: tuple[Flagged, ...]


def measure_tokens(examples: Iterable[TokenExample]) -> TokenAudit:
    """Compute lengths and differences of answers, and find odd rows.

    Args:
        examples: pairs or labelled answers; they are read once and not stored.

    Returns:
        The statistics and the odd rows.
    """
    good, bad, pairs, differing = (array("q") for _ in range(4))
    short, same_start = array("q"), array("q")
    for example in examples:
        lengths = example.scored_lengths
        if isinstance(example, TokenPair):
            pairs.extend(lengths)
            start, span = _difference(example.chosen, example.rejected)
            differing.append(span)
            if start >= SAME_START:
                same_start.append(example.row)
        if isinstance(example, TokenPair) or example.label:
            good.append(lengths[0])
            if lengths[0] < FEW_TOKENS:
                short.append(example.row)
        if isinstance(example, TokenPair) or not example.label:
            bad.append(lengths[-1])
    both = _ints(pairs).reshape(-1, 2)
    kinds = (flagged_rows("short", _ints(short)), flagged_rows("same_start", _ints(same_start)))
    return TokenAudit(
        lengths_of(_ints(good)), lengths_of(_ints(bad)), _share(both[:, 0] > both[:, 1]),
        _share(both[:, 1] > both[:, 0]), lengths_of(_ints(differing)) if pairs else None,
        _histogram(_ints(good), _ints(bad)),
        tuple(one for one in kinds if len(one.rows)),
    )  # fmt: skip


def lengths_of(values: Ints) -> Lengths:
    """Return the statistics of numbers of tokens."""
    if not len(values):
        return Lengths(0, 0.0, 0.0, 0, 0)
    ordered = np.sort(values)
    rank = -(-95 * len(ordered) // 100)  # ceil(0.95 n), without rounding errors
    return Lengths(
        len(ordered), float(ordered.mean()), float(np.median(ordered)), int(ordered[rank - 1]), int(ordered[-1])
    )


def _histogram(good: Ints, bad: Ints) -> tuple[tuple[int, int, int], ...]:
    """Count the lengths of good and bad answers in doubling ranges; see `TokenAudit.histogram`."""
    doublings = [np.ceil(np.log2(np.maximum(side, 1))).astype(np.int64) for side in (good, bad)]
    everything = np.concatenate(doublings)
    if not len(everything):
        return ()
    first, last = int(everything.min()), int(everything.max())
    counts = [np.bincount(side, minlength=last + 1) for side in doublings]
    return tuple((2**k, int(counts[0][k]), int(counts[1][k])) for k in range(first, last + 1))


def _difference(first: list[int], second: list[int]) -> tuple[int, int]:
    """Return the number of equal first tokens, and the length of the longer answer between equal start and end."""
    most = min(len(first), len(second))
    start = next((i for i in range(most) if first[i] != second[i]), most)
    end = next((i for i in range(most - start) if first[-1 - i] != second[-1 - i]), most - start)
    return start, max(len(first), len(second)) - start - end


def _ints(values: array[int]) -> Ints:
    return np.frombuffer(values, np.int64) if values else np.empty(0, np.int64)


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
