"""The columns of public data sets and of other tools' files: each is read as what it is, or refused in one line.

`public_sets.json` has rows of our own in these columns, the format, the prompt with its answers, and the columns with
text that are not used; or the fault. Each entry was compared by eye with what the data set means.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo

from prefzoo.data.examples import LabelledAnswer, Pair, Text
from prefzoo.data.reading import DataSource, read_source
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError

SETS = json.loads((Path(__file__).with_name("public_sets.json")).read_text(encoding="utf-8"))
RECIPE = (
    "name: s\nmodel: model\ndata: {train: d.jsonl, max_length: 2000}\ntrain: {batch: 1, steps: 1}\nvariants: {dpo: }\n"
)
KTO = RECIPE.replace("dpo", "kto")


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def spoken_by_assistant(text: Text) -> str:
    """What the assistant says, as the template of the tests writes it."""
    messages = [{"role": "assistant", "content": text}] if isinstance(text, str) else text
    return "".join(f"{m['content']}<|im_end|>" for m in messages if m["role"] == "assistant")


@pytest.mark.parametrize("one", SETS, ids=[one["name"] for one in SETS])
def test_it_is_read_as_what_it_is_or_refused_in_one_line(tmp_path: Path, one: dict[str, Any]) -> None:
    write(tmp_path, one["rows"])
    if "refused" in one:
        with pytest.raises(UserError) as e:
            read_source(DataSource("d.jsonl"), tmp_path)
        (line,) = e.value.lines
        assert line.startswith(f"d.jsonl: {one['refused']}; ")  # and the cure
        return
    data, _ = read_source(DataSource("d.jsonl"), tmp_path)
    example = data.examples[0]
    assert (data.schema, list(data.unused)) == (one["format"], one["unused"])
    if isinstance(example, LabelledAnswer):
        assert (example.prompt, example.completion, example.label) == (one["prompt"], one["completion"], True)
        return
    assert (example.prompt, example.chosen, example.rejected) == (one["prompt"], one["chosen"], one["rejected"])
    assert list(example.scores or ()) == one.get("scores", [])


def test_just_the_words_of_the_assistant_are_scored(tiny_tokenizer: Any) -> None:
    pairs = [
        Pair(one["prompt"], one["chosen"], one["rejected"], row)
        for row, one in enumerate(SETS)
        if "chosen" in one and "tool_calls" not in json.dumps(one["chosen"])  # which the template does not write
    ]
    assert len(pairs) > 100
    for pair, tokens in zip(pairs, tokenise(pairs, tiny_tokenizer, 5_000, "drop").examples, strict=True):
        assert isinstance(tokens, TokenPair)
        for text, ids, flags in zip(
            (pair.chosen, pair.rejected), tokens.answers, tokens.scored or (None, None), strict=True
        ):
            scored = [i for i, flag in zip(ids, flags or [True] * len(ids), strict=True) if flag]
            expected = tiny_tokenizer(spoken_by_assistant(text), add_special_tokens=False)["input_ids"]
            assert tiny_tokenizer.decode(scored) == tiny_tokenizer.decode(expected)


@pytest.mark.slow
def test_the_command_names_the_format_and_the_unused_columns_or_says_one_line(
    tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    tiny_model.save_pretrained("model")
    tiny_tokenizer.save_pretrained("model")
    wrong: list[str] = []
    for one in SETS:
        write(tmp_path, one["rows"])
        Path("r.yaml").write_text(KTO if "completion" in one else RECIPE)
        capsys.readouterr()
        code = prefzoo(monkeypatch, "data", "r.yaml")
        out, err = capsys.readouterr()
        shown = re.sub(r"\s+", " ", out)
        if "refused" in one:
            fine = code == 2 and f"d.jsonl: {one['refused']}" in err and len(err.strip().splitlines()) <= 2
        elif "tool_calls" in json.dumps([one["prompt"], one.get("chosen")]):
            fine = code == 2 and "d.jsonl: row 1: the chat template does not write the call of capital; use" in err
        else:
            columns = f"; columns not used: {', '.join(one['unused'])}" if one["unused"] else ""
            fine = code == 0 and one["format"] in shown and columns in shown and "Traceback" not in err
        wrong += [] if fine else [f"{one['name']}: {code}, {out[:300]}, {err[-300:]}"]
    assert not wrong
