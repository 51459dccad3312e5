"""Schemas: the known shapes of rows. Each is one function in a module here or in an installed package.

`prefzoo data --formats` lists them: pairs with an explicit or an implicit prompt, single labelled answers, and the
shapes of public data sets and of other tools; as text, messages or transcripts.
"""

from prefzoo.data.schemas import preference_pairs  # registers its schemas, as the other modules do, in this order

from prefzoo.data.schemas import (  # isort: skip
    conversations,
    other_names,
    labelled_answers,
    transcripts,
    choices,
    rated,
    threads,
)
from prefzoo.data.schemas.columns import rename_columns
from prefzoo.data.schemas.normalise import Normalised, describe, normalise, read_examples
from prefzoo.data.schemas.registry import Schema, all_schemas, column_names, schema, schema_names

__all__ = [
    "Normalised",
    "Schema",
    "all_schemas",
    "choices",
    "column_names",
    "conversations",
    "describe",
    "labelled_answers",
    "normalise",
    "other_names",
    "preference_pairs",
    "rated",
    "read_examples",
    "rename_columns",
    "schema",
    "schema_names",
    "threads",
    "transcripts",
]
