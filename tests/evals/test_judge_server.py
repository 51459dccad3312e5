"""A judge behind HTTP, tried on a server on this machine that misbehaves on purpose."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from misbehaving import KEY, Misbehaving, asked, judge, prefers_good, reply, serving

from prefzoo.errors import UserError
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.judge_prompt import JudgePrompt
from prefzoo.evals.judges.server import ServerSettings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Misbehaving]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as started:
        yield started


def test_both_orders_concurrently_and_everything_cached(server: Misbehaving, tmp_path: Path) -> None:
    def slowly(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        time.sleep(0.05)
        return prefers_good(request, nth)

    server.behave = slowly
    told: list[tuple[int, int]] = []
    client = judge(server, tmp_path, workers=6)
    outcomes = client.compare(asked(6), lambda *x: told.append(x))
    assert [v.preference for v in outcomes] == [2.0] * 6 and {v.orders for v in outcomes} == {(2.0, 2.0)}
    assert len(server.asked) == 12 and 2 <= server.most_busy <= 6 and told[-1] == (12, 12)
    again = judge(server, tmp_path)
    assert again.forecast(asked(7)).startswith("14 calls of server:m@127.0.0.1:") and "12 of them cached" in (
        again.forecast(asked(7))
    )
    assert again.compare(asked(6)) == outcomes and len(server.asked) == 12
    assert client.prompt_hash == JudgePrompt().hash and client.name == again.name


def test_log_probs_make_the_preference_continuous(server: Misbehaving, tmp_path: Path) -> None:
    server.behave = lambda request, nth: (200, reply("A", A=0.6, B=0.2, the=0.1))
    (outcome,) = judge(server, tmp_path).compare(asked())
    # p(B) / (p(A) + p(B)) = 0.25: 1.25 straight, 3 - 1.25 = 1.75 swapped; only a position bias, hence a tie
    assert outcome.orders == pytest.approx((1.25, 1.75)) and outcome.preference == pytest.approx(1.5)
    assert server.asked[0]["logprobs"] and server.asked[0]["top_logprobs"] == 5


def test_a_server_that_offers_no_log_probs_is_asked_without(server: Misbehaving, tmp_path: Path) -> None:
    def refuse(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        return (400, {"error": {"message": "no logprobs"}}) if "logprobs" in request else prefers_good(request, nth)

    server.behave = refuse
    assert [v.preference for v in judge(server, tmp_path, workers=1).compare(asked(2))] == [2.0, 2.0]
    assert len(server.asked) == 5  # one refusal, and four calls


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "slow down"}}),
        (500, b"<html>oops</html>"),
        (503, {}),
        (200, b"{not json"),
        (200, {"choices": []}),
        (200, reply(None)),
        (200, reply("Both are fine answers.")),
    ],
)
def test_faults_that_pass_are_tried_again_with_growing_pauses(
    server: Misbehaving, tmp_path: Path, status: int, body: Any
) -> None:
    server.behave = lambda request, nth: (status, body) if nth <= 2 else prefers_good(request, nth)
    pauses: list[float] = []
    (outcome,) = judge(server, tmp_path, pauses, tries=3).compare(asked())
    assert outcome.preference == 2.0 and len(server.asked) == 6
    assert len(pauses) == 4 and all(0.5 <= p <= 1 for p in pauses[::2]) and all(1 <= p <= 2 for p in pauses[1::2])


@pytest.mark.parametrize(
    ("status", "body", "reason", "calls"),
    [
        (500, {}, "HTTP 500, 2 tries", 2),
        (429, {}, "HTTP 429, 2 tries", 2),
        (200, b"rubbish", "the reply is not a chat completion, 2 tries", 2),
        (200, reply("neither"), "unknown verdict 'neither', 2 tries", 2),
        (422, {}, "HTTP 422", 1),  # asking the same again would not help
    ],
)
def test_faults_that_last_are_missing_with_the_reason(
    server: Misbehaving, tmp_path: Path, status: int, body: Any, reason: str, calls: int
) -> None:
    server.behave = lambda request, nth: (status, body)
    (outcome,) = judge(server, tmp_path, tries=2).compare(asked())
    assert outcome.missing == reason and math.isnan(outcome.preference)
    assert len(server.asked) == 2 * calls  # for the two orders
    server.behave = prefers_good  # nothing of it was cached: another run tries again
    assert judge(server, tmp_path).compare(asked())[0].preference == 2.0


@pytest.mark.parametrize(("after", "least"), [("7", 7.0), ("9999", 60.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.5)])
def test_a_server_that_says_how_long_to_wait(server: Misbehaving, tmp_path: Path, after: str, least: float) -> None:
    server.headers = {"Retry-After": after}
    server.behave = lambda request, nth: (429, {}) if nth == 1 else prefers_good(request, nth)
    pauses: list[float] = []
    assert judge(server, tmp_path, pauses).compare(asked())[0].preference == 2.0
    assert all(least <= p <= max(least, 1.0) for p in pauses) and len(pauses) == 2


def test_a_killed_run_has_every_call_it_made(server: Misbehaving, tmp_path: Path) -> None:
    server.behave = prefers_good

    def kill(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(server, tmp_path, workers=2).compare(asked(10), kill)
    before = len(server.asked)
    assert 5 <= before < 20
    assert [v.preference for v in judge(server, tmp_path).compare(asked(10))] == [2.0] * 10
    assert len(server.asked) == 20  # none of them twice


def test_a_plain_question_before_anything_expensive(server: Misbehaving, tmp_path: Path) -> None:
    judge(server, tmp_path).check()
    judge(server, tmp_path).check()
    assert len(server.asked) == 1
    server.behave = lambda request, nth: (200, reply("Let me think about it"))
    with pytest.raises(UserError, match="a test question failed: unknown verdict 'Let me think about it', 4 tries; co"):
        judge(server, tmp_path / "fresh").check()


def test_a_server_that_hangs(server: Misbehaving, tmp_path: Path) -> None:
    def hang(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        time.sleep(0.3 if nth == 1 else 0)
        return prefers_good(request, nth)

    server.behave = hang
    (outcome,) = judge(server, tmp_path, timeout=0.1, tries=1).compare(asked())
    assert outcome.missing == "no reply in 0.1 s, 1 try"
    (outcome,) = judge(server, tmp_path, timeout=0.1, tries=2).compare(asked())
    assert outcome.preference == 2.0


@pytest.mark.slow
def test_one_bad_prompt_in_twenty_is_left_out_and_two_withhold_the_number(server: Misbehaving, tmp_path: Path) -> None:
    bad = {"task 3\n"}
    server.behave = lambda request, nth: (
        (200, reply("pass")) if any(b in request["messages"][0]["content"] for b in bad) else prefers_good(request, nth)
    )
    cover = coverage(judge(server, tmp_path, tries=2).compare(asked(20)))
    assert (cover.missing, cover.withheld) == (1, False)
    bad.add("task 7\n")
    cover = coverage(judge(server, tmp_path / "fresh", tries=2).compare(asked(20)))
    assert (cover.missing, cover.withheld) == (2, True) and cover.reasons == (("unknown verdict 'pass', 2 tries", 2),)


def test_no_server(tmp_path: Path, server: Misbehaving) -> None:
    client = judge(server, tmp_path, tries=2, timeout=0.5)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match=r"^judge server:m@127.*: no connection, 2 tries; start the server, or correct"):
        client.compare(asked(5))


@pytest.mark.parametrize(("status", "cure"), [(401, "check the variable OPENAI_API_KEY"), (404, "check url and model")])
def test_what_no_call_will_mend_stops_at_once_and_never_shows_the_key(
    server: Misbehaving, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, cure: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.behave = lambda request, nth: (status, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with pytest.raises(UserError) as caught:
        judge(server, tmp_path).compare(asked(5))
    assert str(caught.value).endswith(f": the server answers HTTP {status}; {cure}") and len(server.asked) == 1
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in str(caught.value) and KEY not in caplog.text
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_the_estimate_and_the_limit(server: Misbehaving, tmp_path: Path) -> None:
    server.behave = prefers_good
    priced = {"prompt_price": 1000.0, "answer_price": 1000.0, "workers": 1}
    client = judge(server, tmp_path, **priced, spend_limit=0.01)
    assert ", 0 of them cached; about $" in client.forecast(asked(2))
    assert client.forecast(asked(2)).endswith("limit $0.01")
    with pytest.raises(UserError, match=r"about \$\d.\d+ is needed, but spend_limit is \$0.01; raise evals.judge"):
        client.compare(asked(2))
    assert not server.asked  # nothing was paid
    assert judge(server, tmp_path).forecast(asked()).endswith("cost unknown: the recipe gives no prices")
    rich = judge(server, tmp_path, **priced, spend_limit=100.0)
    rich.compare(asked(2))
    # 4 calls of 100 + 1 tokens at 1000 dollars a million
    assert rich.budget.spent == pytest.approx(4 * 101 / 1000) and rich.budget.reserved == pytest.approx(0)


def test_retries_count_against_the_limit(server: Misbehaving, tmp_path: Path) -> None:
    server.behave = lambda request, nth: (200, reply("rubbish"))  # paid for all the same
    client = judge(server, tmp_path, prompt_price=1000.0, answer_price=0.0, spend_limit=0.7, tries=9)
    (outcome,) = client.compare(asked())
    assert outcome.missing == "spending limit of $0.7 reached" and client.budget.spent <= 0.7
    assert len(server.asked) < 18


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path))
    monkeypatch.delenv("OTHER_KEY", raising=False)
    settings = ServerSettings(kind="server", url="https://api.example.com/v1", model="m", key="OTHER_KEY")
    with pytest.raises(UserError, match="the environment variable OTHER_KEY is empty; export the key of api.example"):
        settings.load(tmp_path)
    local = ServerSettings(kind="server", url="http://localhost:1/v1", model="m", key="OTHER_KEY")
    assert local.load(tmp_path).name == "server:m@localhost:1"
