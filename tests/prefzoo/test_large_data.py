"""Data sets that are larger than memory: read part by part, tokenised once into files, and found again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefzoo.data import reading, token_cache
from prefzoo.data.audit import AuditedData, read_and_audit
from prefzoo.data.faults import Faults
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.sources import Address, iterate_rows
from prefzoo.data.spool import Spool
from prefzoo.data.stored import Chunk, Stored, find_chunk, write_chunk
from prefzoo.data.token_cache import Tokeniser
from prefzoo.data.tokens import TokenAnswer, TokenExample, TokenPair
from prefzoo.data.views import View, changed, joined, select
from prefzoo.engine.reference_logprobs import rows_key
from prefzoo.errors import UserError
from prefzoo.runtime.paths import cache_dir

ROWS = [{"prompt": f"q {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(23)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows are a large data set, which this process prepares alone."""
    monkeypatch.setattr(token_cache, "ALONE", 1_000)
    monkeypatch.setattr(reading, "AT_ONCE", 10)
    monkeypatch.setattr(token_cache, "CHUNK", 10)
    monkeypatch.setattr(token_cache, "HELD", 10)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path, tokenizer: Any, name: str = "d.jsonl", **more: Any) -> AuditedData:
    return read_and_audit(DataSource(name, **more), folder, tokenizer, 200, "drop")


# --- read part by part


