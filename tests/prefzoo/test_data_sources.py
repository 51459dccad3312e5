from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from prefzoo.data.faults import Faults
from prefzoo.data.sources import load_file, read_rows
from prefzoo.errors import UserError

ROWS = [{"prompt": "p1", "chosen": "a", "rejected": "b"}, {"prompt": "p2", "chosen": "ä, c", "rejected": "d"}]


def lines_of(spec: str, folder: Path, columns: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(UserError) as e:
        read_rows(spec, folder, columns)
    assert all("\n" not in line for line in e.value.lines)
    return e.value.lines


def write(path: Path) -> None:
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        path.write_text(text + "\n", encoding="utf-8")  # a blank line at the end is no row
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif path.suffix == ".tsv":
        path.write_text("prompt\tchosen\trejected\np1\ta\tb\np2\tä, c\td\n", encoding="utf-8")
    elif path.suffix == ".csv":
        path.write_text('prompt,chosen,rejected\np1,a,b\np2,"ä, c",d\n', encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    "name", ["d.jsonl", "d.JSONL", "d.ndjson", "d.jsonl.gz", "d.json", "d.csv", "d.tsv", "d.parquet"]
)
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert read_rows(name, tmp_path) == ROWS


def test_a_csv_column_without_a_name_is_none(tmp_path: Path) -> None:
    """As pandas writes the numbers of the rows."""
    (tmp_path / "d.csv").write_text(',prompt,chosen,rejected\n0,p1,a,b\n1,p2,"ä, c",d\n', encoding="utf-8")
    assert read_rows("d.csv", tmp_path) == ROWS


def test_parquet_messages_stay_lists(tmp_path: Path) -> None:
    rows = [{"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert read_rows("d.parquet", tmp_path) == rows


def test_columns_are_renamed(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"question": "p", "good": "a", "bad": "b"}', encoding="utf-8")
    row = read_rows("d.jsonl", tmp_path, {"prompt": "question", "chosen": "good", "rejected": "bad"})[0]
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("p", "a", "b")


def test_missing_columns_are_all_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "choosen": "a", "bad": "b"}', encoding="utf-8")
    first, second = lines_of("d.jsonl", tmp_path)
    assert "no column 'chosen'" in first and "did you mean 'choosen'" in first and "data.columns.chosen" in first
    assert "no column 'rejected'" in second and "bad, choosen, prompt" in second


def test_a_column_of_the_opposite_meaning_is_not_suggested(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "loses": "b", "selected": "a", "chosen_x": "c"}')
    first, second = lines_of("d.jsonl", tmp_path)
    assert "no column 'chosen'" in first and "did you mean 'chosen_x'" in first
    assert "no column 'rejected'" in second and "did you mean" not in second


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("d.jsonl", b"", "no rows in it"),
        ("d.csv", b"chosen,rejected\n", "no rows in it"),
        ("d.json", b'{"a": 1}', "holds an object; expected a list of objects"),
        ("d.json", b'{"version": 1, "data": [{"a": 1}]}', "write the list in its field 'data' to a file of its own"),
        ("d.csv", b"prompt,chosen,chosen,rejected\na,b,c,d\n", "has several columns 'chosen'; rename or remove all"),
        ("d.json", b"[1]", "row 1: int where an object"),
        ("d.json", b"[\n{]", "d.json:2: not JSON"),
        ("d.json", b'[{"chosen": "a", "chosen": "b"}]', "d.json: has the key 'chosen' twice in one object; keep one"),
        ("d.jsonl", b'{"chosen": {"a": 1, "a": 1}}', "d.jsonl:1: has the key 'a' twice in one object; keep one"),
        ("d.csv", b"chosen,rejected\na,b,c\n", "row 1: more fields than the header"),
        ("d.jsonl", b'{"chosen": "\xff"}', "not UTF-8 at byte 12"),
        ("d.jsonl.gz", b"plain", "cannot be read"),
        ("d.parquet", b"plain text, long enough", "not parquet"),
        ("d.txt", b"a", "unknown kind of file '.txt'"),
    ],
)
def test_broken_files(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (line,) = lines_of(name, tmp_path)
    assert name in line and expected in line


def test_every_broken_line_is_named_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"chosen": "a", "rejected": "b"}\n{oops\n\n[1]\n', encoding="utf-8")
    second, fourth = lines_of("d.jsonl", tmp_path)
    assert "d.jsonl:2: not JSON" in second and "d.jsonl:4: list where an object" in fourth


def test_five_broken_lines_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("x\n" * 30, encoding="utf-8")
    *five, rest = lines_of("d.jsonl", tmp_path)
    assert len(five) == 5 and "d.jsonl: 30 rows are refused: 30 x not JSON: Expecting value at column" in rest


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file; paths in a recipe are relative to the recipe" in lines_of("gone.jsonl", tmp_path)[0]
    (tmp_path / "here").mkdir()
    assert "this folder cannot be read as a data set" in lines_of("here", tmp_path)[0]


def test_package_files_are_found_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pz_rows").mkdir()
    (tmp_path / "pz_rows" / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    write(tmp_path / "pz_rows" / "d.jsonl")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_rows("package://pz_rows/d.jsonl", Path("/")) == ROWS
    assert "carries no 'e.jsonl'" in lines_of("package://pz_rows/e.jsonl", tmp_path)[0]


def test_absent_package_names_the_cure(tmp_path: Path) -> None:
    (line,) = lines_of("package://pz_not_there/d.jsonl", tmp_path)
    assert "no package 'pz_not_there'" in line and "pip install" in line


def test_hub_data_set_with_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str]] = []

    def load(name: str, split: str) -> list[dict[str, Any]]:
        asked.append((name, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_rows("owner/name:test", tmp_path) == read_rows("owner/name", tmp_path) == ROWS
    assert asked == [("owner/name", "test"), ("owner/name", "train")]


def test_unreachable_hub_is_one_line_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(name: str, split: str) -> list[dict[str, Any]]:
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load)
    (line,) = lines_of("owner/name", tmp_path)
    assert line.startswith("owner/name: ") and "ConnectionError: no route" in line and "HF_HUB_OFFLINE" in line


def test_a_byte_order_mark_and_windows_line_ends_are_no_content(tmp_path: Path) -> None:
    lines = "\r\n".join(json.dumps(row) for row in ROWS) + "\r\n"
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (tmp_path / "d.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS).encode())
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines.encode()))
    for name in ("d.jsonl", "d.json", "d.jsonl.gz"):
        assert read_rows(name, tmp_path) == ROWS


