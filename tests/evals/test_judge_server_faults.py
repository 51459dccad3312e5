"""What a server can do to a judge, and what is left of the number: cut connections, kills, faults of all kinds."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from misbehaving import CUT_SHORT, HANGS_UP, KEY, Misbehaving, asked, judge, prefers_good, reply, serving

from prefzoo.cli import main
from prefzoo.evals.judges.coverage import coverage


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Misbehaving]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as started:
        yield started


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (HANGS_UP, b"", "no connection"),
        (CUT_SHORT, reply("A"), "no connection"),
        (200, b"", "the reply is not a chat completion"),
        (200, b"null", "the reply is not a chat completion"),
        (200, [], "the reply is not a chat completion"),
        (200, {"error": {"message": "overloaded"}}, "the reply is not a chat completion"),
        (200, reply(""), "unknown verdict ''"),
        (200, reply("D"), "unknown verdict 'D'"),
        (502, b"", "HTTP 502"),
    ],
)
def test_tried_again_and_missing_with_the_reason_where_it_lasts(
    server: Misbehaving, tmp_path: Path, status: int, body: Any, reason: str
) -> None:
    def at_first(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        return (status, body) if nth == 1 else prefers_good(request, nth)

    def always(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        return (status, body) if "task 1\n" in request["messages"][0]["content"] else prefers_good(request, nth)

    server.behave = at_first
    pauses: list[float] = []
    assert judge(server, tmp_path, pauses).compare(asked())[0].preference == 2.0
    assert len(server.asked) == 4 and len(pauses) == 2
    server.behave = always
    outcomes = judge(server, tmp_path, tries=2).compare(asked(2))
    assert outcomes[0].preference == 2.0 and outcomes[1].missing == f"{reason}, 2 tries"


def test_a_web_page_in_place_of_a_reply(server: Misbehaving, tmp_path: Path) -> None:
    server.kind = "text/html"  # a proxy's login page, say
    server.behave = lambda request, nth: (200, b"<html>log in</html>")
    (outcome,) = judge(server, tmp_path, tries=2).compare(asked())
    assert outcome.missing == "the reply is not a chat completion, 2 tries"


@pytest.mark.parametrize("wrong", [None, math.nan, -math.inf, "x"])
def test_log_probs_that_are_no_numbers_leave_the_verdict_as_stated(
    server: Misbehaving, tmp_path: Path, wrong: Any
) -> None:
    body = reply("A", A=0.5, B=0.5)
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["logprob"] = wrong
    server.behave = lambda request, nth: (200, body)
    (outcome,) = judge(server, tmp_path).compare(asked())
    assert outcome.orders == (1.0, 2.0)
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = None
    assert judge(server, tmp_path / "fresh").compare(asked())[0].orders == (1.0, 2.0)


@pytest.mark.slow
def test_a_storm_of_faults_that_pass_costs_no_verdict_and_no_second_call(server: Misbehaving, tmp_path: Path) -> None:
    faults = [(429, {}), (500, b"oops"), (HANGS_UP, b""), (200, b"{"), (200, reply("Well ...")), (503, {})]

    def storm(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        number = sum(request["messages"][0]["content"].encode()) % 13  # which faults, by the question
        return faults[(number + nth) % len(faults)] if nth <= number % 4 else prefers_good(request, nth)

    server.behave = storm
    outcomes = judge(server, tmp_path, tries=4, workers=6).compare(asked(30))
    assert [v.preference for v in outcomes] == [2.0] * 30 and not coverage(outcomes).missing
    count = len(server.asked)
    assert count > 60
    assert judge(server, tmp_path).compare(asked(30)) == outcomes and len(server.asked) == count


KILLED = """
import sys
from pathlib import Path
from misbehaving import asked
from prefzoo.runtime.cache import Cache
from prefzoo.evals.judges.server import ServerJudge
from prefzoo.evals.judges.judge_prompt import JudgePrompt
from prefzoo.evals.judges.server import ServerSettings
how = ServerSettings(kind="server", url=sys.argv[1], model="m", workers=3)
found = ServerJudge(how, JudgePrompt(), Cache(Path(sys.argv[2]))).compare(asked(20))
print([v.preference for v in found] == [2.0] * 20)
"""


@pytest.mark.slow
def test_a_judging_that_is_killed_pays_for_nothing_twice(server: Misbehaving, tmp_path: Path) -> None:
    def slowly(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        time.sleep(0.1)
        return prefers_good(request, nth)

    server.behave = slowly
    words = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "calls.jsonl")]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=env) as run:
        end = time.monotonic() + 60
        while len(server.asked) < 15 and time.monotonic() < end:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    assert 15 <= len(server.asked) < 40
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True"
    times = Counter(r["messages"][0]["content"] for r in server.asked)
    # a call that was under way in one of three workers has to be made again; no other
    assert len(times) == 40 and len(server.asked) <= 40 + 3


@pytest.mark.slow
def test_the_table_says_what_is_missing_and_withholds_what_is_too_little(
    server: Misbehaving, tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("base", "one"):
        tiny_model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        tiny_model.lm_head.weight.data *= -1
    rows = [json.dumps({"prompt": f"task {i}."}) for i in range(20)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    bad = ["task 3."]
    server.behave = lambda request, nth: (
        (200, reply("pass")) if any(b in request["messages"][0]["content"] for b in bad) else (200, reply("A"))
    )
    judged_by = f"{{kind: server, url: '{server.url}', model: m, tries: 1}}"
    words = [
        "prefzoo",
        "eval",
        "base",
        "one",
        "--suite",
        "prompts.jsonl",
        "--max-new-tokens",
        "3",
        "--judge",
        judged_by,
    ]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert "one: 1 of 20 verdicts are missing (1 x unknown verdict 'pass', 1 try); left out" in capsys.readouterr().out
    board = pd.read_csv("results/eval/leaderboard.csv").query("metric == 'win_rate'").iloc[0]
    assert (board.n, board.missing, board.value) == (19, 1, 0.5)
    count = len(server.asked)
    bad.append("task 7.")
    (replies,) = (tmp_path / "cache" / "judges").glob("replies-*.jsonl")
    replies.unlink()
    with pytest.raises(SystemExit, match="3"):
        main()
    assert "2 of 20 verdicts are missing (2 x unknown verdict 'pass', 1 try); more than 5%: the number is with" in (
        capsys.readouterr().out
    )
    board = pd.read_csv("results/eval/leaderboard.csv").query("metric == 'win_rate'").iloc[0]
    assert math.isnan(board.value) and board.missing == 2 and board.note == "withheld: 2 of 20 missing"
    assert len(server.asked) == 2 * count
    assert KEY not in "".join(p.read_text(errors="ignore") for p in tmp_path.rglob("*") if p.is_file())
