"""Any OpenAI-compatible server as judge: concurrent, retried with back-off, every reply kept, spending limited."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefzoo.errors import UserError
from prefzoo.evals.judges.calls import Calls, Purse, Reply, call_key
from prefzoo.evals.judges.position_swap import FIRST, Said, both_orders, seatings
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow, Report, Verdict
from prefzoo.evals.judges.wording import LETTERS, Question, read_question, read_verdict
from prefzoo.recipe.judge import ServerJudge
from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.redaction import redact

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before the second try, doubled for each further one up to the longest
BUSY = (408, 409, 425, 429)  # and all from 500: worth another try
HOPELESS = (401, 403, 404)  # no call to this address will ever succeed
PER_TOKEN = 3  # characters, for the estimate: fewer than in most texts, so that it errs on the dear side
ANSWER_TOKENS = 1000  # for the estimate, where the recipe sets no limit
OFFERED = 5  # alternatives asked for of the first token

UNREACHABLE = "no connection"


@dataclass(frozen=True)
class Fault:
    """Why a call gave nothing, whether another try is worth it, and how many seconds the server asks to wait."""

    reason: str
    again: bool = True
    wait: float = 0.0


class Server:
    """Both seat orders are asked; the preference is continuous where the server gives log-probs."""

    def __init__(
        self, how: ServerJudge, question: Question, calls: Calls, pause: Callable[[float], None] = time.sleep
    ) -> None:
        import openai

        self.how, self.question, self.calls, self._pause, self._openai = how, question, calls, pause, openai
        self.name = f"server:{how.model}@{urlsplit(how.url).netloc}"
        self.prompt_hash = question.hash
        self.purse = Purse(how.prompt_price, how.answer_price, how.spend_limit)
        self._logprobs = True  # until the server refuses to be asked for them
        self._secret = _key(how)
        client = openai.OpenAI(
            base_url=how.url, api_key=self._secret, timeout=how.timeout, max_retries=0  # all tries are counted here
        )  # fmt: skip

        self._create: Callable[..., Any] = client.chat.completions.create

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """How many calls, how many of them are kept from before, and about what the rest costs."""
        seated = seatings(asked)
        fresh = self._fresh(seated)
        cost = "cost unknown: the recipe gives no prices"
        if self.purse.known:
            cost = f"about ${sum(map(self._estimate, fresh)):.2f}"
        if self.purse.limit is not None:
            cost += f", limit ${self.purse.limit:.2f}"
        return f"{len(seated)} calls of {self.name}, {len(seated) - len(fresh)} of them kept from before; {cost}"

    def check(self) -> None:
        """One call about nothing, kept like any other.

        Raises:
            UserError: the server cannot be reached, or gives no verdict on a plain question.
        """
        plain = Comparison(PromptRow("check", "Is water wet?"), Answer("Yes.", True, 0), Answer("Grass.", True, 0))
        said = self._one(plain)
        if isinstance(said, str):
            cure = "start the server, or mend evals.judge" if said.startswith(UNREACHABLE) else "mend evals.judge"
            raise UserError(f"judge {self.name}: asked a plain question: {said}; {cure}")

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """What fails for good after all tries is missing, with the reason.

        Raises:
            UserError: the spending limit does not cover it, the server cannot be reached at all, refuses the key, or
                has no such model.
        """
        limit, needed = self.purse.limit, sum(map(self._estimate, self._fresh(seatings(asked))))
        if limit is not None and self.purse.spent + needed > limit:  # a part of the verdicts would be of no use
            raise UserError(
                f"judge {self.name}: about ${needed:.4f} is needed, and spend_limit is ${limit:g}; "
                "raise evals.judge.spend_limit, or judge fewer prompts"
            )
        return both_orders(asked, lambda seated: self._ask(seated, report))

    def _fresh(self, seated: Sequence[Comparison]) -> list[dict[str, Any]]:
        requests = map(self._request, seated)
        return [r for r in requests if self.calls.read(call_key(self.how.url, r)) is None]

    def _ask(self, seated: Sequence[Comparison], report: Report | None) -> list[Said]:
        if not seated:
            return []
        said: list[Said] = [""] * len(seated)
        said[0] = self._one(seated[0])  # alone: what would fail for all is found out by one
        if isinstance(said[0], str) and said[0].startswith(UNREACHABLE):
            raise UserError(f"judge {self.name}: {said[0]}; start the server, or mend evals.judge.url")
        pool = ThreadPoolExecutor(self.how.workers)
        try:
            jobs = {pool.submit(self._one, c): i for i, c in enumerate(seated) if i > 0}
            for done, job in enumerate(as_completed(jobs), 2):
                said[jobs[job]] = job.result()
                if report:
                    report(done, len(seated))
        finally:
            pool.shutdown(cancel_futures=True)
        return said

    def _one(self, c: Comparison) -> Said:
        request = self._request(c)
        key, estimate, reason = call_key(self.how.url, request), self._estimate(request), ""
        kept = self.calls.read(key)
        if kept is not None:
            return _preference(kept)
        wait = 0.0
        for attempt in range(self.how.tries):
            if attempt:
                self._pause(max(_pause(attempt), wait))
            if not self.purse.promise(estimate):
                return f"spending limit of ${self.purse.limit} reached"
            found = self._send(request, estimate)
            if isinstance(found, Reply):
                said = _preference(found)
                if not isinstance(said, str):
                    self.calls.write(key, found)
                    return said
                reason, wait = said, 0.0
            else:
                if not found.again:
                    return found.reason
                reason, wait = found.reason, found.wait
        return f"{reason}, {self.how.tries} tries"

    def _send(self, request: dict[str, Any], estimate: float) -> Reply | Fault:
        """A reply, or what went wrong."""
        openai, cost = self._openai, 0.0
        try:
            more = {"logprobs": True, "top_logprobs": OFFERED} if self._logprobs else {}
            try:
                found = self._create(**request, **more)
            except openai.BadRequestError:
                if not more:
                    raise
                found = self._create(**request)
                self._logprobs = False  # it was their being asked for that it refused
            reply = _reply(found, self._secret)
            cost = self.purse.price(reply.prompt_tokens, reply.answer_tokens)
            return reply
        except openai.APITimeoutError:
            cost = estimate  # the server may well have done, and bill, the work
            return Fault(f"no reply in {self.how.timeout:g} s")
        except openai.APIConnectionError:
            return Fault(UNREACHABLE)
        except openai.APIStatusError as e:
            return self._refused(e.status_code, e.response.headers.get("retry-after", ""))
        except (openai.APIError, ValueError, AttributeError, TypeError, IndexError):
            return Fault("the reply is no chat completion")
        finally:
            self.purse.pay(estimate, cost)

    def _refused(self, status: int, after: str) -> Fault:
        # The server's own words are left out: some repeat a part of the key.
        if status in HOPELESS:
            cure = f"check the variable {self.how.key}" if status != HOPELESS[-1] else "check url and model"
            raise UserError(f"judge {self.name}: the server answers HTTP {status}; {cure}")
        wait = min(float(after), LONGEST_PAUSE) if after.isdigit() else 0.0  # seconds; a date is not worth reading
        return Fault(f"HTTP {status}", status in BUSY or status >= 500, wait)  # noqa: PLR2004 - server errors

    def _request(self, c: Comparison) -> dict[str, Any]:
        how = self.how
        options = {"temperature": how.temperature, "max_tokens": how.max_tokens}
        messages = [{"role": "user", "content": self.question.asked(c)}]
        return {"model": how.model, "messages": messages, **{k: v for k, v in options.items() if v is not None}}

    def _estimate(self, request: dict[str, Any]) -> float:
        tokens = len(request["messages"][0]["content"]) // PER_TOKEN + 1
        return self.purse.price(tokens, self.how.max_tokens or ANSWER_TOKENS)


def _pause(attempt: int) -> float:
    """Doubling, with half of it random so that refused workers do not return together."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)


