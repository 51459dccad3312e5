"""Draw the same random permutations as `torch.randperm` on a CPU, so that the order of rows does not need torch."""

from __future__ import annotations

from random import Random

WORDS = 624  # words in the state of a Mersenne Twister
BITS = 32
MASK = 2**BITS - 1


class Permutations:
    """A stream of permutations that depends only on a seed, and not on the version of any library."""

    def __init__(self, seed: int) -> None:
        """Begin the same stream as `torch.Generator().manual_seed(seed)`: a Mersenne Twister, seeded as in C++.

        Args:
            seed: Any integer; only its lowest 32 bits are used.
        """
        state = [seed & MASK]
        for i in range(1, WORDS):
            state.append((1_812_433_253 * (state[-1] ^ state[-1] >> 30) + i) & MASK)
        self._random = Random()
        self._random.setstate((3, (*state, WORDS), None))

    def next(self, size: int) -> list[int]:
        """Return the numbers below `size` in a random order."""
        numbers, draw = list(range(size)), self._random.getrandbits
        for i in range(size - 1):
            j = i + draw(BITS) % (size - i)
            numbers[i], numbers[j] = numbers[j], numbers[i]
        return numbers
