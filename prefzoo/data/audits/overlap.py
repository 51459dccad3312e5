"""Find near-duplicates of a set of texts, by the word sequences that they have in common.

Tülu 3 (arXiv:2411.15124) removes training data that has more than half of a test instance's words in common sequences
of eight words. Prompts are shorter than test instances, so this module compares sequences of five words and requires a
larger share of common words. Rare words weigh more in that share, because two prompts that ask the same question about
different things differ in their rare words. Sequences that many texts of the set have (a template around each question)
are ignored. A text that consists mostly of such sequences has no near-duplicates but equal texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

LENGTH = 5  # words per sequence
SHARE = 0.8  # weighted share of a text's words that must be in common sequences
ROUNDING = 1e-9
FEWEST = 8  # in a text with fewer words, all must be in common sequences
COMMON, COMMON_SHARE = 3, 0.05  # a sequence in more than 3 and more than 5% of the texts is a template
# Scripts without spaces between words: each of their characters counts as a word.
_ALONE = r"\u0e00-\u0eff\u2e80-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
LOW_BITS = np.uint64(42)  # of a hash; the other bits index a table that quickly rules out most hashes
_MULTIPLIERS = np.random.default_rng(0).integers(2**62, 2**63, LENGTH, np.uint64) | np.uint64(1)

Hashes = npt.NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


class NearTexts:
    """An index of a set of texts, such as test prompts, to find near-duplicates of other texts in it."""

    def __init__(self, texts: Iterable[tuple[int, Sequence[str]]]) -> None:
        """Index texts.

        Args:
            texts: (number, words) of each text. Of equal texts, only the first is indexed; empty ones are not.
        """
        self._equal: dict[bytes, int] = {}  # digest of the words -> position
        self._numbers: list[int] = []
        hashed: list[Hashes] = []
        for number, words in texts:
            if words and self._equal.setdefault(_digest(words), len(self._numbers)) == len(self._numbers):
                self._numbers.append(number)
                hashed.append(_hashes(words))
        self._starts = np.cumsum([0, *map(len, hashed)])  # of each text in the concatenation of all words
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
        self._begins = np.zeros(2 ** (64 - int(LOW_BITS)), bool)
        self._begins[keys >> LOW_BITS] = True
        self._keys, self._owners, self._places = keys[ascending], owners[ascending], places[ascending]

    def _words(self, owners: npt.NDArray[np.int32], places: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the positions of words in the sequences at `places` of `owners`, counted through all texts."""
        return np.unique((self._starts[owners] + places)[:, None] + np.arange(LENGTH))

    def match(self, words: Sequence[str]) -> int | None:
        """Return the number of the indexed text that a text nearly equals or contains; None if there is none.

        Args:
            words: the words of the text.
        """
        equal = self._equal.get(_digest(words)) if words else None
        if equal is not None:
            return self._numbers[equal]
        mine = _sequences(_hashes(words))
        mine = np.unique(mine[self._begins[mine >> LOW_BITS]])
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
    """Return a hash of each sequence of `LENGTH` words, in order; empty for a shorter text."""
    n = len(hashes) - LENGTH + 1
    if n <= 0:
        return np.empty(0, np.uint64)
    mixed = np.zeros(n, np.uint64)
    for i, multiplier in enumerate(_MULTIPLIERS):
        mixed += hashes[i : i + n] * multiplier
    return mixed ^ (mixed >> np.uint64(29))


def _rarity(words: Hashes, texts: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return the weight of each word, which is higher the fewer texts contain it."""
    if not len(words):
        return np.empty(0)
    _, group = np.unique(words, return_inverse=True)
    having = np.bincount(np.unique(np.stack([group, texts]), axis=1)[0])
    return np.asarray(np.log1p((int(texts[-1]) + 1) / having) ** 2)[group]


def _without_templates(
    keys: Hashes, owners: npt.NDArray[np.int32], places: npt.NDArray[np.int32], most: float
) -> tuple[Hashes, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Remove the sequences that more than `most` texts contain."""
    _, group = np.unique(keys, return_inverse=True)
    pairs = np.unique(np.stack([group, owners]), axis=1)[0] if len(keys) else group
    kept = np.bincount(pairs, minlength=1)[group] <= most
    return keys[kept], owners[kept], places[kept]
