"""Rows that contradict or repeat each other. Of each row 50 bytes are kept, so that a million take 50 MB."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import nan

import numpy as np
import numpy.typing as npt

from prefzoo.data.audits.findings import Flagged, flagged_rows
from prefzoo.data.audits.texts import digest
from prefzoo.data.examples import Example, Pair, Text

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # multipliers that mix digests, in their order


class Contradictions:
    """Collects the digests of rows, and compares them once all are there."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._texts = [array("Q") for _ in range(3)]  # prompt, answer, the other answer (0 without)
        self._scores = [array("d"), array("d")]
        self._labels = array("b")  # of a single answer; -1 for pairs

    def add(self, example: Example, prompt: Text, answers: Sequence[Text]) -> None:
        """Take the next row.

        Args:
            example: the row.
            prompt, answers: its `parts_of`.
        """
        keys = [digest(prompt, "user"), *(digest(answer, "assistant") for answer in answers), 0][:3]
        for texts, key in zip(self._texts, keys, strict=True):
            texts.append(key)
        scores = example.scores if isinstance(example, Pair) and example.scores else (nan, nan)
        for column, score in zip(self._scores, scores, strict=True):
            column.append(score)
        self._rows.append(example.row)
        self._labels.append(-1 if isinstance(example, Pair) else example.label)

    @property
    def repeated_prompts(self) -> int:
        """Number of rows that repeat an earlier prompt, whatever the answers."""
        return len(self._rows) - len(np.unique(np.frombuffer(self._texts[0], np.uint64)))

    @property
    def ties(self) -> int | None:
        """Number of rows with two equal scores; None without scores."""
        good, bad = (np.frombuffer(scores, np.float64) for scores in self._scores)
        return None if np.isnan(good).all() else int((good == bad).sum())

    def flagged(self) -> list[Flagged]:
        """Return the rows that contradict others, that repeat others, and whose scores contradict their label."""
        rows = np.frombuffer(self._rows, np.int64)
        prompt, first, second = (np.frombuffer(texts, np.uint64) for texts in self._texts)
        labels = np.frombuffer(self._labels, np.int8)
        good, bad = (np.frombuffer(scores, np.float64) for scores in self._scores)
        whole = _mix(prompt, first, second)
        stands = good != bad  # a tie prefers neither answer
        pairs, singles = labels < 0, labels >= 0
        swapped, partners = _matches(_mix(prompt, second, first), whole, stands & (labels < 0))
        disputed, others = _both_sides(prompt, np.stack([first, first]), np.stack([labels > 0, labels <= 0]) & singles)
        circle, against_it = _circles(prompt, first, second, pairs & stands)
        circle &= ~swapped
        turned, turning = _both_sides(prompt, np.stack([first, second]), np.stack([pairs, pairs]) & stands, (good, bad))
        turned &= ~(swapped | circle)
        again, earlier = _repeats(whole ^ labels.astype(np.uint64))
        against = good < bad
        return [
            flagged_rows("swapped", rows[swapped], rows[partners[swapped]]),
            flagged_rows("disputed", rows[disputed], rows[others[disputed]]),
            flagged_rows("circle", rows[circle], rows[against_it[circle]]),
            flagged_rows("both_sides", rows[turned], rows[turning[turned]]),
            flagged_rows("duplicates", rows[again], rows[earlier[again]]),
            flagged_rows("conflicts", rows[against]),
        ]


def _mix(*keys: Keys) -> Keys:
    mixed = sum(key * np.uint64(odd) for key, odd in zip(keys, ODD, strict=False))
    return np.asarray(mixed, np.uint64)


def _matches(wanted: Keys, keys: Keys, eligible: Flags) -> tuple[Flags, npt.NDArray[np.intp]]:
    """Return which `wanted` are among the eligible `keys`, and the first position of each."""
    places = np.flatnonzero(eligible)
    if not len(places):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.intp)
    ascending = places[np.argsort(keys[places], kind="stable")]
    at = np.minimum(np.searchsorted(keys[ascending], wanted), len(ascending) - 1)
    return (keys[ascending][at] == wanted) & eligible, ascending[at]


def _repeats(keys: Keys) -> tuple[Flags, npt.NDArray[np.intp]]:
    """Return which keys stood before, and the first position of each."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    earlier = first[inverse]
    return earlier != np.arange(len(keys)), earlier


def _circles(
    prompt: Keys, chosen: Keys, rejected: Keys, eligible: Flags
) -> tuple[Flags, npt.NDArray[np.intp]]:  # fmt: skip
    """Return which eligible pairs are part of a circle, like A over B, B over C, C over A; and the next pair of each.

    The next pair of a row is the first one in the same circles that chooses what the row rejects.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    inside, following = np.zeros(len(prompt), bool), np.zeros(len(prompt), np.intp)
    rows = np.flatnonzero(eligible & (chosen != rejected))
    if not len(rows):
        return inside, following
    sides = [_mix(prompt[rows], side[rows]) for side in (chosen, rejected)]
    _, answers = np.unique(np.concatenate(sides), return_inverse=True)
    better, worse = answers.reshape(2, -1)
    size = int(answers.max()) + 1
    graph = coo_array((np.ones(len(rows), np.int8), (better, worse)), (size, size))
    _, component = connected_components(graph, directed=True, connection="strong")
    ours = np.flatnonzero(component[better] == component[worse])
    first = np.full(size, -1, np.intp)  # the first pair of each answer that is chosen in a circle
    first[better[ours][::-1]] = rows[ours][::-1]
    inside[rows[ours]] = True
    following[rows[ours]] = first[worse[ours]]
    return inside, following


def _both_sides(
    prompt: Keys, texts: Keys, eligible: Flags, scores: tuple[Floats, Floats] | None = None
) -> tuple[Flags, npt.NDArray[np.intp]]:  # fmt: skip
    """Return which rows have an answer that is good there and bad elsewhere, and such another row for each.

    Args:
        prompt: (N,) of each row.
        texts: (2, N) the answer that is good in a row, and the one that is bad.
        eligible: (2, N) whether each counts.
        scores: of both; an answer that has the same score wherever it stands is just in the middle of a ranking.
    """
    torn, others = np.zeros(len(prompt), bool), np.zeros(len(prompt), np.intp)
    side, owner = np.nonzero(eligible)
    if not len(owner):
        return torn, others
    _, group = np.unique(_mix(prompt[owner], texts[side, owner]), return_inverse=True)
    size = int(group.max()) + 1
    first = [np.full(size, -1, np.intp) for _ in range(2)]  # the first good and the first bad row of each answer
    for number in (0, 1):
        mine = np.flatnonzero(side == number)[::-1]
        first[number][group[mine]] = owner[mine]
    both = (first[0] >= 0) & (first[1] >= 0)
    if scores is not None:
        both &= ~_rated_alike(np.stack(scores)[side, owner], group, size)
    which = np.flatnonzero(both[group])
    torn[owner[which]] = True
    others[owner[which]] = np.where(side[which] == 0, first[1][group[which]], first[0][group[which]])
    return torn, others


def _rated_alike(score: Floats, group: npt.NDArray[np.intp], size: int) -> Flags:
    """Return which groups have one score alone; a missing one equals no other."""
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, group, np.where(np.isnan(score), -np.inf, score))
    np.maximum.at(high, group, np.where(np.isnan(score), np.inf, score))
    return np.asarray(low == high, bool)
