"""The registry of judges, built in or from plug-ins: the values that a recipe's `evals.judge` may have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from os.path import normpath
from pathlib import Path
from typing import Annotated, Any, ClassVar, Union, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    TypeAdapter,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from prefzoo.errors import UserError, did_you_mean
from prefzoo.runtime.plugins import load_entry_points

GROUP = "prefzoo.judges"
# By path, and imported only when a recipe needs them: a judge's settings stand beside the judge, in a higher layer.
BUILT_IN = {
    "verifier": "prefzoo.evals.judges.verifier:VerifierSettings",
    "reward": "prefzoo.evals.judges.reward:RewardSettings",
    "model": "prefzoo.evals.judges.causal:ModelSettings",
    "implicit": "prefzoo.evals.judges.implicit:ImplicitSettings",
    "server": "prefzoo.evals.judges.server:ServerSettings",
    "alpaca_eval": "prefzoo.evals.judges.alpaca_eval:AlpacaEvalSettings",
    "panel": "prefzoo.evals.judges.panel:PanelSettings",
}
PANEL = "panel"
ONE: dict[str, Any] = {"type": ["string", "object"]}  # a judge of a panel
DEFAULT = "verifier"  # known without importing anything
TAG = "kind: "  # starts the mark of a kind in a fault's location; no field's name starts with it

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class JudgeSettings(BaseModel):
    """A kind of judge: its settings, and how to load it. Frozen, no unknown fields, no silent conversion.

    A subclass declares `kind: Literal["..."]`, which recipes name it by, and defines `load`. A kind without further
    settings is written by its name alone (`judge: verifier`), any other as a mapping (`judge: {kind: server, ...}`).

    Attributes:
        without_effect: names of the settings that change no verdict, such as a time limit.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: str

    def identity(self) -> str:
        """Return what decides the verdicts, the same text for two spellings of one judge."""
        settings = self.model_dump(exclude=set(self.without_effect))
        return repr({k: normpath(v) if isinstance(v, str) else v for k, v in settings.items()})

    def load(self, folder: Path) -> Any:
        """Return the judge, a `prefzoo.evals.judges.Judge`. Paths in the settings are relative to `folder`.

        Raises:
            UserError: it cannot be loaded.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no load")


def names() -> list[str]:
    """Return the names of all kinds. Nothing is imported."""
    return list(dict.fromkeys([*BUILT_IN, *(point.name for point in entry_points(group=GROUP))]))


@lru_cache(maxsize=1)
def kinds() -> dict[str, type[JudgeSettings]]:
    """Return the settings of every kind, by its name. A broken plug-in is reported and left out."""
    registered = {name: EntryPoint(name, path, GROUP).load() for name, path in BUILT_IN.items()}

    def register(point: EntryPoint, settings: Any) -> str | None:
        fault = f"the kind {point.name!r} is taken; rename it" if point.name in registered else ""
        fault = fault or _fault(settings, point.name)
        if not fault:
            registered[point.name] = settings
        return fault

    load_entry_points(GROUP, register)
    return registered


def _fault(settings: Any, name: str) -> str:
    if not (isinstance(settings, type) and issubclass(settings, JudgeSettings)):
        return "it is not a subclass of JudgeSettings"
    if get_args(settings.model_fields["kind"].annotation) != (name,):
        return f'its settings need `kind: Literal["{name}"]`, the name of the entry point'
    return ""


def named(name: str) -> JudgeSettings:
    """Return the settings of a kind that is written by its name alone.

    Raises:
        UserError: there is no such kind, or it needs settings.
    """
    plain = _without_settings()
    if name in plain:
        return kinds()[name](kind=name)
    raise UserError(f"evals.judge: {_unknown(name)}")


def _unknown(name: str) -> str:
    plain, mappings = _without_settings(), with_settings()
    if name in mappings:
        return f"{name!r} needs settings; write a mapping, {{kind: {name}, ...}}"
    server = f"a model served by an API is a mapping, {{kind: server, url: ..., model: {name}}}"
    known = f"there are {', '.join(plain)}, my_judge.py:better, and mappings with kind: {', '.join(mappings)}"
    return f"no such judge: {name!r}{did_you_mean(name, plain) or f'; {known}; {server}'}"


def with_settings() -> dict[str, type[JudgeSettings]]:
    """Return the kinds that are written as a mapping."""
    return {name: settings for name, settings in kinds().items() if len(settings.model_fields) > 1}


def _without_settings() -> list[str]:
    return [name for name, settings in kinds().items() if len(settings.model_fields) == 1]


def as_written(keys: Sequence[str], value: Any) -> tuple[str, ...]:
    """Return the keys of a fault as the user wrote them: a panel that is written as a list has no `of`.

    Args:
        keys: lead to the fault.
        value: what they start from, in plain types.
    """
    written: list[str] = []
    for key in keys:
        if isinstance(value, list) and key == "of":
            continue
        written.append(key)
        if isinstance(value, list):
            value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return tuple(written)


def tag(kind: str) -> str:
    """Return the mark of a kind in a fault's location."""
    return TAG + kind


def _tag_of(value: Any) -> str | None:
    if isinstance(value, dict | JudgeSettings):
        kind = value.get("kind") if isinstance(value, dict) else value.kind
        return tag(kind) if isinstance(kind, str) and kind in with_settings() else None
    return tag("text")


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Any]:
    settings = with_settings()
    *most, last = (f"kind: {name}" for name in settings)
    options = [Annotated[model, Tag(tag(name))] for name, model in settings.items()]
    union: Any = Union[tuple([Annotated[Text, Tag(tag("text"))], *options])]  # noqa: UP007 - made of a list
    message = f"a mapping needs a known kind; write {', '.join(most)} or {last}"
    discriminator = Discriminator(_tag_of, custom_error_type="judge_kind", custom_error_message=message)
    return TypeAdapter(Annotated[union, discriminator])


def _validated(value: Any) -> Any:
    if isinstance(value, list):  # short for a panel
        value = {"kind": PANEL, "of": value}
    if isinstance(value, str) and value:
        if ":" not in value and value != DEFAULT and value not in _without_settings():
            raise PydanticCustomError("judge_name", "{fault}", {"fault": _unknown(value)})
        return value
    if isinstance(value, dict) and list(value) == ["kind"] and value["kind"] in _without_settings():
        return value["kind"]  # in one spelling
    return _adapter().validate_python(value, strict=True)


class _Registered:
    """Validates by the registry as it is when a recipe is read, not as it was when this module was imported."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(_adapter().core_schema), {"type": "array", "items": ONE, "minItems": 2}]}


class _OfPanel:
    """A judge of a panel: validated as a judge; its JSON schema would contain itself, so it is not spelled out."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(ONE)


def identity(judge: str | JudgeSettings) -> str:
    """Return what decides the verdicts of a judge as a recipe names it, the same text for two spellings of one."""
    return normpath(judge) if isinstance(judge, str) else judge.identity()


Member = Annotated[str | JudgeSettings, _OfPanel()]
AnyJudge = Annotated[str | JudgeSettings, _Registered()]
