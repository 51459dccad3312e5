"""The data sets of `data.train` and `data.eval`: a name, a mapping, or a list of them that is mixed by weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from prefzoo.recipe.columns import Column, Format

SOURCE, SOURCES, TEXT = "kind: source", "kind: sources", "kind: text"  # marks in a fault's location
LONGEST = 64  # characters of a name
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
ENDINGS = (".jsonl.gz", ".jsonl", ".json", ".csv", ".parquet")
Text = Annotated[str, Field(min_length=1)]


def _check_name(value: str) -> str:
    if NAME.fullmatch(value):
        return value
    raise PydanticCustomError(
        "source_name",
        "names a source in metrics and tables (is {shown}): letters, digits, _ . - only, at most 64; like {near}",
        {"shown": repr(value), "near": repr(plain_name(value))},
    )


class Source(BaseModel):
    """One data set for training or measuring."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: Text
    name: Annotated[str, AfterValidator(_check_name)] | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    rows: Annotated[int, Field(gt=0)] | None = None
    format: Format | None = None
    columns: dict[Column, Text] = {}
    split: Text | None = None
    revision: Text | None = None
    streaming: bool = False

    @property
    def identity(self) -> tuple[Any, ...]:
        """The rows that a source reads, and how; no two sources may have the same."""
        return self.path, self.split, self.revision, self.format, tuple(sorted(self.columns.items()))


def _tag_of(value: Any) -> str:
    if isinstance(value, dict | Source):
        return SOURCE
    return SOURCES if isinstance(value, list | tuple) else TEXT


def _check_list(sources: list[Source]) -> list[Source]:
    """Refuse an empty list, a source or a name that is given twice, and weights that only some sources have."""
    if not sources:
        raise PydanticCustomError("sources", "is an empty list; name at least one data set, like [{path: pairs.jsonl}]")
    seen: dict[tuple[Any, ...], int] = {}
    for i, source in enumerate(sources):
        first = seen.setdefault(source.identity, i)
        if first != i:
            raise PydanticCustomError(
                "sources", "{path} is given twice, as {first} and as {second}; keep one, and give it the larger weight",
                {"path": source.path, "first": first, "second": i},
            )  # fmt: skip
    twice = [name for name, count in Counter(names_of(sources)).items() if count > 1]
    if twice:
        raise PydanticCustomError(
            "sources", "two sources are named {name}; give them different names", {"name": repr(twice[0])}
        )
    without = [str(i) for i, source in enumerate(sources) if source.weight is None]
    if 0 < len(without) < len(sources):
        raise PydanticCustomError(
            "sources", "some sources have a weight, and {which} has none; give one to all or to none",
            {"which": ", ".join(without)},
        )  # fmt: skip
    return sources


def _as_mapping(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Listed = Annotated[Source, BeforeValidator(_as_mapping, json_schema_input_type=Text | Source)]
DataSets = Annotated[
    Annotated[Text, Tag(TEXT)]
    | Annotated[Source, Tag(SOURCE)]
    | Annotated[list[Listed], AfterValidator(_check_list), Tag(SOURCES)],
    Discriminator(_tag_of),
]


def unweighted(value: str | Source | list[Source]) -> str | Source | list[Source]:
    """Refuse weights of held-out data: measurements use all rows of all sources."""
    if any(source.weight is not None for source in as_sources(value)):
        raise PydanticCustomError(
            "sources", "a weight sets how often training sees a source, and held-out pairs all count equally; remove it"
        )
    return value


def as_sources(value: str | Source | list[Source]) -> list[Source]:
    """Return what a recipe names as a list of sources."""
    return value if isinstance(value, list) else [Source(path=value) if isinstance(value, str) else value]


def names_of(sources: Sequence[Source]) -> list[str]:
    """Return the name of each source: its own, else its file's, else (where two files are called alike) its path."""
    short = [source.name or plain_name(_last_part(source.path)) for source in sources]
    return [
        own if source.name or short.count(own) == 1 else plain_name(source.path)
        for source, own in zip(sources, short, strict=True)
    ]


def plain_name(text: str) -> str:
    """Return a text as the name of a source: invalid characters become hyphens."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:LONGEST] or "data"


def _last_part(path: str) -> str:
    name = PurePosixPath(path.rstrip("/")).name
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)
