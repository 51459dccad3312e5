"""What `evals.judge` of a recipe may say: `verifier`, a user's function, or a mapping of one of three kinds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Judge(BaseModel):
    """A judge's settings: frozen, no unknown fields, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RewardJudge(Judge):
    """A sequence-classification checkpoint with one output; it sees one answer at a time."""

    kind: Literal["reward"]
    model: Text


class ModelJudge(Judge):
    """A local language model, judged by the log-probs of its two verdicts. `prompt` is a template's file."""

    kind: Literal["model"]
    model: Text
    prompt: Text | None = None


class ServerJudge(Judge):
    """A model behind an OpenAI-compatible API. The key comes from the environment variable `key`, never from here.

    `timeout` is in seconds, prices are in dollars per million tokens, `spend_limit` in dollars. A `temperature` or
    `max_tokens` of null is not sent.
    """

    kind: Literal["server"]
    url: Text
    model: Text
    prompt: Text | None = None
    key: str = "OPENAI_API_KEY"
    temperature: Amount | None = 0.0
    max_tokens: Count | None = 8
    workers: Count = 8
    tries: Count = 4
    timeout: Seconds = 60.0
    prompt_price: Amount | None = None
    answer_price: Amount | None = None
    spend_limit: Amount | None = None

    @field_validator("url")
    @classmethod
    def _no_secrets(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PydanticCustomError(
                "url", "must be an http address (is {shown}); like http://localhost:8000/v1", {"shown": repr(value)}
            )
        if parts.username or parts.password or parts.query:
            raise PydanticCustomError("url", "carries a secret or a query; put the key in an environment variable")
        return value.rstrip("/")

    @field_validator("key", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):  # not shown: it may be the key
            says = "must be the name, in capitals, of an environment variable that holds the key; like OPENAI_API_KEY"
            raise PydanticCustomError("key", says)
        return value

    @model_validator(mode="after")
    def _priced(self) -> ServerJudge:
        if self.spend_limit is not None and (self.prompt_price is None or self.answer_price is None):
            raise PydanticCustomError(
                "spend_limit", "spend_limit needs prompt_price and answer_price (dollars per million tokens); add them"
            )
        return self


KINDS: dict[str, type[Judge]] = {"reward": RewardJudge, "model": ModelJudge, "server": ServerJudge}


def tag(kind: str) -> str:
    """What stands in a fault's location for the kind; no field has such a name."""
    return f"[{kind}]"


TAGGED = {tag(kind): model for kind, model in KINDS.items()}


def _kind(value: Any) -> str | None:
    if isinstance(value, dict | Judge):
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        return tag(kind) if kind in KINDS else None
    return tag("text")


AnyJudge = Annotated[
    Annotated[Text, Tag(tag("text"))]
    | Annotated[RewardJudge, Tag(tag("reward"))]
    | Annotated[ModelJudge, Tag(tag("model"))]
    | Annotated[ServerJudge, Tag(tag("server"))],
    Discriminator(
        _kind,
        custom_error_type="judge_kind",
        custom_error_message="a mapping needs a known kind; write kind: reward, kind: model or kind: server",
    ),
]
