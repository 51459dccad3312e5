"""The cache of JSON values: half lines, broken lines, several writers, and keys."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from prefzoo.runtime.cache import Cache, cache_of, key_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "values.jsonl"


def test_a_value_is_there_for_everybody_to_the_last_bit(path: Path) -> None:
    one, other = Cache(path), Cache(path)
    assert one.get("a") is None and not path.exists()
    one.put({"a": 0.1 + 0.2, "b": ["é\n", None, {"x": 1e-300}]})
    assert one.get("a") == other.get("a") == 0.1 + 0.2 and other.get("b") == ["é\n", None, {"x": 1e-300}]
    other.put({"a": 2})
    assert one.get("a") == Cache(path).get("a") == 2
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b", "a"]


def test_a_half_line_is_neither_read_nor_in_the_way(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Cache(path).put({"a": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-1])  # killed before the end of its line
    cache = Cache(path)
    assert cache.get("a") == 1
    cache.put({"b": 2})
    assert cache.get("b") == 2 and path.read_bytes().startswith(whole + b'{"sha256": "')
    path.write_bytes(whole[:-5])
    Cache(path).put({"c": 3})
    assert Cache(path).get("c") == 3 and Cache(path).get("a") is None and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "rubbish", [b"\n", b"no JSON\n", b"\xff\xfe\x00\n", b'{"sha256": "0123456789abcdef", "key": "a"}\n']
)
def test_a_broken_line_is_reported_once_and_the_others_count(
    path: Path, rubbish: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Cache(path).put({"a": 1, "b": 2})
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(rubbish + first.replace(b"1}", b"7}") + second)
    message = f"{path}: an entry is damaged (its checksum is wrong); created again\n"
    cache = Cache(path)
    assert cache.get("a") is None and cache.get("b") == 2
    assert capsys.readouterr().out == message * (1 if rubbish == b"\n" else 2)
    cache.put({"a": 3})
    again = Cache(path)
    assert (again.get("a"), again.get("b")) == (3, 2) and capsys.readouterr().out == ""


def test_a_full_disk_is_reported_with_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("prefzoo.runtime.cache.os.fsync", full)
    with pytest.raises(OSError) as caught:
        Cache(path).put({"a": 1})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))


def write(path: Path, number: int) -> None:
    cache = Cache(path, sync=False)
    for i in range(200):
        cache.put({f"{number}-{i}": [number] * 300})


def test_several_processes_write_at_once(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    cache = Cache(path)
    assert all(cache.get(f"{n}-{i}") == [n] * 300 for n in range(3) for i in range(200))


def put_forever(path: Path, acknowledged: Connection) -> None:
    cache = Cache(path, sync=False)
    for i in itertools.count():
        cache.put({str(i): [i] * 2000})
        acknowledged.send(i)


@pytest.mark.parametrize("after", [1, 20, 77])
def test_a_kill_loses_nothing_that_was_put(path: Path, after: int, capsys: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    writer = context.Process(target=put_forever, args=(path, send))
    writer.start()
    send.close()
    while (last := receive.recv()) < after:
        pass
    writer.kill()
    writer.join()
    while receive.poll():
        try:
            last = receive.recv()
        except EOFError:
            break
    cache = Cache(path)
    assert all(cache.get(str(i)) == [i] * 2000 for i in range(last + 1))
    cache.put({"next": 1})
    assert Cache(path).get("next") == 1 and capsys.readouterr().out == ""


def test_what_a_value_depends_on_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path))
    files = {cache_of("judges", "verdicts", *words).path for words in [("a",), ("b",), ("a", "b")]}
    assert len(files) == 3 and {f.parent for f in files} == {tmp_path / "judges"}
    monkeypatch.setattr("prefzoo.runtime.cache.ENGINE", 0)
    assert cache_of("judges", "verdicts", "a").path not in files
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
