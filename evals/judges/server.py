"""Any OpenAI-compatible server as judge: concurrent, retried with back-off, every reply cached, spending limited."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

from prefzoo.errors import UserError
from prefzoo.evals.judges import replies
from prefzoo.evals.judges.budget import Budget
from prefzoo.evals.judges.judge_prompt import JudgePrompt, read_prompt
from prefzoo.evals.judges.position_swap import PairwiseJudge, both_orders
from prefzoo.evals.judges.protocol import Answer, Comparison, Outcome, Progress, PromptRow, Verdict
from prefzoo.evals.judges.replies import Reply
from prefzoo.recipe.judge import Amount, Count, JudgeSettings, Seconds, Text
from prefzoo.runtime.cache import Cache, key_of
from prefzoo.runtime.paths import cache_dir

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before the second try, doubled for each further one up to the longest
BUSY = (408, 409, 425, 429)  # and all from 500: worth another try
HOPELESS = (401, 403, 404)  # no call to this address will ever succeed
PER_TOKEN = 3  # characters, for the estimate: fewer than in most texts, so that it errs on the dear side
ANSWER_TOKENS = 1000  # for the estimate, where the recipe sets no limit
ARENA_TOKENS = 4096  # of a reply that reasons before its verdict, unless the recipe says otherwise
OFFERED = 5  # alternatives asked for of the first token
UNREACHABLE = "no connection"


class ServerSettings(JudgeSettings):
    """A model behind an OpenAI-compatible API. The key comes from the environment variable `key`, never from here.

    `verdicts: arena` asks for Arena-Hard 2's five verdicts after a reasoned answer of at most 4,096 tokens.

    `timeout` is in seconds, prices are in dollars per million tokens, `spend_limit` in dollars. A `temperature` or
    `max_tokens` of null is not sent.
    """

    kind: Literal["server"]
    url: Text
    model: Text
    prompt: Text | None = None
    verdicts: Literal["letter", "arena"] = "letter"
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
    def _variable_name(cls, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):  # not shown: it may be the key
            message = (
                "must be the name, in capitals, of an environment variable that holds the key; like OPENAI_API_KEY"
            )
            raise PydanticCustomError("key", message)
        return value

    @model_validator(mode="before")
    @classmethod
    def _room_to_reason(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("verdicts") == "arena" and "max_tokens" not in values:
            return {**values, "max_tokens": ARENA_TOKENS}
        return values

    @model_validator(mode="after")
    def _priced(self) -> ServerSettings:
        if self.spend_limit is not None and (self.prompt_price is None or self.answer_price is None):
            raise PydanticCustomError(
                "spend_limit", "spend_limit needs prompt_price and answer_price (dollars per million tokens); add them"
            )
        return self

    def load(self, folder: Path) -> ServerJudge:
        """Return the judge; its replies are in the user's cache.

        Raises:
            UserError: the key is not in the environment, or the prompt's file is no template.
        """
        path, arena = folder / self.prompt if self.prompt else None, self.verdicts == "arena"
        prompt = read_prompt(path, "evals.judge.prompt", arena=arena)
        file = f"replies-{key_of([self.url, self.model])}.jsonl"  # whatever the versions here: they were paid for
        return ServerJudge(self, prompt, Cache(cache_dir("judges") / file))


@dataclass(frozen=True)
class Fault:
    """Why a call failed, whether another try is worth it, and how many seconds the server asks to wait."""

    reason: str
    again: bool = True
    wait: float = 0.0


class ServerJudge(PairwiseJudge):
    """The preference is continuous where the server gives log-probs.

    Args:
        settings: of the recipe.
        prompt: what the model is asked.
        cache: replies by call; each is written as it comes, so that a killed run has all it paid for.
        pause: waits some seconds between two tries.
    """

    def __init__(
        self, settings: ServerSettings, prompt: JudgePrompt, cache: Cache, pause: Callable[[float], None] = time.sleep
    ) -> None:
        import openai

        self.settings, self.prompt, self.cache, self._pause, self._openai = settings, prompt, cache, pause, openai
        self.name = f"server:{settings.model}@{urlsplit(settings.url).netloc}"
        self.prompt_hash, self.graded = prompt.hash, prompt.arena
        self.budget = Budget(settings.prompt_price, settings.answer_price, settings.spend_limit)
        self._logprobs = True  # until the server refuses to be asked for them
        self._secret = _api_key(settings)
        client = openai.OpenAI(
            base_url=settings.url, api_key=self._secret, timeout=settings.timeout,
            max_retries=0,  # all tries are counted here
        )  # fmt: skip
        self._create: Callable[..., Any] = client.chat.completions.create

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return how many calls there are, how many of them are cached, and about what the rest costs."""
        ordered = both_orders(comparisons)
        new = self._not_cached(ordered)
        cost = "cost unknown: the recipe gives no prices"
        if self.budget.known:
            cost = f"about ${sum(map(self._estimate, new)):.2f}"
        if self.budget.limit is not None:
            cost += f", limit ${self.budget.limit:.2f}"
        return f"{len(ordered)} calls of {self.name}, {len(ordered) - len(new)} of them cached; {cost}"

    def check(self) -> None:
        """Make one call about a plain question, cached like any other.

        Raises:
            UserError: the server cannot be reached, or gives no verdict.
        """
        plain = Comparison(PromptRow("check", "Is water wet?"), Answer("Yes.", True, 0), Answer("Grass.", True, 0))
        outcome = self._ask(plain)
        if isinstance(outcome, str):
            cure = "start the server, or mend evals.judge" if outcome.startswith(UNREACHABLE) else "mend evals.judge"
            raise UserError(f"judge {self.name}: asked a plain question: {outcome}; {cure}")

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return a verdict for each comparison; what fails in all tries is missing, with the reason.

        Raises:
            UserError: the spending limit does not cover it, the server cannot be reached at all, refuses the key, or
                has no such model.
        """
        limit, needed = self.budget.limit, sum(map(self._estimate, self._not_cached(both_orders(comparisons))))
        if limit is not None and self.budget.spent + needed > limit:  # a part of the verdicts would be of no use
            raise UserError(
                f"judge {self.name}: about ${needed:.4f} is needed, and spend_limit is ${limit:g}; "
                "raise evals.judge.spend_limit, or judge fewer prompts"
            )
        return super().compare(comparisons, progress)

    def _not_cached(self, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
        return [r for r in map(self._request, comparisons) if self.cache.get(self._key(r)) is None]

    def _key(self, request: dict[str, Any]) -> str:
        return key_of([self.settings.url, request])  # all that is sent but the API key

    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        """Return the preference of each comparison by one call each, or why there is none.

        Raises:
            UserError: the server cannot be reached at all, refuses the key, or has no such model.
        """
        if not comparisons:
            return []
        outcomes: list[Outcome] = [""] * len(comparisons)
        outcomes[0] = self._ask(comparisons[0])  # before the others: what would fail for all fails once
        if isinstance(outcomes[0], str) and outcomes[0].startswith(UNREACHABLE):
            raise UserError(f"judge {self.name}: {outcomes[0]}; start the server, or mend evals.judge.url")
        pool = ThreadPoolExecutor(self.settings.workers)
        try:
            jobs = {pool.submit(self._ask, c): i for i, c in enumerate(comparisons) if i > 0}
            for done, job in enumerate(as_completed(jobs), 2):
                outcomes[jobs[job]] = job.result()
                if progress:
                    progress(done, len(comparisons))
        finally:
            pool.shutdown(cancel_futures=True)
        return outcomes

    def _ask(self, c: Comparison) -> Outcome:
        request = self._request(c)
        estimate, reason = self._estimate(request), ""
        cached = self.cache.get(self._key(request))
        if cached is not None:
            return replies.preference(Reply(**cached), arena=self.graded)
        wait = 0.0
        for attempt in range(self.settings.tries):
            if attempt:
                self._pause(max(_back_off(attempt), wait))
            if not self.budget.reserve(estimate):
                return f"spending limit of ${self.budget.limit} reached"
            response = self._send(request, estimate)
            if isinstance(response, Reply):
                outcome = replies.preference(response, arena=self.graded)
                if not isinstance(outcome, str):
                    self.cache.put({self._key(request): asdict(response)})
                    return outcome
                reason, wait = outcome, 0.0
                if outcome.startswith(replies.CUT):  # another try would be cut, and paid for, too
                    return reason
            else:
                if not response.again:
                    return response.reason
                reason, wait = response.reason, response.wait
        return f"{reason}, {self.settings.tries} tries"

    def _send(self, request: dict[str, Any], estimate: float) -> Reply | Fault:
        openai, cost = self._openai, 0.0
        try:
            more = {"logprobs": True, "top_logprobs": OFFERED} if self._logprobs and not self.graded else {}
            try:
                completion = self._create(**request, **more)
            except openai.BadRequestError:
                if not more:
                    raise
                completion = self._create(**request)
                self._logprobs = False  # it was their being asked for that it refused
            reply = replies.parse(completion, self._secret)
            cost = self.budget.price(reply.prompt_tokens, reply.answer_tokens)
            return reply
        except openai.APITimeoutError:
            cost = estimate  # the server may well have done, and bill, the work
            return Fault(f"no reply in {self.settings.timeout:g} s")
        except openai.APIConnectionError:
            return Fault(UNREACHABLE)
        except openai.APIStatusError as e:
            return self._refused(e.status_code, e.response.headers.get("retry-after", ""))
        except (openai.APIError, ValueError, AttributeError, TypeError, IndexError):
            return Fault("the reply is no chat completion")
        finally:
            self.budget.settle(estimate, cost)

    def _refused(self, status: int, after: str) -> Fault:
        # The server's own words are left out: some repeat a part of the key.
        if status in HOPELESS:
            cure = f"check the variable {self.settings.key}" if status != HOPELESS[-1] else "check url and model"
            raise UserError(f"judge {self.name}: the server answers HTTP {status}; {cure}")
        wait = min(float(after), LONGEST_PAUSE) if after.isdigit() else 0.0  # seconds; a date is not worth reading
        return Fault(f"HTTP {status}", status in BUSY or status >= 500, wait)  # noqa: PLR2004 - server errors

    def _request(self, c: Comparison) -> dict[str, Any]:
        options = {"temperature": self.settings.temperature, "max_tokens": self.settings.max_tokens}
        messages = [{"role": "user", "content": self.prompt.filled(c)}]
        sent = {k: v for k, v in options.items() if v is not None}
        return {"model": self.settings.model, "messages": messages, **sent}

    def _estimate(self, request: dict[str, Any]) -> float:
        tokens = len(request["messages"][0]["content"]) // PER_TOKEN + 1
        return self.budget.price(tokens, self.settings.max_tokens or ANSWER_TOKENS)


def _back_off(attempt: int) -> float:
    """Return seconds, doubled each time, half of them random so that refused workers do not return together."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)


def _api_key(settings: ServerSettings) -> str:
    """Return the key from the environment; a server on this machine commonly wants none."""
    key = os.environ.get(settings.key, "")
    if not key and urlsplit(settings.url).hostname not in ("localhost", "127.0.0.1", "::1"):
        host = urlsplit(settings.url).netloc
        raise UserError(f"evals.judge: the environment variable {settings.key} is empty; export the key of {host}")
    return key or "none"
