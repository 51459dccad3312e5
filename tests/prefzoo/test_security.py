"""What others wrote (models, data, servers, recipes) runs no code, learns no key and writes nowhere but in the run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from called import prefzoo

from prefzoo.data.sources import read_rows
from prefzoo.engine import models
from prefzoo.errors import UserError
from prefzoo.evals.judges.function import load as load_function
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.experiment.evaluate import models_of
from prefzoo.recipe import load
from prefzoo.runtime import atomic_files
from prefzoo.runtime.redaction import redact

KEYS = {
    "OPENAI_API_KEY": "sk-do-not-show-me-1",
    "HF_TOKEN": "hf_do-not-show-me-2",
    "WANDB_API_KEY": "wandb-do-not-show-me-3",
    "AWS_SECRET_ACCESS_KEY": "aws-do-not-show-me-4",
    "MY_PASSWORD": "password-do-not-show-me-5",
}


def one_variant(folder: Path, evals: str = "", more: str = "") -> None:
    text = (folder / "r.yaml").read_text().split("variants:")[0].replace("steps: 25", "steps: 2")
    (folder / "r.yaml").write_text(f"{text}{more}variants: {{dpo: null}}\n{evals}")


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    one_variant(run_folder)
    return run_folder


# code in weights, models and data


class Explosive:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.marker, "run"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "model.pth"])
def test_a_pickle_is_refused_unread(name: str, run_folder: Path) -> None:
    folder, marker = run_folder / "model", run_folder / "marker"
    (folder / "model.safetensors").unlink()
    torch.save({"x": Explosive(marker)}, folder / name)
    with pytest.raises(
        UserError, match=rf"^model model: {name} is a pickle, .*convert it to safetensors: python -c \"f"
    ):
        models.load("model", run_folder)
    assert not marker.exists()
    torch.load(folder / name, weights_only=False)
    assert marker.exists()  # the trap was a real one


@pytest.mark.slow
def test_the_cure_for_a_pickle_cures(run_folder: Path, tiny_model: Any) -> None:
    folder = run_folder / "model"
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError) as e:
        models.load("model", run_folder)
    command = re.search(r'python -c "(.*)"$', str(e.value))
    assert command
    subprocess.run([sys.executable, "-c", command[1]], check=True, capture_output=True)
    loaded, _ = models.load("model", run_folder)
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), tiny_model.parameters(), strict=True))


MODEL_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).write_text("run")
class OwnConfig(LlamaConfig):
    model_type = "own"
class Own(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with code of its own, which leaves a file when it is run. Returns that file's path."""
    marker, folder = run_folder / "marker", run_folder / "model"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(run_folder / "modules"))
    (folder / "own.py").write_text(MODEL_CODE.format(marker=str(marker)))
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": auto}))
    return marker


def test_a_models_own_code_is_not_run_unless_the_recipe_says_so(
    own_code: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^model model: comes with its own Python code, which is not run; .* true in"):
        models.load("model", run_folder)
    assert not own_code.exists()
    models.load("model", run_folder, trust=True)
    assert own_code.exists()
    line = "model model: Python code that comes with it is run (the recipe's trust_remote_code: true)\n"
    assert capsys.readouterr().out == line


def test_the_recipe_decides_about_a_models_code(
    own_code: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "check", "r.yaml") == 2
    assert "set trust_remote_code: true in the recipe" in capsys.readouterr().err and not own_code.exists()
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "trust_remote_code=true") == 0
    assert own_code.exists() and "Python code that comes with it is run" in capsys.readouterr().out


def test_no_other_place_trusts_a_models_code() -> None:
    root = Path(models.__file__).parents[1]
    for path in [*root.glob("prefzoo/**/*.py"), *root.glob("evals/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, path
        assert not re.search(r"\b(torch\.load|pickle\.loads?|joblib|extractall|unpack_archive)\b\(", text), path


def test_only_the_files_that_a_recipe_names_are_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = "from pathlib import Path\nPath(__file__).with_suffix('.marker').write_text('run')\n"
    for name in ("conftest.py", "losses.py", "dpo.py", "verifier.py", "sitecustomize.py", "model/modeling.py"):
        (place / name).write_text(trap)
    named = "from prefzoo.losses import loss\n@loss(paper='mine')\ndef dear(policy):\n    return -policy.margin\n"
    (place / "named.py").write_text(trap + named)
    assert prefzoo(monkeypatch, "check", "r.yaml") == 0
    assert not [*place.rglob("*.marker")]
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "variants.dpo.loss=named.py:dear") == 0
    assert [*place.rglob("*.marker")] == [place / "named.marker"]


def test_the_program_of_a_data_set_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "owner" / "pairs"
    folder.mkdir(parents=True)
    (folder / "pairs.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').write('run')\n")
    elsewhere = tmp_path / "recipes"
    with pytest.raises(
        UserError, match=r"^owner/pairs: this data set is a Python script, and prefzoo does not run scripts"
    ):
        read_rows("owner/pairs", elsewhere)
    assert not (tmp_path / "marker").exists()


# keys


class Talkative(BaseHTTPRequestHandler):
    """Repeats the key in everything it answers: verdicts, rubbish, and errors."""

    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        key = self.headers["Authorization"]
        text = f"A {key}" if self.asked == 3 else f"{key} is a nice key"
        body: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 0, "model": key,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }  # fmt: skip
        status = 400 if self.asked in (2, 4) else 200  # in whatever order they come, most prompts get rubbish twice
        if self.asked == 1:
            body["choices"][0]["message"]["content"] = "A"
        if status != 200:
            body = {"error": {"message": f"Incorrect API key provided: {key}"}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def talkative() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Talkative)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_no_key_in_anything_a_run_says_or_writes(
    place: Path, talkative: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    judge = f"{{kind: server, url: '{talkative}', model: m, tries: 1, timeout: 60}}"
    one_variant(place, f'evals: {{prompts: "instruct:eval:6", judge: {judge}, max_new_tokens: 8}}\n')
    text = (place / "r.yaml").read_text()
    (place / "r.yaml").write_text(text.replace("learning_rate: 1e-3", "learning_rate: 0.3"))  # so that answers differ
    assert prefzoo(monkeypatch, "run", "r.yaml") == 3, "no verdict could be read"
    printed = "".join(capfd.readouterr()) + caplog.text
    files = [p for p in place.rglob("*") if p.is_file()]
    assert Talkative.asked > 6 and len(files) > 20
    annotations = (place / "results" / "tiny" / "dpo" / "annotations.json").read_text()
    assert "unknown verdict 'Bearer *** is a nice key'" in annotations  # what the server said is kept, without the key
    for value in KEYS.values():
        assert value not in printed
        assert not [p for p in files if value.encode() in p.read_bytes()]


def test_a_judge_function_that_repeats_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEYS["OPENAI_API_KEY"])
    text = "import os\ndef own(a, b, c):\n    raise OSError('bad key ' + os.environ['OPENAI_API_KEY'])\n"
    (tmp_path / "own.py").write_text(text)
    asked = [Comparison(PromptRow("0", "p"), Answer("a", True, 1), Answer("b", True, 1))]
    (outcome,) = load_function("own.py:own", tmp_path).compare(asked)
    assert outcome.missing == f"{tmp_path / 'own.py'}:3: OSError: bad key ***"


