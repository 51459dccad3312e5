"""A model behind an OpenAI-compatible server as judge: parallel calls with retries, a cache and a spending limit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from prefzoo.errors import UserError
from prefzoo.evals.judges import replies
from prefzoo.evals.judges.budget import Budget
from prefzoo.evals.judges.judge_prompt import JudgePrompt, read_prompt
from prefzoo.evals.judges.position_swap import PairwiseJudge, both_orders
from prefzoo.evals.judges.protocol import Answer, Comparison, Outcome, Progress, PromptRow, Verdict
from prefzoo.evals.judges.replies import Reply
from prefzoo.evals.judges.served import (
    LONGEST_PAUSE,
    PER_TOKEN,
    UNREACHABLE,
    Fault,
    ServedSettings,
    fault_of,
    forecast_line,
    refuse_beyond,
)
from prefzoo.recipe.judge import Amount, Count, Text
from prefzoo.runtime.cache import Cache, key_of
from prefzoo.runtime.paths import cache_dir

FIRST_PAUSE = 1.0  # seconds before the second try, doubled for each further one up to LONGEST_PAUSE
ANSWER_TOKENS = 1000  # of a reply in the estimated cost, if the recipe sets no limit
ARENA_TOKENS = 4096  # default limit of a reply that reasons before its verdict
OFFERED = 5  # likeliest alternatives to request for the first token


class ServerSettings(ServedSettings):
    """A model behind an OpenAI-compatible API. `key` is the name of the environment variable that holds the API key.

    With `verdicts: arena` the model reasons first, in at most 4,096 tokens by default, and ends with one of Arena-Hard
    2's five verdicts.

    `timeout` is in seconds, prices are in dollars per million tokens, `spend_limit` in dollars. A `temperature` or
    `max_tokens` of null is not sent to the server.
    """

    kind: Literal["server"]
    model: Text
    prompt: Text | None = None
    verdicts: Literal["letter", "arena"] = "letter"
    temperature: Amount | None = 0.0
    max_tokens: Count | None = 8

    @model_validator(mode="before")
    @classmethod
    def _room_to_reason(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("verdicts") == "arena" and "max_tokens" not in values:
            return {**values, "max_tokens": ARENA_TOKENS}
        return values

    def load(self, folder: Path) -> ServerJudge:
        """Return the judge, which stores its replies in the user's cache.

        Raises:
            UserError: the key is not in the environment, or the prompt file is not a template.
        """
        path, arena = folder / self.prompt if self.prompt else None, self.verdicts == "arena"
        prompt = read_prompt(path, "evals.judge.prompt", arena=arena)
        file = f"replies-{key_of([self.url, self.model])}.jsonl"  # shared by all versions, since replies cost money
        return ServerJudge(self, prompt, Cache(cache_dir("judges") / file))


class ServerJudge(PairwiseJudge):
    """A judge that asks a server about both orders of a pair. With log-probs its preferences are continuous.

    Args:
        settings: the judge's settings from the recipe.
        prompt: the template of its questions.
        cache: replies by request; each is written when it arrives, so that a killed run loses none.
        pause: a function that waits for some seconds between two tries.
    """

    def __init__(
        self, settings: ServerSettings, prompt: JudgePrompt, cache: Cache, pause: Callable[[float], None] = time.sleep
    ) -> None:
        import openai

        self.settings, self.prompt, self.cache, self._pause, self._openai = settings, prompt, cache, pause, openai
        self.name = f"server:{settings.model}@{settings.host}"
        self.prompt_hash, self.graded = prompt.hash, prompt.arena
        self.budget = Budget(settings.prompt_price, settings.answer_price, settings.spend_limit)
        self._logprobs = True  # until the server refuses a request for them
        self._secret = settings.api_key()
        client = openai.OpenAI(
            base_url=settings.url, api_key=self._secret, timeout=settings.timeout,
            max_retries=0,  # this class counts all tries
        )  # fmt: skip
        self._create: Callable[..., Any] = client.chat.completions.create

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return a line with the number of calls, the number of cached replies, and the estimated cost of the rest."""
        ordered = both_orders(comparisons)
        new = self._not_cached(ordered)
        dollars = sum(map(self._estimate, new)) if self.budget.known else None
        return forecast_line(self.name, len(ordered), len(ordered) - len(new), dollars, self.budget.limit)

    def check(self) -> None:
        """Ask one test question, whose reply is cached as any other.

        Raises:
            UserError: the server cannot be reached, or gives no verdict.
        """
        plain = Comparison(PromptRow("check", "Is water wet?"), Answer("Yes.", True, 0), Answer("Grass.", True, 0))
        outcome = self._ask(plain)
        if isinstance(outcome, str):
            cure = f"; {'start the server, or ' if outcome.startswith(UNREACHABLE) else ''}correct evals.judge"
            raise UserError(
                f"judge {self.name}: a test question failed: {outcome}{'' if outcome.startswith(replies.CUT) else cure}"
            )

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return a verdict for each comparison. A call that fails in all tries gives a missing verdict with the reason.

        Raises:
            UserError: the calls may exceed the spending limit, or the server is unreachable, refuses the key, or does
                not have the model.
        """
        needed = sum(map(self._estimate, self._not_cached(both_orders(comparisons))))
        refuse_beyond(self.budget.limit, self.budget.spent, needed, self.name)
        return super().compare(comparisons, progress)

    def _not_cached(self, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
        return [r for r in map(self._request, comparisons) if self.cache.get(self._key(r)) is None]

    def _key(self, request: dict[str, Any]) -> str:
        return key_of([self.settings.url, request])  # all that is sent, except for the API key

    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        """Return the preference of each comparison by one call each, or the reason for a missing one.

        Raises:
            UserError: the server is unreachable, refuses the key, or does not have the model.
        """
        if not comparisons:
            return []
        outcomes: list[Outcome] = [""] * len(comparisons)
        outcomes[0] = self._ask(comparisons[0])  # alone first: a fault of all calls costs one call
        if isinstance(outcomes[0], str) and outcomes[0].startswith(UNREACHABLE):
            raise UserError(f"judge {self.name}: {outcomes[0]}; start the server, or correct evals.judge.url")
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
                if outcome.startswith(replies.CUT):  # another try would also be cut, and cost as much
                    return reason
            else:
                if not response.again:
                    return response.reason
                reason, wait = response.reason, response.wait
        return f"{reason}, {self.settings.after}"

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
                self._logprobs = False  # the server refused the request for log-probs only
            reply = replies.parse(completion, self._secret)
            cost = self.budget.price(reply.prompt_tokens, reply.answer_tokens)
            return reply
        except (openai.APIError, ValueError, AttributeError, TypeError, IndexError) as e:
            fault = fault_of(e, self.settings, self.name)
            cost = estimate if fault.billed else 0.0
            return fault
        finally:
            self.budget.settle(estimate, cost)

    def _request(self, c: Comparison) -> dict[str, Any]:
        options = {"temperature": self.settings.temperature, "max_tokens": self.settings.max_tokens}
        messages = [{"role": "user", "content": self.prompt.filled(c)}]
        sent = {k: v for k, v in options.items() if v is not None}
        return {"model": self.settings.model, "messages": messages, **sent}

    def _estimate(self, request: dict[str, Any]) -> float:
        tokens = len(request["messages"][0]["content"]) // PER_TOKEN + 1
        return self.budget.price(tokens, self.settings.max_tokens or ANSWER_TOKENS)


def _back_off(attempt: int) -> float:
    """Return seconds to wait, doubled for each try; random by up to a half, so that workers do not retry together."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)
