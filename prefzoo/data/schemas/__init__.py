"""Schemas: the known shapes of rows. Each is one function in a module here or in an installed package.

TRL's are known: pairs with an explicit or an implicit prompt, single labelled answers; messages or strings.
"""

from prefzoo.data.schemas import labelled_answers, preference_pairs  # registers them
from prefzoo.data.schemas.normalise import describe, normalise, rename_columns
from prefzoo.data.schemas.registry import Schema, all_schemas, column_names, schema

__all__ = [
    "Schema",
    "all_schemas",
    "column_names",
    "describe",
    "labelled_answers",
    "normalise",
    "preference_pairs",
    "rename_columns",
    "schema",
]
