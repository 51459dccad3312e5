"""Read preference data from a file or the hub, turn it into token ids and batches, and audit it.

The names exported here need no torch; `prefzoo.data.batches` turns examples into tensors for a forward pass.
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
