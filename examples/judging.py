"""Judge answers of a run again, by AlpacaEval's own annotator and by Arena-Hard's verdicts, without a paid server.

    python examples/judging.py results/quickstart results/judging

A small server on this machine stands in for a judging model: it prefers the answer that passes more of its prompt's
checks, likes whatever stands first a little, and errs now and then. The "people" whose labels correct it go by the
checks alone. Each judge's board has raw, length-controlled and corrected win rates, and says which variants are equal
within three points. With a real server, name its `url` in place of this one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.judged_files import all_measured
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.alpaca_eval import AlpacaEvalSettings
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.evals.judges.server import ServerSettings
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.experiment.labels import labels_of, with_labels
from prefzoo.experiment.stages.judge import judge_models

PROMPTS, POINTS = 40, 3.0
GRADES = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
Scores = dict[str, dict[str, float]]  # prompt -> answer -> share of checks that it passes


def preference(text: str, scores: Scores) -> float:
    """Return the chance that the first answer in a judge's prompt is the better one."""
    prompt = max((p for p in scores if p in text), key=len)
    rest, places = text[text.index(prompt) + len(prompt) :], {}
    for answer in sorted(filter(None, scores[prompt]), key=len, reverse=True):  # one may be a part of another
        at = rest.rfind(answer)
        if at >= 0:
            places[at] = answer
            rest = f"{rest[:at]}{' ' * len(answer)}{rest[at + len(answer) :]}"
    first, second = places[min(places)], places[max(places)]
    luck = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32 - 0.5
    return 1 / (1 + math.exp(-(6 * (scores[prompt][first] - scores[prompt][second]) + 0.3 + 3 * luck)))


def completion(request: dict[str, Any], scores: Scores) -> dict[str, Any]:
    """Return a chat completion: a token with log-probs for AlpacaEval's prompt, a reasoned verdict for Arena-Hard's."""
    p = preference(request["messages"][-1]["content"], scores)
    message = {"role": "assistant", "content": "m" if p >= 0.5 else "M"}  # noqa: PLR2004 - the likelier one
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": message}
    if request.get("logprobs"):
        top = [{"token": t, "logprob": math.log(q), "bytes": None} for t, q in (("m", p), ("M", 1 - p))]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    else:
        grade = GRADES[min(4, int(5 * (1 - p)))]
        message["content"] = f"Assistant A passes its checks with probability {p:.2f}. [[{grade}]]"
    usage = {"prompt_tokens": 400, "completion_tokens": 1, "total_tokens": 401}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def serving(scores: Scores) -> Iterator[str]:
    """Serve the stand-in for a judging model, and return its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(completion(request, scores)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()


def write_labels(path: Path, prompts: list[PromptRow], models: dict[str, Measured], scores: Scores) -> None:
    """Write what people would say of every second pair of answers that the checks tell apart."""
    rows = []
    for i, prompt in enumerate(prompts):
        base, own = (models[name].answers[i] for name in ("base", list(models)[1 + i % (len(models) - 1)]))
        of = scores[prompt.text]
        if i % 2 == 0 and of[base] != of[own]:
            chosen, rejected = sorted((base, own), key=of.__getitem__, reverse=True)
            rows.append({"id": prompt.id, "prompt": prompt.text, "chosen": chosen, "rejected": rejected})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main(run: Path, out: Path) -> None:
    """Judge the first answers of a run by both judges, and write their boards to folders of `out`."""
    prompts = load_prompts("instruct:eval", Path())[:PROMPTS]
    known = all_measured(read_run(run))
    cut = ("scores", "words", "finished", "repetition", "answers", "tokens")
    models = {
        name: replace(m, margins=[], pairs={}, kl=[], preferences=[], benchmarks={}, sources=[],
                      **{field: getattr(m, field)[:PROMPTS] for field in cut})
        for name, m in known.items()
    }  # fmt: skip
    scores = {
        row.text: {a: Verifier().score(row, Answer(a, True, 0)) for m in models.values() for a in [m.answers[i]]}
        for i, row in enumerate(prompts)
    }
    out.mkdir(parents=True, exist_ok=True)
    write_labels(out / "labels.jsonl", prompts, models, scores)
    labels = labels_of("labels.jsonl", out, prompts)
    console = Console(quiet=True)
    with serving(scores) as url:
        for name, settings in {
            "alpaca_eval": AlpacaEvalSettings(kind="alpaca_eval", annotator="weighted_alpaca_eval_gpt4_turbo", url=url),
            "arena": ServerSettings(kind="server", url=url, model="stand-in", verdicts="arena"),
        }.items():
            judge = load_judge(settings, Path())
            judge.name = judge.name.partition("@")[0]  # not the port, which is another each time
            shutil.rmtree(out / name, ignore_errors=True)
            judged = with_labels(judge, labels, prompts, judge_models(judge, prompts, models, out / name, console),
                                 out / name, console)  # fmt: skip
            board = leaderboard.build(judged, {}, points=POINTS)
            board.write(out / name)
            for file in [*out.glob(f"{name}/*.parquet"), *out.glob(f"{name}/*/measuring.json")]:
                file.unlink()
            print(f"{name}: {board.verdict().answer}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:  # the stand-in's replies are worth no place in the user's
        os.environ["PREFZOO_CACHE"] = cache
        main(*(Path(word) for word in sys.argv[1:3]))
