"""Calls to a judge that costs: each kept on disk as it comes, and what they cost held to a limit."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

WAIT = 60.0  # seconds for another process to finish its write


@dataclass(frozen=True)
class Reply:
    """What a call gave: its text, the log-probs of the first token's likeliest alternatives, and tokens used."""

    text: str
    first: dict[str, float]
    prompt_tokens: int
    answer_tokens: int


def call_key(url: str, request: dict[str, Any]) -> str:
    """Hash of the address and of everything that is sent but the API key."""
    return hashlib.sha256(json.dumps([url, request], sort_keys=True).encode()).hexdigest()


class Calls:
    """Replies by key in one SQLite file; each is committed by itself, so that a killed run has all it paid for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._prepare()
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):  # locked, read-only, no room: not broken
                raise
            aside = path.with_name(f"{path.name}.broken")  # it may be worth a rescue: its replies were paid for
            path.replace(aside)
            print(f"{path}: broken ({e}); put aside as {aside.name}, begun anew", flush=True)
            self._prepare()

    def _prepare(self) -> None:
        with self._open() as db:
            db.execute("CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")

    def read(self, key: str) -> Reply | None:
        """The reply to a call that was made before."""
        with self._open() as db:
            found = db.execute("SELECT reply FROM calls WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        try:
            value = json.loads(found[0])
            if value.pop("sha256", "") not in ("", _checksum(value)):
                raise ValueError("not what was written")
            return Reply(**value)
        except (ValueError, TypeError, AttributeError):
            print(f"{self.path}: the reply of one call is broken; it is asked again", flush=True)
            return None

    def write(self, key: str, reply: Reply) -> None:
        """Keep a reply."""
        with self._open() as db:
            value = asdict(reply)
            row = json.dumps({**value, "sha256": _checksum(value)})
            db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?)", (key, row))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each operation: threads and processes then need no agreement of their own.
        with closing(sqlite3.connect(self.path, timeout=WAIT)) as db, db:
            yield db


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Purse:
    """Dollars spent and promised. A call is paid for only where its whole estimate still fits under the limit."""

    def __init__(self, prompt_price: float | None, answer_price: float | None, limit: float | None) -> None:
        self.prices, self.limit = (prompt_price or 0.0, answer_price or 0.0), limit
        self.known = prompt_price is not None and answer_price is not None
        self.spent = self.promised = 0.0
        self._lock = Lock()

    def price(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Dollars; prices are per million tokens."""
        return (prompt_tokens * self.prices[0] + answer_tokens * self.prices[1]) / 1e6

    def promise(self, estimate: float) -> bool:
        """Set an estimate aside; False where it no longer fits."""
        with self._lock:
            if self.limit is not None and self.spent + self.promised + estimate > self.limit:
                return False
            self.promised += estimate
            return True

    def pay(self, estimate: float, cost: float) -> None:
        """What a promised call cost in the end."""
        with self._lock:
            self.promised -= estimate
            self.spent += cost
