"""Compute which tokens of a packed batch see which, once for all layers, in the formats of the attention kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import NamedTuple

import torch
from torch import Tensor

from prefzoo.types import to_device

Blocks = Sequence[tuple[int, int, int]]


class Sequences(NamedTuple):
    """The answers of a packed batch as N separate sequences, each with its prompt among its keys.

    Attributes:
        query_starts: (N + 1,) int32 index of each sequence's first query among the T tokens; the last entry is T.
        key_starts: (N + 1,) int32 index of each sequence's first key among the S gathered keys; the last entry is S.
        most_queries: Largest number of queries in a sequence.
        most_keys: Largest number of keys in a sequence.
        keys: (S,) index of the token of each gathered key; None if the keys are all tokens in their order.
    """

    query_starts: Tensor
    key_starts: Tensor
    most_queries: int
    most_keys: int
    keys: Tensor | None


class Padded(NamedTuple):
    """The blocks of a packed batch as rows of equal length.

    Attributes:
        tokens: (n * L,) index of the token at each position of the n rows of length L; 0 at unused positions.
        places: (T,) position of each token in the flattened rows.
        rows: Number of rows n.
    """

    tokens: Tensor
    places: Tensor
    rows: int


class BlockIndex:
    """The blocks of one packed batch on one device.

    Attributes:
        blocks: For each block the tokens of its prompt, first and second answer (0 without a second).
    """

    def __init__(self, blocks: Blocks) -> None:
        """Store the blocks; an index is computed when a layer first needs it.

        Args:
            blocks: For each block the tokens of its prompt, first and second answer.
        """
        self.blocks = tuple(blocks)
        self._sequences: dict[torch.device, Sequences] = {}
        self._padded: dict[torch.device, Padded] = {}
        self._masks: dict[tuple[torch.device, int | None], Tensor] = {}

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest prompt with one answer."""
        return max(prompt + max(first, second) for prompt, first, second in self.blocks)

    def sequences(self, device: torch.device) -> Sequences:
        """Return the answers as sequences; a second answer's keys are those of its prompt and its own."""
        if device not in self._sequences:
            self._sequences[device] = self._make_sequences(device)
        return self._sequences[device]

    def _make_sequences(self, device: torch.device) -> Sequences:
        queries, keys, order = [], [], []
        starts = accumulate((sum(block) for block in self.blocks), initial=0)
        for start, (prompt, first, second) in zip(starts, self.blocks, strict=False):
            middle, end = start + prompt + first, start + prompt + first + second
            queries.append(prompt + first)
            keys.append(prompt + first)
            order.append(range(start, middle))
            if second:
                queries.append(second)
                keys.append(prompt + second)
                order += [range(start, start + prompt), range(middle, end)]
        shared = any(second for _, _, second in self.blocks)

        starts_of_queries, starts_of_keys, order_of_keys = to_device(
            [
                torch.tensor([0, *accumulate(queries)], dtype=torch.int32),
                torch.tensor([0, *accumulate(keys)], dtype=torch.int32),
                torch.tensor(list(chain(*order)) if shared else []),
            ],
            device,
        )
        return Sequences(
            starts_of_queries, starts_of_keys, max(queries), max(keys), order_of_keys if shared else None
        )  # fmt: skip

    def padded(self, device: torch.device) -> Padded:
        """Return the blocks as rows of equal length."""
        if device not in self._padded:
            sizes = torch.tensor([sum(block) for block in self.blocks])
            column = torch.arange(int(sizes.max()))
            inside = column < sizes[:, None]
            tokens = torch.where(inside, column + (sizes.cumsum(0) - sizes)[:, None], 0)
            places = inside.flatten().nonzero().squeeze(1)
            at_tokens, at_places = to_device([tokens.flatten(), places], device)
            self._padded[device] = Padded(at_tokens, at_places, len(sizes))
        return self._padded[device]

    def mask(self, device: torch.device, window: int | None) -> Tensor:
        """Return the attention mask of the padded rows.

        Args:
            device: Device to put the mask on.
            window: Width of a sliding window in tokens; None for no window.

        Returns:
            (n, 1, L, L) mask, true where a query sees a key; every position sees itself.
        """
        window = None if window is None or window >= self.longest else window
        if (device, window) not in self._masks:
            self._masks[device, window] = self._make_mask(device, window)
        return self._masks[device, window]

    def _make_mask(self, device: torch.device, window: int | None) -> Tensor:
        prompt, first, _ = (part[:, None] for part in to_device([torch.tensor(self.blocks)], device)[0].unbind(1))
        at = torch.arange(max(map(sum, self.blocks)), device=device)
        second = at >= prompt + first  # also true at the unused positions after it
        position = torch.where(second, at - first, at)
        of_first = (at >= prompt) & ~second
        sees = (at <= at[:, None]) & ~(second[:, :, None] & of_first[:, None, :])
        if window is not None:
            sees &= position[:, :, None] - position[:, None, :] < window
        return sees[:, None]
