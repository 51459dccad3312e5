"""Flip a share of the labels, to test how a loss copes with label noise of a known rate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from prefzoo.data.examples import Example, LabelledAnswer, Pair
from prefzoo.data.views import changed

FLIPPED = "labels flipped (data.flip_labels)"


def flip_labels(examples: Sequence[Example], share: float) -> tuple[Sequence[Example], Counter[str]]:
    """Swap chosen and rejected in a share of the pairs; negate the label in a share of single answers.

    A hash of a row's texts decides whether it is flipped, so the flips depend neither on a seed nor on the order of
    the rows. Rows that are flipped at a small share are also flipped at any larger one.

    Args:
        examples: N pairs or labelled answers.
        share: the probability that a row is flipped, from 0 to 1.

    Returns:
        The N examples in the same order, and the number of flipped ones under the key `FLIPPED`.
    """
    if not share:
        return examples, Counter()
    flipped = sum(_drawn(example, share) for example in examples)
    return changed(examples, lambda one: _flipped(one) if _drawn(one, share) else one), Counter({FLIPPED: flipped})


def _drawn(example: Example, share: float) -> bool:
    answers = [example.chosen, example.rejected] if isinstance(example, Pair) else [example.completion]
    text = json.dumps([example.prompt, sorted(answers, key=json.dumps)], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) < share * 2**64


def _flipped(example: Example) -> Example:
    if isinstance(example, LabelledAnswer):
        return replace(example, label=not example.label)
    scores, quantiles = example.scores, example.quantiles
    return replace(
        example, chosen=example.rejected, rejected=example.chosen, scores=scores and (scores[1], scores[0]),
        quantiles=quantiles and (quantiles[1], quantiles[0]),
    )  # fmt: skip
