"""Schemas, the known shapes of rows: each is a decorated function in a module here or in an installed package.

There are schemas for pairs with an explicit or implicit prompt, for single labelled answers, and for the formats of
public data sets and other tools, as text, messages or transcripts. `prefzoo data --formats` lists them all.
"""

from prefzoo.data.schemas import preference_pairs  # importing registers schemas, in this order

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
