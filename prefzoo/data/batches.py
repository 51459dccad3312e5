"""Choose the order in which training sees the examples, and lay their token ids out as a `PairBatch`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Literal, NamedTuple

from prefzoo.data.mixtures import quotas
from prefzoo.data.tokens import TokenExample
from prefzoo.runtime.lazy_torch import torch
from prefzoo.runtime.permutations import Permutations
from prefzoo.types import CHOSEN, PADDING, PROMPT, REJECTED, PairBatch

Layout = Literal["shared", "packed", "rows"]


def order(examples: int, batch: int, steps: int, seed: int) -> list[list[int]]:
    """Choose the examples of each optimiser step, in random order; no example repeats before all were seen once.

    Args:
        examples: number of examples.
        batch: examples per step.
        steps: number of steps.
        seed: seed of the order. The order depends on (examples, batch, seed) only, so it is the same for all variants
            of a recipe.

    Returns:
        For each step, the indices of its `batch` examples.
    """
    stream: list[int] = []
    permutations = Permutations(seed)
    while len(stream) < batch * steps:
        stream += permutations.next(examples)
    return [stream[i * batch : (i + 1) * batch] for i in range(steps)]


def mixed_order(
    sources: Sequence[Sequence[int]], weights: Sequence[float], batch: int, steps: int, seed: int
) -> list[list[int]]:
    """Choose the examples of each optimiser step from several weighted sources.

    An epoch has as many examples as all sources together, divided by `quotas`. Across epochs, no example of a source
    repeats before all its examples were seen once: those that do not fit into one epoch come in the next.

    Args:
        sources: the indices of each source's examples.
        weights: the weight of each source.
        batch: examples per step.
        steps: number of steps.
        seed: seed of the order, which depends on all arguments but `steps`.

    Returns:
        For each step, the indices of its `batch` examples.
    """
    permutations = Permutations(seed)
    shares = quotas(weights, sum(map(len, sources)))
    waiting: list[list[int]] = [[] for _ in sources]
    stream: list[int] = []
    while len(stream) < batch * steps:
        epoch: list[int] = []
        for rows, queue, share in zip(sources, waiting, shares, strict=True):
            while len(queue) < share:
                queue += [rows[i] for i in permutations.next(len(rows))]
            epoch += queue[:share]
            del queue[:share]
        stream += [epoch[i] for i in permutations.next(len(epoch))]
    return [stream[i * batch : (i + 1) * batch] for i in range(steps)]


def collate(examples: Sequence[TokenExample], layout: Layout, *, pad: int) -> PairBatch:
    """Lay B pairs or labelled answers out for one forward pass; a labelled answer takes the place of the chosen one.

    Args:
        examples: B pairs or labelled answers, each with a prompt of one token or more.
        layout: `shared`: one packed row, with a block (prompt, chosen, rejected) per pair. `packed`: one packed row,
            with a block (prompt, answer) per answer, all chosen ones first. `rows`: a padded row per answer, for
            architectures whose attention does not support blocks.
        pad: token id for padding; `rows` only.

    Returns:
        The batch, on the CPU.

    Raises:
        ValueError: an example has an empty prompt, so no token predicts the first token of its answers.
    """
    if not all(example.prompt for example in examples):
        raise ValueError("an example with an empty prompt cannot be scored; tokenise() returns none")
    count = len(examples)
    rows = [_Row(example.prompt) for example in examples]
    placed: list[_Placed] = []
    for i, example in enumerate(examples):
        placed.append(_Placed(i, example, 0, rows[i], rows[i].append(example.answers[0], CHOSEN)))
    for i, example in enumerate(examples):
        for rejected in example.answers[1:]:
            row = rows[i] if layout == "shared" else _Row(example.prompt)
            rows += [] if layout == "shared" else [row]
            placed.append(_Placed(count + i, example, 1, row, row.append(rejected, REJECTED)))
    width = max(len(row.tokens) for row in rows) if layout == "rows" else 0
    starts, at = {}, 0
    for row in rows:
        row.pad(width, pad)
        starts[id(row)], at = at, at + len(row.tokens)
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    for number, example, side, row, begin in placed:
        first, answer = starts[id(row)], example.answers[side]
        flags = example.scored and example.scored[side]
        # the first answer token is predicted by the last prompt token, each other by the token before it
        before = [first + row.prompt - 1, *range(first + begin, first + begin + len(answer) - 1)]
        source += compress(before, flags) if flags else before
        targets += compress(answer, flags) if flags else answer
        owner += [number] * (sum(flags) if flags else len(answer))
    shape = (-1, width) if layout == "rows" else (1, -1)
    tokens, positions, segments = (
        torch.tensor([x for row in rows for x in getattr(row, name)]).view(shape)
        for name in ("tokens", "positions", "segments")
    )
    lengths = torch.bincount(torch.tensor(owner), minlength=2 * count)
    return PairBatch(
        tokens, positions, segments, torch.tensor(source), torch.tensor(targets), torch.tensor(owner),
        torch.tensor([e.row for e in examples]), lengths, int(lengths.max()),
        () if layout == "rows" else tuple(row.block() for row in rows),
    )  # fmt: skip


class _Placed(NamedTuple):
    """An answer and its position in a row.

    Attributes:
        owner: index of the answer in the batch: i for the chosen answer of example i, B + i for its rejected one.
        example: its example.
        side: 0 for the first answer of the example, 1 for the second.
        row: the row that it is in.
        begin: index of its first token in the row.
    """

    owner: int
    example: TokenExample
    side: int
    row: _Row
    begin: int


class _Row:
    """A prompt, followed by one answer or two."""

    def __init__(self, prompt: list[int]) -> None:
        self.prompt = len(prompt)
        self.tokens, self.positions = list(prompt), list(range(len(prompt)))
        self.segments = [PROMPT] * len(prompt)
        self.answers: list[int] = []

    def append(self, answer: list[int], segment: int) -> int:
        """Append an answer, with positions that continue the prompt's, and return the index of its first token."""
        begin = len(self.tokens)
        self.tokens += answer
        self.positions += range(self.prompt, self.prompt + len(answer))
        self.segments += [segment] * len(answer)
        self.answers.append(len(answer))
        return begin

    def pad(self, width: int, token: int) -> None:
        """Add padding up to `width` tokens."""
        more = width - len(self.tokens)
        self.tokens += [token] * more
        self.positions += [0] * more
        self.segments += [PADDING] * more

    def block(self) -> tuple[int, int, int]:
        """Return the numbers of tokens of the prompt, the first answer and the second (0 if there is none)."""
        first, second = (*self.answers, 0)[:2]
        return self.prompt, first, second


def split(examples: Sequence[TokenExample], rows: Sequence[int], budget: int, most: int | None) -> list[list[int]]:
    """Split the examples of a step into forward passes, keeping their order.

    Args:
        examples: all examples.
        rows: indices of the step's examples.
        budget: most tokens per pass; an example with more tokens is a pass of its own.
        most: most examples per pass; None for no limit.

    Returns:
        The indices of each pass.
    """
    parts: list[list[int]] = []
    used = 0
    for i in rows:
        size = examples[i].total_tokens
        if not parts or used + size > budget or len(parts[-1]) == most:
            parts.append([])
            used = 0
        parts[-1].append(i)
        used += size
    return parts
