"""Texts that are nearly the same as one of a set, by the sequences of words that they share.

Tülu 3 (arXiv:2411.15124) removes training data that shares more than half of a test instance's words in sequences of
eight. Prompts are shorter than test instances, so sequences of five are compared here, and a larger share must be the
same, in which a word counts the more, the fewer texts of the set have it: two prompts that ask the same of other things
differ in the words that tell. Sequences that many texts of the set have (a template around each question) tell nothing:
they are not compared, and of a text that has few others only an equal one is nearly the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

LENGTH = 5  # words of a sequence
SHARE = 0.8  # of a text's words, the rare ones weighing more, that another one must have in common sequences
ROUNDING = 1e-9
FEWEST = 8  # words of a text, below which all of them must be in common sequences
COMMON, COMMON_SHARE = 3, 0.05  # texts that may have a sequence, at least and as a share, before it is a template
# Scripts without blanks between words: each character of theirs stands for a word.
_ALONE = r"\u0e00-\u0eff\u2e80-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
BEGIN = np.uint64(42)  # bits of a hash behind those by which it is looked up first
_ODD = np.random.default_rng(0).integers(2**62, 2**63, LENGTH, np.uint64) | np.uint64(1)

Hashes = npt.NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


class NearTexts:
    """A set of texts, such as the prompts that are tested with, in which near-duplicates of others are found."""

    def __init__(self, texts: Iterable[tuple[int, Sequence[str]]]) -> None:
        """Index texts.

        Args:
            texts: number and words of each; of equal ones the first counts, and those without words are left out.
        """
        self._equal: dict[bytes, int] = {}  # digest of the words -> position
        self._numbers: list[int] = []
        hashed: list[Hashes] = []
        for number, words in texts:
            if words and self._equal.setdefault(_digest(words), len(self._numbers)) == len(self._numbers):
                self._numbers.append(number)
                hashed.append(_hashes(words))
        self._starts = np.cumsum([0, *map(len, hashed)])  # of each text among the words of all
        self._texts = np.repeat(np.arange(len(hashed), dtype=np.int32), np.diff(self._starts))
        self._weights = _rarity(np.concatenate(hashed) if hashed else np.empty(0, np.uint64), self._texts)
        sequences = [_sequences(one) for one in hashed]
        sizes = [len(one) for one in sequences]
        keys = np.concatenate(sequences) if sequences else np.empty(0, np.uint64)
        owners = np.repeat(np.arange(len(hashed), dtype=np.int32), sizes)
        places = np.concatenate([np.arange(n, dtype=np.int32) for n in sizes]) if sizes else np.empty(0, np.int32)
        keys, owners, places = _without_templates(keys, owners, places, max(COMMON, COMMON_SHARE * len(hashed)))
        self._whole = np.bincount(self._texts, self._weights, minlength=len(hashed))
        ascending = np.argsort(keys, kind="stable")
        self._begins = np.zeros(2 ** (64 - int(BEGIN)), bool)  # most hashes of other texts are told by their first bits
        self._begins[keys >> BEGIN] = True
        self._keys, self._owners, self._places = keys[ascending], owners[ascending], places[ascending]

    def _words(self, owners: npt.NDArray[np.int32], places: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the words, among those of all texts, that lie in the sequences at `places` of `owners`."""
        return np.unique((self._starts[owners] + places)[:, None] + np.arange(LENGTH))

    def match(self, words: Sequence[str]) -> int | None:
        """Return the number of a text that this one is nearly the same as, or contains; None if there is none.

        Args:
            words: of a text, which is compared with all of the set.
        """
        equal = self._equal.get(_digest(words)) if words else None
        if equal is not None:
            return self._numbers[equal]
        mine = _sequences(_hashes(words))
        mine = np.unique(mine[self._begins[mine >> BEGIN]])
        low = np.searchsorted(self._keys, mine)
        high = np.searchsorted(self._keys, mine, side="right")
        hits = [
            i for a, b in zip(low[low < high].tolist(), high[low < high].tolist(), strict=True) for i in range(a, b)
        ]
        if not hits:
            return None
        owners = np.unique(self._owners[hits])
        same = self._words(self._owners[hits], self._places[hits])
        shares = np.bincount(self._texts[same], self._weights[same])[owners] / self._whole[owners]
        enough = shares >= np.where(np.diff(self._starts)[owners] < FEWEST, 1, SHARE) - ROUNDING
        best = int(np.argmax(np.where(enough, shares, 0)))
        return self._numbers[int(owners[best])] if enough[best] else None


def _digest(words: Sequence[str]) -> bytes:
    return blake2b("\0".join(words).encode(errors="replace"), digest_size=8).digest()


def _hashes(words: Sequence[str]) -> Hashes:
    return np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)


def _sequences(hashes: Hashes) -> Hashes:
    """Return a hash of each sequence of `LENGTH` words, in order; none of a shorter text."""
    n = len(hashes) - LENGTH + 1
    if n <= 0:
        return np.empty(0, np.uint64)
    mixed = np.zeros(n, np.uint64)
    for i, odd in enumerate(_ODD):
        mixed += hashes[i : i + n] * odd
    return mixed ^ (mixed >> np.uint64(29))


def _rarity(words: Hashes, texts: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return a weight for each word: the fewer texts have it, the more it tells."""
    if not len(words):
        return np.empty(0)
    _, group = np.unique(words, return_inverse=True)
    having = np.bincount(np.unique(np.stack([group, texts]), axis=1)[0])
    return np.asarray(np.log1p((int(texts[-1]) + 1) / having) ** 2)[group]


def _without_templates(
    keys: Hashes, owners: npt.NDArray[np.int32], places: npt.NDArray[np.int32], most: float
) -> tuple[Hashes, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Leave out the sequences that more than `most` texts have."""
    _, group = np.unique(keys, return_inverse=True)
    pairs = np.unique(np.stack([group, owners]), axis=1)[0] if len(keys) else group
    kept = np.bincount(pairs, minlength=1)[group] <= most
    return keys[kept], owners[kept], places[kept]
