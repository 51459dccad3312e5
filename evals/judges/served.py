"""What judges behind an OpenAI-compatible server share: address and key, prices, and why a call failed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

from prefzoo.errors import UserError
from prefzoo.recipe.judge import Amount, Count, JudgeSettings, Seconds, Text

BUSY = (408, 409, 425, 429)  # and all from 500: worth another try
HOPELESS = (401, 403, 404)  # no call to this address will ever succeed
LONGEST_PAUSE = 60.0  # seconds between two tries
PER_TOKEN = 3  # characters, for the estimate: fewer than in most texts, so that it errs on the dear side
UNREACHABLE = "no connection"
NO_COMPLETION = "the reply is not a chat completion"


class ServedSettings(JudgeSettings):
    """Where a server is, how often it is asked, and what it may cost.

    The key comes from the environment variable `key`, never from here. `timeout` is in seconds, prices are in dollars
    per million tokens, `spend_limit` in dollars.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"key", "workers", "tries", "timeout", "prompt_price", "answer_price", "spend_limit"}
    )

    url: Text
    key: str = "OPENAI_API_KEY"
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
    def _variable_name(cls, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):  # not shown: it may be the key
            message = (
                "must be the name, in capitals, of an environment variable that holds the key; like OPENAI_API_KEY"
            )
            raise PydanticCustomError("key", message)
        return value

    @model_validator(mode="after")
    def _priced(self) -> ServedSettings:
        if self.spend_limit is not None and (self.prompt_price is None or self.answer_price is None):
            raise PydanticCustomError(
                "spend_limit", "spend_limit needs prompt_price and answer_price (dollars per million tokens); add them"
            )
        return self

    @property
    def after(self) -> str:
        """After how many tries a call has failed, in words."""
        return "1 try" if self.tries == 1 else f"{self.tries} tries"

    @property
    def host(self) -> str:
        """The server's name and port."""
        return urlsplit(self.url).netloc

    def api_key(self) -> str:
        """Return the key from the environment; a server on this machine commonly wants none.

        Raises:
            UserError: the server is on another machine, and the variable is empty.
        """
        key = os.environ.get(self.key, "")
        if not key and urlsplit(self.url).hostname not in ("localhost", "127.0.0.1", "::1"):
            raise UserError(f"evals.judge: the environment variable {self.key} is empty; export the key of {self.host}")
        return key or "none"


@dataclass(frozen=True)
class Fault:
    """Why a call failed, whether another try is worth it, and how many seconds the server asks to wait.

    `billed`: whether the server may well have done, and bill, the work.
    """

    reason: str
    again: bool = True
    wait: float = 0.0
    billed: bool = False


def fault_of(error: Exception, settings: ServedSettings, name: str) -> Fault:
    """Return what an exception of the client means. The server's own words are left out: some repeat the key.

    Args:
        error: what the client raised.
        settings: of the judge.
        name: of the judge, for messages.

    Returns:
        The reason why there is no reply.

    Raises:
        UserError: no call to this address will ever succeed.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Fault(f"no reply in {settings.timeout:g} s", billed=True)
    if isinstance(error, openai.APIConnectionError):
        return Fault(UNREACHABLE)
    if not isinstance(error, openai.APIStatusError):
        return Fault(NO_COMPLETION)
    status, after = error.status_code, error.response.headers.get("retry-after", "")
    if status in HOPELESS:
        cure = f"check the variable {settings.key}" if status != HOPELESS[-1] else "check url and model"
        raise UserError(f"judge {name}: the server answers HTTP {status}; {cure}")
    wait = min(float(after), LONGEST_PAUSE) if after.isdigit() else 0.0  # seconds; a date is not worth reading
    return Fault(f"HTTP {status}", status in BUSY or status >= 500, wait)  # noqa: PLR2004 - server errors


def refuse_beyond(limit: float | None, spent: float, needed: float, name: str) -> None:
    """Refuse calls that would cost more than the limit: a part of the verdicts would be of no use.

    Args:
        limit: dollars that may be spent; None for any amount.
        spent: dollars spent before.
        needed: dollars that the calls may cost.
        name: of the judge, for the message.

    Raises:
        UserError: they would cost more.
    """
    if limit is not None and spent + needed > limit:
        raise UserError(
            f"judge {name}: about ${needed:.4f} is needed, and spend_limit is ${limit:g}; "
            "raise evals.judge.spend_limit, or judge fewer prompts"
        )


def forecast_line(name: str, calls: int, cached: int, dollars: float | None, limit: float | None) -> str:
    """Word how many calls there are, how many of them are cached, and about what the rest costs.

    Args:
        name: of the judge.
        calls: all of them.
        cached: those that cost nothing.
        dollars: what the others may cost; None if the recipe gives no prices.
        limit: dollars that may be spent; None for any amount.

    Returns:
        A line.
    """
    cost = "cost unknown: the recipe gives no prices" if dollars is None else f"about ${dollars:.2f}"
    if limit is not None:
        cost += f", limit ${limit:.2f}"
    return f"{calls} calls of {name}, {cached} of them cached; {cost}"
