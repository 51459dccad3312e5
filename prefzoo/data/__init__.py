"""Preference data, from a file or the hub to batches of token ids, with an audit of what was dropped or changed.

Names exported here need no torch; `prefzoo.data.batches` lays examples out for a forward pass.
"""

from prefzoo.data.examples import LabelledAnswer, Pair
from prefzoo.data.schemas import describe, normalise, schema
from prefzoo.data.sources import read_rows
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenAnswer, Tokenised, TokenPair

__all__ = [
    "LabelledAnswer",
    "Pair",
    "TokenAnswer",
    "TokenPair",
    "Tokenised",
    "describe",
    "normalise",
    "read_rows",
    "schema",
    "tokenise",
]