def test_an_error_that_repeats_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEYS["HF_TOKEN"])
    assert prefzoo(monkeypatch, "check", str(tmp_path / f"{KEYS['HF_TOKEN']}.yaml")) == 2
    printed = capsys.readouterr().err
    assert "***.yaml" in printed and KEYS["HF_TOKEN"] not in printed


def test_what_counts_as_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKENS", "12345678")
    monkeypatch.setenv("OTHER_KEY", "short")
    monkeypatch.setenv("KEYBOARD", "querty-layout")
    assert redact("12345678 short querty-layout own-secret", "own-secret") == "*** short querty-layout ***"


# paths

NAMES = ["../x", "/tmp/x", "..", ".", "a/b", "a\\b", "~", "", "x\n", "a\0b", ".hidden", "x" * 65]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["name", "variants"])
def test_names_that_are_no_names_of_folders_are_refused(name: str, where: str, place: Path) -> None:
    fields: dict[str, Any] = {
        "name": "tiny", "model": "model", "data": {"train": "train.jsonl"}, "variants": {"dpo": {"loss": "dpo"}}
    }  # fmt: skip
    fields |= {"name": name} if where == "name" else {"variants": {name: {"loss": "dpo"}}}
    (place / "bad.yaml").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"bad.yaml"):
        load.load(place / "bad.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["../../x", "/etc/passwd", "instruct/../x"])
def test_suites_are_known_by_name_alone(
    suite: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_variant(place, f"evals: {{benchmarks: ['{suite}']}}\n")
    cache = place / "cache"  # where lm-eval's list of tasks is written; everything else stays as it was
    before = {p for p in place.rglob("*")}
    assert prefzoo(monkeypatch, "run", "r.yaml") == 2
    after = {p for p in place.rglob("*") if p != cache and cache not in p.parents}
    assert suite in capsys.readouterr().err and after == before


@pytest.mark.parametrize("variant", ["dpo", "base"])
def test_a_link_in_a_runs_folder_leads_nowhere(
    variant: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outside, folder = place / "outside", place / "results" / "tiny"
    outside.mkdir()
    folder.mkdir(parents=True)
    (folder / variant).symlink_to(outside, target_is_directory=True)
    assert prefzoo(monkeypatch, "run", "r.yaml") == 2
    assert f"tiny/{variant}: leads out of results/tiny, to {outside}; remove the link" in capsys.readouterr().err
    assert not [*outside.iterdir()]


@pytest.mark.slow
def test_a_linked_results_folder_is_the_users_choice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "large").mkdir()
    (place / "results").symlink_to(place / "large", target_is_directory=True)
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    assert (place / "large" / "tiny" / "leaderboard.md").is_file()


@pytest.mark.slow
def test_prompts_that_look_like_paths_stay_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["../../escaped", "/tmp/prefzoo-escaped", "C:\\escaped", "a\0b", "$(touch escaped)"]
    (place / "prompts.jsonl").write_text("".join(json.dumps({"prompt": n, "id": n}) + "\n" for n in names))
    (place / "own.py").write_text("def own(prompt, a, b):\n    return 1.5\n")
    one_variant(place, "evals: {prompts: prompts.jsonl, judge: 'own.py:own', max_new_tokens: 4}\n")
    before = {p.name for p in place.iterdir()}
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    assert {p.name for p in place.iterdir()} - before <= {"results", "cache", "__pycache__"}
    assert not [p for p in place.parent.rglob("*escaped*")] and not Path("/tmp/prefzoo-escaped").exists()


def test_a_target_of_eval_has_a_name_of_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "model")
    (place / "model" / "inner").mkdir()
    monkeypatch.chdir(place / "model" / "inner")
    result = models_of([Path("..")], base="b")
    assert result == {"base": "b", "model": str(place / "model")}


def test_inside(tmp_path: Path) -> None:
    assert atomic_files.resolve_inside(tmp_path, "a", "b") == tmp_path / "a" / "b"
    for name in ("..", "a/../..", "/etc", "."):
        with pytest.raises(UserError, match="leads out of"):
            atomic_files.resolve_inside(tmp_path, name)
