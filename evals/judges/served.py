"""Settings, prices and errors that all judges behind an OpenAI-compatible server share."""

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

BUSY = (408, 409, 425, 429)  # HTTP codes that are worth another try, as are all from 500
HOPELESS = (401, 403, 404)  # HTTP codes after which every call will fail
LONGEST_PAUSE = 60.0  # seconds between two tries
PER_TOKEN = 3  # characters per token, fewer than in most texts, so that estimated costs are rather too high
UNREACHABLE = "no connection"
NO_COMPLETION = "the reply is not a chat completion"


class ServedSettings(JudgeSettings):
    """A server's address, its number of parallel calls and tries, and its prices.

    `key` is the name of the environment variable that holds the API key. `timeout` is in seconds, prices are in dollars
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
        """The number of tries in words, for messages about a failed call."""
        return "1 try" if self.tries == 1 else f"{self.tries} tries"

    @property
    def host(self) -> str:
        """The server's host name and port."""
        return urlsplit(self.url).netloc

    def api_key(self) -> str:
        """Return the API key from the environment, or `none` for a server on this machine if the variable is empty.

        Raises:
            UserError: the server is on another machine, and the variable is empty.
        """
        key = os.environ.get(self.key, "")
        if not key and urlsplit(self.url).hostname not in ("localhost", "127.0.0.1", "::1"):
            raise UserError(f"evals.judge: the environment variable {self.key} is empty; export the key of {self.host}")
        return key or "none"


@dataclass(frozen=True)
class Fault:
    """A failed call.

    Attributes:
        reason: why it failed.
        again: whether another try may succeed.
        wait: seconds to wait before the next try, as the server asks.
        billed: whether the server may bill the call nevertheless.
    """

    reason: str
    again: bool = True
    wait: float = 0.0
    billed: bool = False


def fault_of(error: Exception, settings: ServedSettings, name: str) -> Fault:
    """Describe an exception of the client, without the server's message, which may repeat the API key.

    Args:
        error: the exception.
        settings: the judge's settings.
        name: the judge's name, for messages.

    Returns:
        The fault.

    Raises:
        UserError: every call to this server will fail.
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
    wait = min(float(after), LONGEST_PAUSE) if after.isdigit() else 0.0  # in seconds; a date is ignored
    return Fault(f"HTTP {status}", status in BUSY or status >= 500, wait)  # noqa: PLR2004 - server errors


def refuse_beyond(limit: float | None, spent: float, needed: float, name: str) -> None:
    """Raise UserError if calls may cost more than the limit, before any is made: half of the verdicts would be useless.

    Args:
        limit: most dollars to spend; None for no limit.
        spent: dollars spent before.
        needed: estimated cost of the calls in dollars.
        name: the judge's name, for the message.

    Raises:
        UserError: the calls may cost more than the limit.
    """
    if limit is not None and spent + needed > limit:
        raise UserError(
            f"judge {name}: about ${needed:.4f} is needed, but spend_limit is ${limit:g}; "
            "raise evals.judge.spend_limit, or judge fewer prompts"
        )


def forecast_line(name: str, calls: int, cached: int, dollars: float | None, limit: float | None) -> str:
    """Describe the calls of a judge and their estimated cost.

    Args:
        name: the judge's name.
        calls: number of all calls.
        cached: number of calls with a cached reply, which are free.
        dollars: estimated cost of the others; None if the recipe gives no prices.
        limit: most dollars to spend; None for no limit.

    Returns:
        One line of text.
    """
    cost = "cost unknown: the recipe gives no prices" if dollars is None else f"about ${dollars:.2f}"
    if limit is not None:
        cost += f", limit ${limit:.2f}"
    return f"{calls} calls of {name}, {cached} of them cached; {cost}"