def _key(how: ServerJudge) -> str:
    """From the environment; a server on this machine commonly wants none."""
    found = os.environ.get(how.key, "")
    if not found and urlsplit(how.url).hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(
            f"evals.judge: the environment variable {how.key} is empty; export the key of {urlsplit(how.url).netloc}"
        )
    return found or "none"


def _reply(found: Any, secret: str) -> Reply:
    """What matters of a completion; log-probs where the server gave them. Some servers repeat the key in their text."""
    choice = found.choices[0]
    offered = getattr(choice.logprobs, "content", None) if getattr(choice, "logprobs", None) else None
    first = {t.token: t.logprob for t in offered[0].top_logprobs or ()} if offered else {}
    first = {token: float(p) for token, p in first.items() if isinstance(p, int | float) and math.isfinite(p)}
    used = found.usage
    text = choice.message.content
    if not isinstance(text, str):
        raise TypeError("a reply without text")
    text, first = redact(text, secret), {t: p for t, p in first.items() if redact(t, secret) == t}
    return Reply(text, first, getattr(used, "prompt_tokens", 0) or 0, getattr(used, "completion_tokens", 0) or 0)


def _preference(reply: Reply) -> Said:
    """Weighted by the verdicts' probabilities where the reply is the verdict's letter alone, else as stated."""
    stated = read_verdict(reply.text)
    if stated is None:
        return f"unknown verdict {reply.text.strip()[:40]!r}"
    mass = dict.fromkeys(LETTERS, 0.0)
    for token, logprob in reply.first.items():
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logprob)
    if reply.text.strip() not in LETTERS or not mass[reply.text.strip()] or not mass["A"] * mass["B"]:
        return stated
    return FIRST + sum((LETTERS[k] - FIRST) * p for k, p in mass.items()) / sum(mass.values())


def load(how: ServerJudge, folder: Path) -> Server:
    """The judge of a recipe's settings; its calls are kept in the user's cache.

    Raises:
        UserError: the key is not in the environment, or the prompt's file is no template.
    """
    question = read_question(folder / how.prompt if how.prompt else None, "evals.judge.prompt")
    return Server(how, question, Calls(cache_dir("judges") / "calls.sqlite"))
