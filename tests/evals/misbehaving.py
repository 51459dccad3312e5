"""An OpenAI-compatible server on this machine that misbehaves on purpose, and a judge that asks it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from prefzoo.evals.judges.judge_prompt import JudgePrompt
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.evals.judges.server import ServerJudge, ServerSettings
from prefzoo.runtime.cache import Cache

KEY = "sk-do-not-show-me"
HANGS_UP, CUT_SHORT = 0, 1
Behave = Callable[[dict[str, Any], int], tuple[int, Any]]


class Misbehaving:
    """A server that answers each request with `behave(request, count)`, which returns a status and a body.

    `count` is how often the same text was asked so far. The statuses HANGS_UP and CUT_SHORT end the connection before
    the reply, and before its end.
    """

    def __init__(self) -> None:
        self.behave: Behave = lambda request, nth: (200, reply("A"))
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.headers: dict[str, str] = {}
        self.kind = "application/json"
        self.busy = self.most_busy = 0
        lock, outer = Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = request["messages"][0]["content"]
                with lock:
                    outer.busy += 1
                    outer.most_busy = max(outer.most_busy, outer.busy)
                    outer.asked.append(request)
                    outer.keys.add(self.headers["Authorization"])
                    nth = sum(r["messages"][0]["content"] == text for r in outer.asked)
                status, body = outer.behave(request, nth)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                with lock:
                    outer.busy -= 1
                try:
                    if status == HANGS_UP:
                        self.close_connection = True
                        return
                    self.send_response(200 if status == CUT_SHORT else status)
                    self.send_header("Content-Type", outer.kind)
                    self.send_header("Content-Length", str(len(data) + (9 if status == CUT_SHORT else 0)))
                    for name, value in outer.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                    self.close_connection = status == CUT_SHORT
                except OSError:  # the client no longer waits
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def reply(text: str | None, **first: float) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    if first:
        tokens = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in first.items()]
        choice["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return body


@contextmanager
def serving() -> Iterator[Misbehaving]:
    """Run a server within this context."""
    server = Misbehaving()
    thread = Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def judge(server: Misbehaving, folder: Path, pauses: list[float] | None = None, **options: Any) -> ServerJudge:
    settings = ServerSettings(kind="server", url=server.url, model="m", **{"timeout": 5.0, **options})
    return ServerJudge(
        settings, JudgePrompt(), Cache(folder / "calls.jsonl"), (pauses if pauses is not None else []).append
    )


def asked(n: int = 1) -> list[Comparison]:
    return [
        Comparison(PromptRow(str(i), f"task {i}"), Answer("base", True, 1), Answer("good", True, 1)) for i in range(n)
    ]


def prefers_good(request: dict[str, Any], nth: int) -> tuple[int, Any]:
    text = request["messages"][0]["content"]
    return 200, reply("A" if text.index("good") < text.index("base") else "B")