def test_a_large_data_set_reads_as_a_small_one(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d.jsonl", [*ROWS, {**ROWS[0], "chosen": " "}, {**ROWS[1], "rejected": "no"}])
    whole = read(tmp_path, tiny_tokenizer, on_bad_row="drop")
    monkeypatch.setattr(token_cache, "ALONE", 1_000)
    for name in ("AT_ONCE", "CHUNK", "HELD"):
        monkeypatch.setattr(reading if name == "AT_ONCE" else token_cache, name, 10)
    parts = read(tmp_path, tiny_tokenizer, on_bad_row="drop")
    assert isinstance(parts.examples, View) and isinstance(parts.tokens.examples, View)
    assert isinstance(whole.examples, list) and isinstance(whole.tokens.examples, list)
    assert list(parts.examples) == whole.examples and list(parts.tokens.examples) == whole.tokens.examples
    assert parts.audit == whole.audit and parts.left_out == whole.left_out
    assert rows_key(parts.tokens.examples) == rows_key(whole.tokens.examples)
    assert [parts.tokens.examples[i] for i in (22, 3, -1)] == [whole.tokens.examples[i] for i in (22, 3, -1)]


def test_faults_of_all_parts_are_counted_with_their_rows(tmp_path: Path, small_parts: None) -> None:
    write(tmp_path / "d.jsonl", [{**row, "chosen": " "} if i % 2 else row for i, row in enumerate(ROWS)])
    with pytest.raises(UserError) as e:
        read_source(DataSource("d.jsonl"), tmp_path)
    assert e.value.lines[0].startswith("d.jsonl: row 2: chosen is empty") and len(e.value.lines) == 6
    assert "11 rows are refused: 11 x chosen is empty" in e.value.lines[5]


def test_rows_that_belong_together_are_read_together(tmp_path: Path, small_parts: None) -> None:
    rated = [{"prompt": f"q {i % 11}", "response": f"r {i}", "helpfulness": i % 3} for i in range(22)]
    write(tmp_path / "d.jsonl", rated)
    data, _ = read_source(DataSource("d.jsonl"), tmp_path)
    assert data.schema == "helpsteer" and len(data.examples) == 11


def test_a_mixture_of_a_large_and_a_small_set(tmp_path: Path, tiny_tokenizer: Any, small_parts: None) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    write(tmp_path / "b.jsonl", ROWS[:4])
    sources = Mixture((DataSource("b.jsonl", name="b"), DataSource("a.jsonl", name="a")))
    data = read_and_audit(sources, tmp_path, tiny_tokenizer, 200, "drop")
    assert [e.row for e in data.tokens.examples] == list(range(27))
    assert [(one.name, one.kept) for one in data.audit.sources] == [("b", 4), ("a", 23)]
    assert data.examples[5].prompt == "q 1"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_files_are_read_without_holding_them(tmp_path: Path, kind: str) -> None:
    import pandas as pd

    frame, path = pd.DataFrame(ROWS), tmp_path / f"d.{kind}"
    if kind == "jsonl":
        write(path, ROWS)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    rows = iterate_rows(Address(path.name), tmp_path, Faults("d"))
    assert isinstance(rows, Iterator) and next(rows) == ROWS[0] and list(rows) == ROWS[1:]


@pytest.mark.slow
def test_a_folder_of_files_is_read_by_datasets_as_a_stream_too(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", ROWS)
    write(tmp_path / "set" / "test.jsonl", ROWS[:3])
    streamed = read(tmp_path, tiny_tokenizer, "set", streaming=True)
    write(tmp_path / "d.jsonl", ROWS)
    assert streamed.tokens.examples == read(tmp_path, tiny_tokenizer).tokens.examples
    assert len(read(tmp_path, tiny_tokenizer, "set", streaming=True, split="test", rows=2).examples) == 2
    with pytest.raises(UserError, match=r"set: this folder cannot be read as a data set .*nosuch"):
        read(tmp_path, tiny_tokenizer, "set", streaming=True, split="nosuch")


def test_a_saved_folder_is_no_stream(tmp_path: Path, tiny_tokenizer: Any) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS[:3]).save_to_disk(tmp_path / "set")
    assert len(read(tmp_path, tiny_tokenizer, "set").examples) == 3
    with pytest.raises(UserError, match="set: `save_to_disk` wrote this folder, which is read in place; remove str"):
        read(tmp_path, tiny_tokenizer, "set", streaming=True)


def test_the_hub_is_asked_for_split_revision_and_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(name: str, **more: Any) -> Any:
        asked.append((name, more))
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = DataSource("org/pairs", split="test", revision="abc", streaming=True, rows=5)
    data, _ = read_source(source, tmp_path)
    assert asked == [("org/pairs", {"split": "test", "revision": "abc", "streaming": True})] and len(data.rows) == 5


# --- tokenised once


def test_a_second_run_tokenises_nothing(tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    first = read(tmp_path, tiny_tokenizer)
    monkeypatch.setattr(Tokeniser, "chunk", lambda *_: pytest.fail("tokenised again"))
    again = read(tmp_path, tiny_tokenizer)
    assert again.tokens == first.tokens and again.audit == first.audit
    assert first.audit.roles is not None and first.audit.roles["assistant"] == sum(
        e.scored_tokens for e in first.tokens.examples
    )


def test_a_killed_run_goes_on_after_its_last_chunk(
    tmp_path: Path, tiny_tokenizer: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    chunks: list[int] = []
    chunk = Tokeniser.chunk

    def dies(self: Tokeniser, examples: Any, first: int, *more: Any) -> Chunk:
        if len(chunks) == 2:
            raise KeyboardInterrupt
        chunks.append(first)
        return chunk(self, examples, first, *more)

    monkeypatch.setattr(Tokeniser, "chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, tiny_tokenizer)
    chunks.clear()
    data = read(tmp_path, tiny_tokenizer)
    assert chunks == [20] and [e.row for e in data.tokens.examples] == list(range(23))


def test_what_changes_is_tokenised_again_and_no_more(
    tmp_path: Path, tiny_tokenizer: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    read(tmp_path, tiny_tokenizer)
    chunks: list[int] = []
    chunk = Tokeniser.chunk
    monkeypatch.setattr(Tokeniser, "chunk", lambda self, *given: (chunks.append(given[1]), chunk(self, *given))[1])
    write(tmp_path / "d.jsonl", [*ROWS[:12], {**ROWS[12], "chosen": "other"}, *ROWS[13:]])
    read(tmp_path, tiny_tokenizer)
    assert chunks == [10]
    tiny_tokenizer.chat_template += " "
    read(tmp_path, tiny_tokenizer)
    assert chunks == [10, 0, 10, 20]
    read_and_audit(DataSource("d.jsonl"), tmp_path, tiny_tokenizer, 199, "drop")
    assert len(chunks) == 7


def test_a_broken_file_is_tokenised_again(tmp_path: Path, tiny_tokenizer: Any, capsys: Any) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    data = read(tmp_path, tiny_tokenizer)
    (file,) = cache_dir("tokens").glob("*.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert read(tmp_path, tiny_tokenizer).tokens == data.tokens
    assert "damaged (its checksum is wrong); tokenised again" in capsys.readouterr().out


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    pairs: list[TokenExample] = [
        TokenPair([1], [2, 3], [4], 0), TokenPair([5, 6], [7], [8, 9], 3, (0.5, 2.0), ([True], [False, True])),
        TokenPair([1], [2], [4], 4, (0.5, 0.0), None, (1.0, 0.25)),
    ]  # fmt: skip
    answers: list[TokenExample] = [
        TokenAnswer([1], [2, 3], True, 0), TokenAnswer([1, 2], [3, 4], False, 1, ([True, False],)),
    ]  # fmt: skip
    files = []
    for i, kept in enumerate((pairs, [], answers)):
        path = write_chunk(tmp_path, f"k{i}", Chunk(kept))
        assert find_chunk(tmp_path, f"k{i}") == path
        files.append((path, 10 * i))
    stored = Stored(files)
    shifted = [*pairs, *(replace(answer, row=answer.row + 20) for answer in answers)]
    assert list(stored) == shifted == [stored[i] for i in range(5)] and stored[1:3] == shifted[1:3]


@pytest.mark.slow
def test_several_processes_make_what_one_makes(
    tmp_path: Path, tiny_tokenizer: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {**ROWS[3], "chosen": [{"role": "assistant", "content": "x", "tool_calls": [{"name": "f"}]}]}
    write(tmp_path / "d.jsonl", [*ROWS, {**refused, "rejected": [{"role": "assistant", "content": "y"}]}] * 3)
    alone = read(tmp_path, tiny_tokenizer, on_bad_row="drop")
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(token_cache, "ALONE", 1)
    monkeypatch.setattr(token_cache, "usable_cores", lambda: 2)
    monkeypatch.setattr(Tokeniser, "chunk", lambda *_: pytest.fail("tokenised by this process"))
    together = read(tmp_path, tiny_tokenizer, on_bad_row="drop")
    assert list(together.tokens.examples) == list(alone.tokens.examples) and together.audit == alone.audit
    assert [bad.place for bad in together.left_out] == [bad.place for bad in alone.left_out] != []


def test_no_more_files_are_open_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefzoo.data import stored

    monkeypatch.setattr(stored, "OPEN", 2)
    files = [(write_chunk(tmp_path, f"k{i}", Chunk([TokenPair([1], [i], [3], 0)])), i) for i in range(5)]
    examples = Stored(files)
    assert [examples[i].answers[0] for i in (4, 0, 3, 4, 1)] == [[4], [0], [3], [4], [1]] and len(examples._open) == 2


def test_views_copy_nothing_and_read_as_lists() -> None:
    spool: Spool[int] = Spool()
    for i in range(7):
        spool.append(i * i)
    assert list(spool) == [0, 1, 4, 9, 16, 25, 36] and spool[-1] == 36 and spool[2:4] == [4, 9]
    chosen = select(spool, [6, 0, 3])
    assert isinstance(chosen, View) and list(chosen) == [36, 0, 9] and select([5, 6, 7], [2, 0]) == [7, 5]
    both = joined([spool, [1, 2]])
    assert list(both) == [*spool, 1, 2] and both[7] == 1 and both[8] == 2 and joined([[1], [2]]) == [1, 2]
    assert list(changed(spool, lambda v: v + 1))[:3] == [1, 2, 5] and changed(spool, lambda v: -v)[2] == -4
    with pytest.raises(IndexError):
        both[9]
    assert not os.listdir(cache_dir("spool"))  # nothing is left behind, however a run ends


def test_other_weights_and_other_sources_tokenise_no_row_again(
    tmp_path: Path, tiny_tokenizer: Any, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mixture(**weights: float) -> AuditedData:
        sources = tuple(DataSource(f"{name}.jsonl", name=name, weight=weight) for name, weight in weights.items())
        return read_and_audit(Mixture(sources), tmp_path, tiny_tokenizer, 200, "drop")

    chunks: list[int] = []
    chunk = Tokeniser.chunk
    monkeypatch.setattr(Tokeniser, "chunk", lambda self, *given: (chunks.append(len(given[0])), chunk(self, *given))[1])
    for i, name in enumerate("abc"):
        write(tmp_path / f"{name}.jsonl", [{**row, "prompt": f"{name} {row['prompt']}"} for row in ROWS[: 4 + i]])
    mixture(a=1.0, b=1.0)
    assert chunks == [4, 5]
    mixture(a=1.0, b=7.0)
    mixture(c=1.0, a=2.0, b=1.0)
    assert chunks == [4, 5, 6]


def test_a_call_in_the_prompt_that_the_template_does_not_write_is_a_fault_of_its_row(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    asked = [{"role": "user", "content": "q"}, called, {"role": "tool", "content": "7"}]
    yes, no = ([{"role": "assistant", "content": text}] for text in ("yes", "no"))
    write(tmp_path / "d.jsonl", [ROWS[0], {"prompt": asked, "chosen": yes, "rejected": no}])
    with pytest.raises(
        UserError, match=r"^d.jsonl: row 2: the chat template does not write the call of f; use a model"
    ):
        read(tmp_path, tiny_tokenizer)
    data = read(tmp_path, tiny_tokenizer, on_bad_row="drop")
    assert len(data.tokens.examples) == 1 and [bad.place for bad in data.left_out] == ["d.jsonl: row 2"]
