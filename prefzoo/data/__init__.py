"""From a file or a hub to token ids: sources, schemas, tokens, batches, and an audit of what was lost on the way.

Exported here is what needs no torch; `prefzoo.data.batches` lays pairs out for a forward pass.
"""

from prefzoo.data.examples import LabelledAnswer, Pair
from prefzoo.data.schemas import describe, normalise, schema
from prefzoo.data.sources import read_rows
from prefzoo.data.tokens import TokenAnswer, Tokenised, TokenPair, tokenise

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
