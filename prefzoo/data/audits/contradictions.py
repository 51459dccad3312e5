"""Find rows that contradict or repeat each other, with 50 bytes of memory per row."""

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
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # one per digest of a row


class Contradictions:
    """Collect digests of rows with `add`, then compare them all with `flagged`."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._texts = [array("Q") for _ in range(3)]  # prompt, first answer, second answer (0 if there is none)
        self._scores = [array("d"), array("d")]
        self._labels = array("b")  # 1 or 0 for labelled answers, -1 for pairs

    def add(self, example: Example, prompt: Text, answers: Sequence[Text]) -> None:
        """Add the next example.

        Args:
            example: a pair or a labelled answer.
            prompt, answers: the result of `parts_of` for it.
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
        """Number of examples that repeat an earlier prompt, with any answers."""
        return len(self._rows) - len(np.unique(np.frombuffer(self._texts[0], np.uint64)))

    @property
    def ties(self) -> int | None:
        """Number of pairs with two equal scores; None if no pair has scores."""
        good, bad = (np.frombuffer(scores, np.float64) for scores in self._scores)
        return None if np.isnan(good).all() else int((good == bad).sum())

    def flagged(self) -> list[Flagged]:
        """Return the rows that contradict or repeat others, and those whose scores contradict their label, by kind."""
        rows = np.frombuffer(self._rows, np.int64)
        prompt, first, second = (np.frombuffer(texts, np.uint64) for texts in self._texts)
        labels = np.frombuffer(self._labels, np.int8)
        good, bad = (np.frombuffer(scores, np.float64) for scores in self._scores)
        whole = _mix(prompt, first, second)
        untied = good != bad  # a tie prefers neither answer
        pairs, singles = labels < 0, labels >= 0
        swapped, partners = _matches(_mix(prompt, second, first), whole, untied & (labels < 0))
        disputed, others = _both_sides(prompt, np.stack([first, first]), np.stack([labels > 0, labels <= 0]) & singles)
        circle, next_pairs = _circles(prompt, first, second, pairs & untied)
        circle &= ~swapped
        torn, opposite = _both_sides(prompt, np.stack([first, second]), np.stack([pairs, pairs]) & untied, (good, bad))
        torn &= ~(swapped | circle)
        again, earlier = _repeats(whole ^ labels.astype(np.uint64))
        against = good < bad
        return [
            flagged_rows("swapped", rows[swapped], rows[partners[swapped]]),
            flagged_rows("disputed", rows[disputed], rows[others[disputed]]),
            flagged_rows("circle", rows[circle], rows[next_pairs[circle]]),
            flagged_rows("both_sides", rows[torn], rows[opposite[torn]]),
            flagged_rows("duplicates", rows[again], rows[earlier[again]]),
            flagged_rows("conflicts", rows[against]),
        ]


def _mix(*keys: Keys) -> Keys:
    """Combine up to three digests per row into one that depends on their order."""
    mixed = sum(key * np.uint64(multiplier) for key, multiplier in zip(keys, MULTIPLIERS, strict=False))
    return np.asarray(mixed, np.uint64)


def _matches(wanted: Keys, keys: Keys, eligible: Flags) -> tuple[Flags, npt.NDArray[np.intp]]:
    """Return flags of the eligible rows whose `wanted` is an eligible row's key, and the first such row of each."""
    places = np.flatnonzero(eligible)
    if not len(places):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.intp)
    ascending = places[np.argsort(keys[places], kind="stable")]
    at = np.minimum(np.searchsorted(keys[ascending], wanted), len(ascending) - 1)
    return (keys[ascending][at] == wanted) & eligible, ascending[at]


def _repeats(keys: Keys) -> tuple[Flags, npt.NDArray[np.intp]]:
    """Return flags of the keys that occurred before, and the first position of each key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    earlier = first[inverse]
    return earlier != np.arange(len(keys)), earlier


def _circles(
    prompt: Keys, chosen: Keys, rejected: Keys, eligible: Flags
) -> tuple[Flags, npt.NDArray[np.intp]]:  # fmt: skip
    """Return flags of the eligible pairs in a circle, like A over B, B over C, C over A; and the next pair of each.

    The next pair is the first one in a circle that chooses the answer that this pair rejects.
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
    """Return flags of rows with an answer that is good in one row and bad in another, and one opposite row for each.

    Args:
        prompt: (N,) digests of the prompts.
        texts: (2, N) digests of each row's good and bad answer.
        eligible: (2, N) whether each of these answers counts.
        scores: (N,) scores of the good and of the bad answers. An answer with the same score in all its rows does not
            count: it is in the middle of a ranking.
    """
    flags, others = np.zeros(len(prompt), bool), np.zeros(len(prompt), np.intp)
    side, owner = np.nonzero(eligible)
    if not len(owner):
        return flags, others
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
    flags[owner[which]] = True
    others[owner[which]] = np.where(side[which] == 0, first[1][group[which]], first[0][group[which]])
    return flags, others


def _rated_alike(score: Floats, group: npt.NDArray[np.intp], size: int) -> Flags:
    """Return flags of the groups with a single distinct score; a missing score (NaN) equals no other."""
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, group, np.where(np.isnan(score), -np.inf, score))
    np.maximum.at(high, group, np.where(np.isnan(score), np.inf, score))
    return np.asarray(low == high, bool)
