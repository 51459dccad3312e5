"""From a file or a hub to token ids: sources, schemas, tokens, batches, and an audit of what was lost on the way.

Exported here is what needs no torch; `prefzoo.data.batches` lays pairs out for a forward pass.
"""

from prefzoo.data.schemas import Pair, normalise, schema
from prefzoo.data.sources import read_rows
from prefzoo.data.tokens import Tokenised, TokenPair, tokenise

__all__ = ["Pair", "TokenPair", "Tokenised", "normalise", "read_rows", "schema", "tokenise"]
