"""`prefzoo judge` as a user meets it."""

from __future__ import annotations

import copy
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from called import prefzoo

from prefzoo.cli.judge import NUMBERS

RECIPE = """\
name: tiny
model: nowhere
data: {train: pairs.jsonl, eval: pairs.jsonl, columns: {prompt: question}}
variants: {dpo: }
evals: {judge: "own.py:longer"}
"""
OWN = "def longer(instruction, output_1, output_2):\n    return 1 + float(len(output_2) > len(output_1))\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"question": f"q{i}", "chosen": "a" * (5 if i else 1), "rejected": "b" * 3} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_judge_is_measured_on_the_recipes_pairs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "judge", "r.yaml", "--out", "q.json") == 0
    out = capsys.readouterr().out
    assert "function:own.py:longer@" in out and "4 labelled pairs; 0 verdicts are ties" in out
    assert "agrees with the label: 75.0%" in out and "longer answer wins: 100.0%" in out
    assert "longer answer is the labelled one: 75.0%" in out and "winner flips when answers swap: 0.0%" in out
    assert json.loads((place / "q.json").read_text())["agreement"]["n"] == 4


def test_a_judges_name_is_printed_as_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "package:x.py").write_text(OWN)  # a terminal's library reads :package: as a picture
    assert prefzoo(monkeypatch, "judge", "r.yaml", "--set", "evals.judge='package:x.py:longer'") == 0
    assert "function:package:x.py:longer@" in capsys.readouterr().out


JUDGES = {
    "verifier": "verifier",
    "function": "own.py:longer",
    "reward": "{kind: reward, model: rm}",
    "model": "{kind: model, model: model}",
    "server": "{kind: server, url: 'http://127.0.0.1:%d/v1', model: m}",
}


class SaysA(BaseHTTPRequestHandler):
    """A server whose judge always prefers the first position."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A"}}
        data = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("kind", JUDGES)
def test_every_kind_of_judge_is_measured(
    place: Path, kind: str, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import torch
    from transformers import LlamaForSequenceClassification

    tiny_model.config.max_position_embeddings = 2048
    tiny_model.save_pretrained(place / "model")
    config = copy.deepcopy(tiny_model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForSequenceClassification(config).save_pretrained(place / "rm")
    for name in ("model", "rm"):
        tiny_tokenizer.save_pretrained(place / name)
    checks = [{"kind": "avoids", "word": "bbb"}]
    rows = [{"prompt": f"q{i}", "chosen": "a" * (5 if i else 1), "rejected": "bbb", "checks": checks} for i in range(4)]
    (place / "checked.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    http = ThreadingHTTPServer(("127.0.0.1", 0), SaysA)
    Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    spec = JUDGES[kind] % http.server_port if kind == "server" else JUDGES[kind]
    words = ("judge", "r.yaml", "--pairs", "checked.jsonl", "--set", f"evals.judge={spec}", "--out", "q.json")
    assert prefzoo(monkeypatch, *words) == 0
    http.shutdown()
    http.server_close()
    out, printed = capsys.readouterr().out, json.loads((place / "q.json").read_text())
    for _, label in NUMBERS:
        assert f"  {label}: " in out
    assert printed["agreement"]["n"] == 4 and "longer answer is the labelled one: 75.0%" in out
    one_at_a_time = kind in ("verifier", "reward")  # which no order can sway
    assert printed["flips"]["n"] == (0 if one_at_a_time else 4)
    if kind == "verifier":
        assert printed["agreement"]["value"] == 1.0
    if kind == "server":
        assert (printed["flips"]["value"], printed["first_position"]["value"], printed["ties"]) == (1.0, 1.0, 4)


def test_labelled_pairs_may_have_any_known_format(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "judge", "r.yaml", "-q") == 0
    mapped = capsys.readouterr().out
    assert (
        prefzoo(monkeypatch, "judge", "r.yaml", "-q", "--pairs", "pairs.jsonl") == 0
    )  # a question is told without a mapping
    assert capsys.readouterr().out == mapped


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--pairs", "none.jsonl"],
            "none.jsonl: no such file; paths on the command line are relative to the current folder",
        ),
        (
            ["--set", "data.eval=none.jsonl"],
            "none.jsonl: no such file; paths in a recipe are relative to the recipe",
        ),
        (
            ["--pairs", "talk.jsonl"],
            "talk.jsonl: row 1: chosen is a conversation of several messages; a judge compares answers of one message",
        ),
        (["--pairs", "single.jsonl"], "single.jsonl: row 1: a single labelled answer; labelled pairs need prompt,"),
        (["--set", "data.eval=null"], "r.yaml: data.eval is not set; name labelled pairs by --pairs FILE"),
        (["--set", "evals.judge=own.py:short"], "evals.judge: own.py has no function 'short'; it has longer"),
    ],
)
def test_mistakes(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": role, "content": role} for role in ("assistant", "user", "assistant")]
    talk = {"prompt": [{"role": "user", "content": "q"}], "chosen": turns, "rejected": turns[::2]}
    (place / "talk.jsonl").write_text(json.dumps(talk))
    (place / "single.jsonl").write_text(json.dumps({"prompt": "q", "completion": "a", "label": True}))
    assert prefzoo(monkeypatch, "judge", "r.yaml", *words) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err
