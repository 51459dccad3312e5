"""What `check`, `data`, `run` and the report tell about the data: its format, unused columns, rows left out."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from called import prefzoo as called
from rich.console import Console

from prefzoo.data import reading, token_cache
from prefzoo.data.audits import examine
from prefzoo.data.faults import Faults
from prefzoo.data.files import Position
from prefzoo.data.sources import Address, iterate_rows
from prefzoo.experiment import data
from prefzoo.runtime import progress

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl}
train: {batch: 4, steps: 1, precision: fp32}
variants: {dpo: }
"""
ORCA = [
    {"id": f"n{i}", "system": "Be brief.", "question": f"Is it {i}?", "chosen": f"It is {i}.", "rejected": f"No {i}."}
    for i in range(12)
]
BROKEN = [{"id": "x", "question": "Is it?", "chosen": "yes", "rejected": "yes"}, {"question": "q", "chosen": " "}]


@pytest.fixture
def place(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    write(tmp_path / "train.jsonl", ORCA)
    write(tmp_path / "test.jsonl", ORCA[:4])
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Called(NamedTuple):
    code: int
    stdout: str
    stderr: str


Command = Callable[..., Called]


@pytest.fixture
def prefzoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call a command, and return its exit code and what it prints."""

    def run(*words: str) -> Called:
        capsys.readouterr()
        code = called(monkeypatch, *words)
        return Called(code, *capsys.readouterr())

    return run


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_the_format_and_unused_columns_are_shown_by_every_command(place: Path, prefzoo: Command) -> None:
    words = "orca, conversational; columns not used: id"
    for command in ("check", "data"):
        out = prefzoo(command, "recipe.yaml").stdout
        assert words in out, command
        assert command != "check" or "tiny: model (40.4K parameters), 12 pairs (" in out
    out = prefzoo("run", "recipe.yaml").stdout
    assert f"data: 12 training pairs ({words})" in out and f"data: 4 held-out pairs ({words})" in out
    assert words in (place / "results" / "tiny" / "report.html").read_text()


@pytest.mark.slow
def test_rows_left_out_are_counted_and_written_to_a_file_of_the_run(place: Path, prefzoo: Command) -> None:
    write(place / "train.jsonl", [*ORCA, *BROKEN])
    refused = prefzoo("check", "recipe.yaml")
    assert refused.code == 2 and "train.jsonl: row 13: chosen equals rejected" in refused.stderr
    out = prefzoo("run", "recipe.yaml", "--set", "data.on_bad_row=drop").stdout
    assert "1 dropped: chosen equals rejected, 1 dropped: chosen is empty" in out
    assert "data: the 2 rows left out are in results/tiny/dropped_rows.train.jsonl" in out
    folder = place / "results" / "tiny"
    kept = [json.loads(line) for line in (folder / "dropped_rows.train.jsonl").read_text().splitlines()]
    assert kept == [
        {"place": "train.jsonl: row 13", "fault": "chosen equals rejected; remove the row", "row": BROKEN[0]},
        {"place": "train.jsonl: row 14", "fault": "chosen is empty; remove the row", "row": BROKEN[1]},
    ]
    assert json.loads((folder / "data_audit.json").read_text())["train"]["counts"] == {
        "dropped: chosen equals rejected": 1, "dropped: chosen is empty": 1,
    }  # fmt: skip
    assert not (folder / "dropped_rows.eval.jsonl").exists()
    write(place / "train.jsonl", ORCA)
    prefzoo("run", "recipe.yaml")
    assert not (folder / "dropped_rows.train.jsonl").exists()


def test_rows_that_the_chat_template_refuses_are_left_out_too(place: Path, prefzoo: Command) -> None:
    odd = {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": None}
    odd["rejected"] = [odd["chosen"][0], {"role": "assistant", "content": "b"}]  # type: ignore[index]
    strict = json.loads((place / "model" / "tokenizer_config.json").read_text())
    template = place / "model" / "chat_template.jinja"
    text = template.read_text() if template.exists() else strict["chat_template"]
    template.write_text("{% if messages[0]['content'] == 'q' %}{{ raise_exception('no q') }}{% endif %}" + text)
    good = [{**odd, "chosen": [{"role": "user", "content": f"p{i}"}, odd["chosen"][1]],  # type: ignore[index]
             "rejected": [{"role": "user", "content": f"p{i}"}, odd["rejected"][1]]} for i in range(4)]  # fmt: skip
    write(place / "train.jsonl", [*good, odd])
    refused = prefzoo("check", "recipe.yaml")
    assert refused.code == 2 and "train.jsonl: row 5: the chat template refuses the roles" in refused.stderr
    out = prefzoo("check", "recipe.yaml", "--set", "data.on_bad_row=drop").stdout
    assert "4 pairs (implicit" in out and "1 pairs dropped: the chat template refuses" in out


@pytest.mark.slow
def test_a_format_may_be_forced(place: Path, prefzoo: Command) -> None:
    row = {"prompt": "\n\nHuman: is it?\n\nAssistant:", "chosen": " yes", "rejected": " no"}
    write(place / "train.jsonl", [row] * 4)
    write(place / "test.jsonl", [{**row, "chosen": " sure"}])
    assert "transcripts, conversational" in prefzoo("check", "recipe.yaml").stdout
    forced = prefzoo("check", "recipe.yaml", "--set", "data.format=explicit prompt").stdout
    assert "explicit prompt, plain strings" in forced


FIRST = {"prompt": "Which one is it?", "chosen": "This.", "rejected": "That."}
SECOND = {"prompt": "Which one is it?", "chosen": "That.", "rejected": "This."}
PLAIN = [{**FIRST, "prompt": f"Is it number {i} now?"} for i in range(8)]
DROP = ("--set", "data.drop=[contradictions, leaks]")


@pytest.fixture
def odd(place: Path) -> Path:
    """Training data of which rows 9 and 10 contradict each other, and row 4 is nearly the held-out one."""
    write(place / "train.jsonl", [*PLAIN, FIRST, SECOND])
    write(place / "test.jsonl", [{**FIRST, "prompt": "Is it number 3, now?"}])
    return place


def test_odd_rows_are_shown_and_warned_of(odd: Path, prefzoo: Command) -> None:
    shown = prefzoo("data", "recipe.yaml").stdout
    assert "rows 9 and 10" in shown and "rows 4 and 1 (the second of test.jsonl)" in shown
    assert "data.drop: [contradictions, leaks]" in shown
    assert prefzoo("data", "recipe.yaml", "--html").stdout == "data.html\n"
    assert "rows 9 and 10" in (odd / "data.html").read_text()
    warned = prefzoo("check", "recipe.yaml").stdout
    assert "2 of the 10 rows of train.jsonl: another row has the same pair the other way round" in warned
    assert "data.train: 1 row is nearly the same as rows of test.jsonl (rows 4 and 1 (the second" in warned
    idle = prefzoo("check", "recipe.yaml", "--set", "data.drop=[leaks]", "--set", "data.eval=null").stdout
    assert "data.drop: leaks has no effect without data.eval" in idle
    wrong = prefzoo("check", "recipe.yaml", "--set", "data.drop=[leak]")
    assert wrong.code == 2 and "did you mean 'leaks'?" in wrong.stderr


@pytest.mark.slow
def test_leaks_into_the_pairs_that_choose_settings_are_warned_of_and_left_out(odd: Path, prefzoo: Command) -> None:
    write(odd / "chosen_by.jsonl", [{**FIRST, "prompt": "Is it number 5, now?"}, {**FIRST, "prompt": "Or which?"}])
    sweep = ("--set", "variants.dpo.beta=[0.1, 0.2]", "--set", "sweep.validation=chosen_by.jsonl")
    warned = prefzoo("check", "recipe.yaml", *sweep).stdout
    assert "data.train: 1 row is nearly the same as rows of chosen_by.jsonl (rows 6 and 1 (the second" in warned
    assert "chosen_by.jsonl: explicit prompt" in prefzoo("data", "recipe.yaml", *sweep).stdout
    dropped = prefzoo("check", "recipe.yaml", *sweep, *DROP).stdout
    assert "2 pairs dropped: a leak" in dropped and "nearly the same" not in dropped
    write(odd / "chosen_by.jsonl", [PLAIN[2], {**FIRST, "prompt": "Or which?"}])
    same = prefzoo("check", "recipe.yaml", *sweep).stdout
    assert "sweep.validation: chosen_by.jsonl: 1 of 2 pairs have a prompt of the training data (the first is" in same


def test_ches_scores_are_shown_if_asked_for(place: Path, prefzoo: Command) -> None:
    out = prefzoo("data", "recipe.yaml", "--ches").stdout
    assert "CHES of 12 pairs, normalised by length: median" in out and "CHES of 4 pairs" in out
    assert "CHES" not in prefzoo("data", "recipe.yaml").stdout
    write(place / "train.jsonl", [{"prompt": "p", "completion": "c", "label": bool(i)} for i in range(2)])
    refused = prefzoo("data", "recipe.yaml", "--ches")
    assert refused.code == 2 and "--ches compares the two answers of a pair" in refused.stderr


def test_odd_rows_are_left_out_if_asked_for(odd: Path, prefzoo: Command) -> None:
    checked = prefzoo("check", "recipe.yaml", *DROP).stdout
    assert "7 pairs (explicit prompt" in checked
    assert "2 pairs dropped: a contradiction" in checked and "1 pairs dropped: a leak" in checked
    assert "nearly the same" not in checked and "the same pair the other way" not in checked
    assert "raise it" not in checked  # the rows are left out as asked, and not by max_length


@pytest.mark.slow
def test_a_run_keeps_what_it_left_out_and_what_it_was_trained_on(odd: Path, prefzoo: Command) -> None:
    out = prefzoo("run", "recipe.yaml", *DROP).stdout
    assert "data: the 3 rows left out are in results/tiny/dropped_rows.train.jsonl" in out
    folder = odd / "results" / "tiny"
    kept = [json.loads(line) for line in (folder / "dropped_rows.train.jsonl").read_text().splitlines()]
    assert [(row["place"], row["fault"], row["row"]) for row in kept] == [
        ("train.jsonl: row 4", "a leak; nearly the same as row 1 of test.jsonl", PLAIN[3]),
        ("train.jsonl: row 9", "a contradiction; row 10 has the same pair the other way round", FIRST),
        ("train.jsonl: row 10", "a contradiction; row 9 has the same pair the other way round", SECOND),
    ]
    audit = json.loads((folder / "data_audit.json").read_text())["train"]
    assert (audit["rows"], audit["kept"], audit["unwanted"]) == (10, 7, 3)
    assert {"name": "swapped", "count": 2, "rows": [[9, 10]]}.items() <= audit["findings"][0].items()
    _check_card(odd, json.loads((folder / "data_card.json").read_text()))
    written = (folder / "dpo" / "checkpoint" / "README.md").read_text()
    assert "train.jsonl (explicit prompt, plain strings, sha256 " in written and "7 of 10 rows" in written
    assert "left out: a leak (1), a contradiction (2)" in written
    assert "data.drop" in prefzoo("run", "recipe.yaml").stdout  # named as what changed: the rows are other ones


def _check_card(folder: Path, card: dict[str, Any]) -> None:
    train = card["sets"]["train"]
    (source,) = train["sources"]
    content = (folder / "train.jsonl").read_bytes()
    assert (source["kind"], source["sha256"]) == ("file", hashlib.sha256(content).hexdigest())
    assert (source["bytes"], source["rows"], source["kept"]) == (len(content), 10, 7)
    assert train["left_out"] == {"a contradiction": 2, "a leak": 1}
    assert card["reading"]["drop"] == ["contradictions", "leaks"]
    assert len(train["token_ids"]) == 16 and train["token_ids"] != card["sets"]["eval"]["token_ids"]


def test_reading_audit_and_tokenising_of_a_large_file_show_their_progress(
    place: Path, prefzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((reading, "AT_ONCE"), (token_cache, "CHUNK"), (data, "CHUNK"), (examine, "EVERY")):
        monkeypatch.setattr(module, name, 3)
    monkeypatch.setattr(token_cache, "ALONE", 1_000)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    write(place / "train.jsonl", [{**row, "notes": "x" * 20_000} for row in ORCA])  # more than is read ahead
    lines = prefzoo("data", "recipe.yaml").stderr.splitlines()
    shown = [line.strip() for line in lines if "train.jsonl" in line]
    for doing in ("reading", "auditing", "tokenising"):
        own = [line for line in shown if line.startswith(doing)]
        assert own[0] == f"{doing} train.jsonl …" and own[-1].startswith(f"{doing} train.jsonl: done in")
        assert [line.split()[2].partition("/")[0] for line in own[1:-1]][:3] == ["3", "6", "9"]
    assert any(re.fullmatch(r"reading train.jsonl: 6/12 rows, .* rows/s, .* s left 5\d% of the file", x) for x in shown)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "jsonl.gz", "parquet"])
def test_each_kind_of_file_tells_how_much_of_it_was_read(tmp_path: Path, kind: str) -> None:
    import pandas as pd

    rng, path = random.Random(0), tmp_path / f"d.{kind}"  # nothing in it can be made shorter
    frame = pd.DataFrame([{"chosen": rng.randbytes(200).hex(), "rejected": "no"} for _ in range(4_000)])
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines="jsonl" in kind)
    position = Position()
    iterator = iterate_rows(Address(path.name), tmp_path, Faults("d"), position)
    assert len(list(islice(iterator, 2_000))) == 2_000
    assert 3_000 < position.total(2_000) < 4_100 and 0.4 < (position.share or 0.5) < 0.65
    assert len(list(iterator)) == 2_000 and position.total(4_000) == 4_000 and position.share in (None, 1.0)


def test_a_stream_tells_the_rows_that_were_read(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with progress.large_stage("reading org/pairs", "rows", Console(), 3) as report:
        report(4, Position().total(4), "")
    assert "reading org/pairs: 4 rows, " in capsys.readouterr().out
