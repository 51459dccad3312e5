"""Serve the page of a running run on the loopback address, so that only this machine can open it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.report.page import page

LOOPBACK = "127.0.0.1"
PORT = 8765
NAMES = (LOOPBACK, "localhost")  # allowed hosts; others are refused, since another site could point its name here
WATCHED = (".json", ".jsonl", ".csv", ".yaml")  # suffixes of the run's files that the page depends on


class LivePage:
    """The page of a run, rebuilt whenever a file of the run has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, Lock()
        self._state, self._page = "", b""

    def state(self) -> str:
        """Return a text that changes when a file is added to the run or written."""
        files = [path for pattern in ("*", "*/*") for path in self.folder.glob(pattern) if path.suffix in WATCHED]
        stamps = [path.stat().st_mtime_ns for path in files if path.is_file()]
        return f"{len(stamps)}-{max(stamps, default=0)}"

    def page(self) -> bytes:
        """Return the page of the run's current files.

        Raises:
            UserError: a file cannot be read.
        """
        with self._lock:  # one request rebuilds the page, and the others wait for it
            state = self.state()
            if state != self._state:
                self._page = page(read_run(self.folder), live=True).encode()
                self._state = state
            return self._page


def server_of(folder: Path, port: int = PORT) -> ThreadingHTTPServer:
    """Return a server for a run's page, on the loopback address.

    Args:
        folder: the run's folder.
        port: the port to listen on; 0 for any free port.

    Returns:
        The server; `serve_forever` starts it.

    Raises:
        UserError: the folder does not hold a run, or the port is taken or not allowed.
    """
    read_run(folder)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), _handler(LivePage(folder)))
    except OSError as e:
        if e.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UserError(f"--port {port}: is taken or not allowed; choose another, or 0 for any free one") from None


def _handler(live: LivePage) -> type[BaseHTTPRequestHandler]:
    routes: dict[str, tuple[str, Callable[[], bytes]]] = {
        "/": ("text/html", live.page),
        "/state": ("text/plain", lambda: live.state().encode()),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the base class calls it by this name
            """Answer with the page, or with its state."""
            kind, content = routes.get(self.path, ("", None))
            if (self.headers.get("Host") or "").rpartition(":")[0] not in NAMES or content is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                body = content()
            except UserError as e:  # a file is being written; the page asks again in a few seconds
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=str(e))
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log no requests."""

    return Handler
