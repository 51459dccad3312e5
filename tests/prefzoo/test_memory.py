"""What is set for the allocator, and what is left alone."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from prefzoo.runtime import memory


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What glibc would be asked; nothing is really set."""
    settings: list[tuple[int, int]] = []

    class Libc:
        def __init__(self, name: str) -> None:
            self.mallopt = lambda option, value: settings.append((option, value))

    monkeypatch.setattr(ctypes, "CDLL", Libc)
    for name in [n for n in os.environ if n.startswith("MALLOC_") or n == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "")  # so that it is put back, whatever it was
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    return settings


def test_freed_memory_is_kept(calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    memory.configure_allocator()
    assert dict(calls) == {memory.M_MMAP_MAX: 0, memory.M_TRIM_THRESHOLD: 2**31 - 1}
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_set_stays(calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    memory.configure_allocator()
    assert not calls and os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")
def test_free_memory_is_returned_between_trainings() -> None:
    code = """if True:
        import psutil
        from prefzoo.runtime.memory import configure_allocator, return_free_memory
        configure_allocator()
        large = [bytearray(b"x") * 2**20 for _ in range(512)]
        above = bytearray(b"x") * 2**20  # above the free blocks: the heap cannot end before it
        before = psutil.Process().memory_info().rss
        del large
        held = psutil.Process().memory_info().rss
        return_free_memory()
        print(before - held < 2**26, held - psutil.Process().memory_info().rss > 2**28)
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True True\n"


@pytest.mark.slow
def test_without_glibc_nothing_happens(calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    memory.return_free_memory()
    memory.configure_allocator()
    assert not calls