def test_json_lines_are_read_under_the_name_of_json(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert read_rows("d.json", tmp_path) == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_cells_may_hold_line_breaks_and_be_long(separator: str, tmp_path: Path) -> None:
    long = "x" * 200_000
    text = f'prompt{separator}chosen{separator}rejected\r\n"one\ntwo"{separator}"a ""b"""{separator}{long}\r\n'
    (tmp_path / "d.csv").write_bytes(text.encode("utf-8-sig"))
    assert read_rows("d.csv", tmp_path) == [{"prompt": "one\ntwo", "chosen": 'a "b"', "rejected": long}]


def test_parquet_structs_have_only_the_fields_that_were_written(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    chosen = [{"role": "user", "content": "q"}, call]
    rows = [{"chosen": chosen, "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert read_rows("d.parquet", tmp_path) == rows


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_whatever_the_kind_of_file(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    letters = "ab ,;\"'\n\r\t\\{}[]ä漢😀\u2028\u0085\x0b\ufeff"
    rows = [
        {name: "".join(draw.choices(letters, k=draw.randint(0, 12))) for name in ("prompt", "chosen", "rejected")}
        for _ in range(draw.randint(1, 5))
    ]
    with (tmp_path / "d.csv").open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, ["prompt", "chosen", "rejected"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    with (tmp_path / "d.jsonl").open("w", encoding="utf-8-sig", newline="\r\n") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert load_file("d.csv", tmp_path) == load_file("d.jsonl", tmp_path) == load_file("d.parquet", tmp_path) == rows


def test_broken_lines_are_left_out_and_recorded_where_asked(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"chosen": "a"}\n{oops\n[1]\n', encoding="utf-8")
    faults = Faults("d.jsonl", "drop")
    assert load_file("d.jsonl", tmp_path, faults) == [{"chosen": "a"}]
    places = [(bad.place.rpartition("/")[2], bad.row) for bad in faults.rows]
    assert places == [("d.jsonl:2", "{oops\n"), ("d.jsonl:3", [1])]
    assert list(faults.counts()) == [
        "dropped: not JSON: Expecting property name enclosed in double quotes at column …",
        "dropped: list where an object {…} was expected",
    ]


def test_a_folder_of_save_to_disk_is_read_and_its_split_is_named_apart(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert read_rows("saved", tmp_path) == ROWS
    [line] = lines_of("saved:test", tmp_path)
    assert line == "saved:test: saved is a folder; name its split like {path: saved, split: test}"
