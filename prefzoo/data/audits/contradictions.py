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
        swapped, partners = _matches(_mix(prompt, second, first), whole, stands & (labels < 0))
        disputed, others = _disputed(prompt, (first, second), (good, bad), labels, stands)
        disputed &= ~swapped
        again, earlier = _repeats(whole ^ labels.astype(np.uint64))
        against = good < bad
        return [
            flagged_rows("swapped", rows[swapped], rows[partners[swapped]]),
            flagged_rows("disputed", rows[disputed], rows[others[disputed]]),
            flagged_rows("duplicates", rows[again], rows[earlier[again]]),
            flagged_rows("conflicts", rows[against]),
        ]


def _mix(*keys: Keys) -> Keys:
    mixed = sum(key * np.uint64(odd) for key, odd in zip(keys, ODD, strict=False))
    return np.asarray(mixed, np.uint64)


def _matches(
    wanted: Keys, keys: Keys, eligible: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return which `wanted` are among the eligible `keys`, and the first position of each."""
    places = np.flatnonzero(eligible)
    if not len(places):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.intp)
    ascending = places[np.argsort(keys[places], kind="stable")]
    at = np.minimum(np.searchsorted(keys[ascending], wanted), len(ascending) - 1)
    return (keys[ascending][at] == wanted) & eligible, ascending[at]


def _repeats(keys: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return which keys stood before, and the first position of each."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    earlier = first[inverse]
    return earlier != np.arange(len(keys)), earlier


def _disputed(
    prompt: Keys, answers: tuple[Keys, Keys], scores: tuple[Floats, Floats], labels: npt.NDArray[np.int8],
    stands: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:  # fmt: skip
    """Return which rows have an answer that is good there and bad elsewhere, and such another row for each.

    An answer that has the same score wherever it stands is not disputed: it is in the middle of a ranking.
    """
    n = len(prompt)
    pairs = np.flatnonzero((labels < 0) & stands)
    singles = np.flatnonzero(labels >= 0)
    owners = np.concatenate([pairs, pairs, singles])
    good = np.concatenate([np.ones(len(pairs), bool), np.zeros(len(pairs), bool), labels[singles] > 0])
    text = np.concatenate([answers[0][pairs], answers[1][pairs], answers[0][singles]])
    score = np.concatenate([scores[0][pairs], scores[1][pairs], np.full(len(singles), nan)])
    disputed, others = np.zeros(n, bool), np.zeros(n, np.intp)
    if not len(owners):
        return disputed, others
    _, group = np.unique(_mix(prompt[owners], text), return_inverse=True)
    size = int(group.max()) + 1
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, group, np.where(np.isnan(score), -np.inf, score))  # a missing score equals no other
    np.maximum.at(high, group, np.where(np.isnan(score), np.inf, score))
    ranked = low == high
    first = [np.full(size, -1, np.intp) for _ in range(2)]  # the first bad, and the first good one of each group
    for side in (0, 1):
        mine = np.flatnonzero(good == side)[::-1]
        first[side][group[mine]] = owners[mine]
    torn = (first[0] >= 0) & (first[1] >= 0) & ~ranked
    which = np.flatnonzero(torn[group])
    disputed[owners[which]] = True
    others[owners[which]] = np.where(good[which], first[0][group[which]], first[1][group[which]])
    return disputed, others
