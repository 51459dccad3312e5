"""Fields of a recipe whose valid values depend on the registered schemas: names of columns and of formats."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from prefzoo.data.schemas import column_names, schema_names
from prefzoo.errors import did_you_mean


def _known_column(value: Any) -> Any:
    return SchemaValidator(core_schema.literal_schema(column_names())).validate_python(value)


class _SchemaColumn:
    """Validates by the schemas that are registered when a recipe is read, those of installed packages included."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_known_column)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core_schema.literal_schema(column_names()))


class _SchemaName:
    """Validates by the schemas that are registered when a recipe is read, those of installed packages included."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_known_format)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core_schema.literal_schema(schema_names()))


def _known_format(value: Any) -> str:
    names = schema_names()
    if value in names:
        return str(value)
    raise PydanticCustomError(
        "format",
        "no such format (is {shown}); `prefzoo data --formats` lists all{near}",
        {"shown": repr(value), "near": did_you_mean(str(value), names)},
    )


Column = Annotated[str, _SchemaColumn()]
Format = Annotated[str, _SchemaName()]
