"""AlpacaEval's annotators as judges: alpaca-eval's code asks any OpenAI-compatible server."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import local
from typing import Any, Literal

from prefzoo.errors import UserError
from prefzoo.evals.judges.alpaca import Annotator, read_annotator
from prefzoo.evals.judges.alpaca_code import Key, annotate, complete_one, row_key
from prefzoo.evals.judges.budget import Budget
from prefzoo.evals.judges.position_swap import FIRST, SECOND
from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, Outcome, Progress, PromptRow, Verdict
from prefzoo.evals.judges.served import (
    PER_TOKEN,
    UNREACHABLE,
    ServedSettings,
    fault_of,
    forecast_line,
    refuse_beyond,
)
from prefzoo.recipe.judge import Text
from prefzoo.runtime.cache import Cache, key_of
from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.plugins import RAISED, describe_error
from prefzoo.runtime.redaction import redact

OPENAI_URL = "https://api.openai.com/v1"
MOST_TOKENS = 2048  # of a reply, if the configuration sets no limit: the default of openai_completions
NOWHERE = "/no client configuration"  # a missing file; by default alpaca-eval reads one in its own package


class AlpacaEvalSettings(ServedSettings):
    """An AlpacaEval annotator, given by its name or as a YAML file, and run by alpaca-eval's code.

    By default (`seats: both`) the judge sees every pair in both orders. The metric `win_rate_alpaca_eval` counts only
    the order that AlpacaEval draws for the instruction, as `alpaca_eval evaluate` does. `seats: drawn` asks in that
    order only, for half the price. `model` replaces the model in the configuration.
    """

    kind: Literal["alpaca_eval"]
    annotator: Text
    url: Text = OPENAI_URL
    model: Text | None = None
    seats: Literal["both", "drawn"] = "both"

    def load(self, folder: Path) -> AlpacaEvalJudge:
        """Return the judge, which stores its replies in the user's cache.

        Raises:
            UserError: the annotator is unknown or invalid, or the key is not in the environment.
        """
        annotator = read_annotator(self.annotator, folder, self.model)
        file = f"alpaca-eval-{key_of([self.url, annotator.name])}.jsonl"  # of any version: replies cost money
        return AlpacaEvalJudge(self, annotator, Cache(cache_dir("judges") / file))


@dataclass
class _Round:
    """One pass of all pairs through alpaca-eval's code.

    Attributes:
        dry: whether calls are only counted, and not made.
        total: number of calls that the pass will make; 0 in a dry pass.
        progress: called after each call with the number of finished calls and of all calls.
        asked: an entry for each call; in a dry pass, whether its reply is cached, and the estimated dollars if not.
        missing: the reasons for missing preferences, by row.
    """

    dry: bool = False
    total: int = 0
    progress: Progress | None = None
    asked: list[tuple[bool, float]] = field(default_factory=list)
    missing: dict[Key, str] = field(default_factory=dict)


class AlpacaEvalJudge(Judge):
    """A judge that takes prompts, order of answers and parsing from alpaca-eval, and caches and limits its calls."""

    def __init__(self, settings: AlpacaEvalSettings, annotator: Annotator, cache: Cache) -> None:
        self.settings, self.annotator, self.cache = settings, annotator, cache
        models = dict.fromkeys(str(c["completions_kwargs"]["model_name"]) for c in annotator.configs.values())
        self.name = f"alpaca_eval:{annotator.name}:{'+'.join(models)}@{settings.host}"
        self.prompt_hash, self.draws_order = annotator.hash, True
        self.budget = Budget(settings.prompt_price, settings.answer_price, settings.spend_limit)
        self._secret, self._local = settings.api_key(), local()
        self._client = _client(self._local)

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return a line with the number of calls, the number of cached replies, and the estimated cost of the rest."""
        calls = self._calls(comparisons)
        dollars = sum(cost for _, cost in calls) if self.budget.known else None
        cached = sum(cached for cached, _ in calls)
        return forecast_line(self.name, len(calls), cached, dollars, self.budget.limit)

    def check(self) -> None:
        """Ask one test question, whose reply is cached as any other.

        Raises:
            UserError: the server cannot be reached, or gives no verdict.
        """
        plain = Comparison(PromptRow("check", "Is water wet?"), Answer("Yes.", True, 0), Answer("Grass.", True, 0))
        (verdict,) = self.compare([plain])
        if verdict.missing:
            raise UserError(f"judge {self.name}: a test question failed: {verdict.missing}; correct evals.judge")

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return a verdict for each comparison. A call that fails in all tries gives a missing verdict with the reason.

        Raises:
            UserError: the calls may exceed the spending limit, or the server is unreachable, refuses the key, or does
                not have the model.
        """
        calls = self._calls(comparisons)
        refuse_beyond(self.budget.limit, self.budget.spent, sum(cost for _, cost in calls), self.name)
        one = _Round(total=len(calls), progress=progress)
        drawn, switched = self._annotate(comparisons, one)
        if self.settings.seats == "drawn":
            return [_verdict(c, p, None, first=False) for c, p in zip(comparisons, drawn, strict=True)]
        other, _ = self._annotate(_swapped(comparisons), one)
        back = [p if isinstance(p, str) else FIRST + SECOND - p for p in other]
        four = zip(comparisons, drawn, back, switched, strict=True)
        return [_verdict(c, p, q, first=not s) for c, p, q, s in four]

    def _calls(self, comparisons: Sequence[Comparison]) -> list[tuple[bool, float]]:
        dry = _Round(dry=True)
        self._annotate(comparisons, dry)
        if self.settings.seats == "both":
            self._annotate(_swapped(comparisons), dry)
        return dry.asked

    def _annotate(self, comparisons: Sequence[Comparison], one: _Round) -> tuple[list[Outcome], list[bool]]:
        """Return the preference of each comparison, and whether alpaca-eval's draw swapped its two answers."""
        rows = [{"instruction": c.row.text, "output_1": c.first.text, "output_2": c.second.text} for c in comparisons]
        one.missing.clear()
        complete = partial(self._complete, one)
        values, switched = annotate(self.annotator.name, self.annotator.configs, rows, complete, one.missing)
        outcomes = zip(values, rows, strict=True)
        return [one.missing.get(row_key(row), "no verdict") if p is None else p for p, row in outcomes], switched

    def _complete(self, one: _Round, single: Any, prompts: Sequence[str], options: dict[str, Any]) -> list[Any]:
        """Return the server's choice for each prompt, or the reason for a missing one; in a dry pass, None."""
        choices: list[Any] = [None] * len(prompts)
        if one.dry:
            one.asked += [(self._cached(p, options) is not None, self._estimate(p, options)) for p in prompts]
            return choices
        choices[0] = self._ask(single, one, prompts[0], options)  # alone first: a fault of all calls costs one call
        if choices[0] == UNREACHABLE:
            raise UserError(f"judge {self.name}: {UNREACHABLE}; start the server, or correct evals.judge.url")
        workers = ThreadPoolExecutor(self.settings.workers)
        try:
            jobs = {workers.submit(self._ask, single, one, p, options): i for i, p in enumerate(prompts) if i}
            for job in as_completed(jobs):
                choices[jobs[job]] = job.result()
        finally:
            workers.shutdown(cancel_futures=True)
        return choices

    def _ask(self, single: Any, one: _Round, prompt: str, options: dict[str, Any]) -> dict[str, Any] | str:
        """Return the server's choice, or the reason for a missing choice or a missing verdict."""
        choice: dict[str, Any] | str | None = self._cached(prompt, options)
        if choice is None:
            choice = self._send(prompt, options)
            if isinstance(choice, dict):
                reason = single.fault_of(choice)
                if reason:
                    choice = reason
                else:
                    self.cache.put({self._key(prompt, options): choice})
        one.asked.append((False, 0.0))
        if one.progress:
            one.progress(len(one.asked), one.total)
        return choice

    def _send(self, prompt: str, options: dict[str, Any]) -> dict[str, Any] | str:
        import openai

        estimate, cost = self._estimate(prompt, options), 0.0
        if not self.budget.reserve(estimate):
            return f"spending limit of ${self.budget.limit} reached"
        self._local.status = 0
        try:
            own = {k: v for k, v in options.items() if k != "client_kwargs"}
            choice = json.loads(redact(json.dumps(complete_one(prompt, own, self._connection(options))), self._secret))
            if "index" not in choice:  # alpaca-eval's substitute for a request that the server refused
                return f"HTTP {self._local.status}, {self.settings.after}"
            cost = self._price(float(choice["total_tokens"]), options)
            return choice if isinstance(choice["text"], str) else "a reply without text"
        except openai.APIError as e:
            fault = fault_of(e, self.settings, self.name)
            cost = estimate if fault.billed else 0.0
            tried = fault.again and fault.reason != UNREACHABLE
            return f"{fault.reason}, {self.settings.after}" if tried else fault.reason
        except RAISED as e:  # alpaca-eval may raise anything on an odd reply
            return describe_error(e)
        finally:
            self.budget.settle(estimate, cost)

    def _connection(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options that make `openai_completions` call this server alone, with all retries by the HTTP client."""
        client = {
            "http_client": self._client, "timeout": self.settings.timeout, "max_retries": self.settings.tries - 1
        }  # fmt: skip
        known = {k: v for k, v in (options.get("client_kwargs") or {}).items() if k != "base_url"}
        return {
            "client_kwargs": {**known, **client}, "client_config_path": NOWHERE, "openai_api_keys": [self._secret],
            "openai_organization_ids": None, "openai_api_base": self.settings.url, "n_retries": 1, "sleep_time": 0,
            "price_per_token": 0.0,
        }  # fmt: skip

    def _key(self, prompt: str, options: dict[str, Any]) -> str:
        return key_of([self.settings.url, prompt, options])

    def _cached(self, prompt: str, options: dict[str, Any]) -> Any:
        return self.cache.get(self._key(prompt, options))

    def _estimate(self, prompt: str, options: dict[str, Any]) -> float:
        if self._cached(prompt, options) is not None:
            return 0.0
        return self.budget.price(len(prompt) // PER_TOKEN + 1, options.get("max_tokens") or MOST_TOKENS)

    def _price(self, tokens: float, options: dict[str, Any]) -> float:
        """Return the estimated price of a call in dollars.

        alpaca-eval reports only the sum of prompt and reply tokens, so the reply counts as the longest possible.
        """
        answer = min(tokens, options.get("max_tokens") or MOST_TOKENS)
        return self.budget.price(int(tokens - answer), int(answer))


def _client(seen: local) -> Any:
    """Return an HTTP client that stores the status of each thread's last response in `seen`."""
    from openai import DefaultHttpxClient

    def note(response: Any) -> None:
        seen.status = response.status_code

    return DefaultHttpxClient(event_hooks={"response": [note]})


def _swapped(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Swap the two answers of each comparison.

    AlpacaEval draws the order by the instruction alone, so it shows swapped answers in the other order.
    """
    return [Comparison(c.row, c.second, c.first) for c in comparisons]


def _verdict(c: Comparison, drawn: Outcome, other: Outcome | None, *, first: bool) -> Verdict:
    """Combine the preferences in the drawn order and in the other one.

    Args:
        c: the comparison.
        drawn: the preference in the order that AlpacaEval draws.
        other: the preference in the other order; None if it was not asked for.
        first: whether the drawn order shows the comparison's first answer first.
    """
    if c.first.text == c.second.text:
        return Verdict(TIE, drawn=TIE)
    if isinstance(drawn, str):
        return Verdict(math.nan, (), drawn)
    if isinstance(other, str):
        return Verdict(math.nan, (), other, drawn=drawn)
    if other is None:
        return Verdict(drawn, (drawn,), drawn=drawn)
    return Verdict((drawn + other) / 2, (drawn, other) if first else (other, drawn), drawn=drawn)
