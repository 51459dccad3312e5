"""Data: sources, schemas and the exact boundary between prompt and answer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from prefzoo.data.schemas import normalise, schema
from prefzoo.data.sources import read_rows
from prefzoo.data.tokens import tokenise
from prefzoo.errors import UserError

ROW = {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No way."}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    import pandas as pd

    path = tmp_path / name
    frame = pd.DataFrame([ROW, ROW])
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".json"):
        path.write_text(json.dumps([ROW, ROW]))
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode() * 2))
    else:
        path.write_text((json.dumps(ROW) + "\n") * 2)
    assert read_rows(name, tmp_path) == [ROW, ROW]


def test_columns_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"q": "Hi?", "good": "Yes.", "rejected": "No."}))
    found = read_rows("a.jsonl", tmp_path, {"prompt": "q", "chosen": "good"})
    assert (found[0]["prompt"], found[0]["chosen"]) == ("Hi?", "Yes.")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"chosen": "a"}\n{broken\n', "a.jsonl:2: not JSON"),
        ("[1]\n", "a.jsonl:1: list where an object"),
        ("", "no rows in it"),
        ('{"chosen": "a", "rejectd": "b"}', "no column 'rejected' for rejected; it has chosen, rejectd; did you mean"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError) as caught:
        read_rows("a.jsonl", tmp_path)
    assert says in str(caught.value)


def test_absent_files_and_packages(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_rows("absent.jsonl", tmp_path)
    with pytest.raises(UserError, match="no package 'no_such_package' is installed"):
        read_rows("package://no_such_package/a.jsonl", tmp_path)
    with pytest.raises(UserError, match="carries no 'absent'"):
        read_rows("package://prefzoo/absent", tmp_path)


def test_schemas() -> None:
    said = [{"role": "user", "content": "Hi?"}]
    one, two = [{"role": "assistant", "content": "Yes."}], [{"role": "assistant", "content": "No."}]
    assert schema([ROW]) == "explicit prompt, plain strings"
    implicit = [{"chosen": said + one, "rejected": said + two}]
    assert schema(implicit) == "implicit prompt, conversational"
    pair = normalise(implicit, "d")[0]
    assert (pair.prompt, pair.chosen, pair.rejected) == (said, one, two)
    turns = "\n\nHuman: Hi?\n\nAssistant:"
    pair = normalise([{"chosen": turns + " I do.", "rejected": turns + " I do not."}], "d")[0]
    assert (pair.prompt, pair.chosen, pair.rejected) == (turns, " I do.", " I do not.")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chosen": " "}, "row 1: chosen is empty"),
        ({"chosen": "No way."}, "row 1: chosen equals rejected"),
        ({"chosen": None}, "row 1: chosen is NoneType"),
        ({"prompt": 3}, "row 1: prompt is int"),
        ({"chosen": ["x"]}, "something other than messages"),
    ],
)
def test_rows_that_are_no_pairs(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        normalise([{**ROW, **change}], "d.jsonl")


def test_the_boundary_is_exact_and_the_end_of_turn_is_scored_once(tiny_tokenizer: Any) -> None:
    done = tokenise(normalise([ROW], "d"), tiny_tokenizer, 200, "drop")
    pair = done.pairs[0]
    assert tiny_tokenizer.decode(pair.prompt) == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
    assert tiny_tokenizer.decode(pair.chosen) == "Yes.<|im_end|>"
    assert tiny_tokenizer.decode(pair.rejected) == "No way.<|im_end|>"


def test_conversational_and_plain_give_the_same_tokens(tiny_tokenizer: Any) -> None:
    row = {
        "prompt": [{"role": "user", "content": "Hi?"}],
        "chosen": [{"role": "assistant", "content": "Yes."}],
        "rejected": [{"role": "assistant", "content": "No way."}],
    }
    plain = tokenise(normalise([ROW], "d"), tiny_tokenizer, 200, "drop").pairs
    assert tokenise(normalise([row], "d"), tiny_tokenizer, 200, "drop").pairs == plain


def test_without_a_template_text_is_taken_as_it_stands(tiny_plain_tokenizer: Any) -> None:
    pair = tokenise(normalise([ROW], "d"), tiny_plain_tokenizer, 200, "drop").pairs[0]
    assert tiny_plain_tokenizer.decode(pair.prompt) == "Hi?"
    assert tiny_plain_tokenizer.decode(pair.chosen) == "Yes.<|im_end|>"


def test_truncation_is_counted(tiny_plain_tokenizer: Any) -> None:
    long = {**ROW, "chosen": "Yes, and more."}
    pairs = normalise([ROW, long], "d")  # 3 + 8 and 3 + 15 tokens, EOS counted
    done = tokenise(pairs, tiny_plain_tokenizer, 12, "drop")
    assert len(done.pairs) == 1 and done.counts == {"dropped: too long": 1}
    done = tokenise(pairs, tiny_plain_tokenizer, 12, "cut")
    assert len(done.pairs[1]) == 12 and done.counts == {"cut": 1}
    done = tokenise(
        [*pairs, *normalise([{**ROW, "prompt": "A much longer one?"}], "d")], tiny_plain_tokenizer, 12, "cut"
    )
    assert done.counts["dropped: prompt alone is too long"] == 1
    with pytest.raises(
        UserError, match=r"no pair fits max_length 8 \(the longest has 18 tokens\); raise data.max_length"
    ):
        tokenise(pairs, tiny_plain_tokenizer, 8, "drop")
