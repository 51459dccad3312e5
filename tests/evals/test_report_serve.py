"""`prefzoo report RUN --serve`: the page on the loopback address, made again when the run has written something."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from called import prefzoo
from report_runs import full_run

from prefzoo.errors import UserError
from prefzoo.evals.report.serve import LOOPBACK, server_of


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, ThreadingHTTPServer]]:
    """A run that was stopped after its trainings, and the server of its page."""
    run = full_run(tmp_path / "run")
    server = server_of(run, 0)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield run, server
    server.shutdown()
    server.server_close()
    thread.join()


def get(server: ThreadingHTTPServer, path: str, host: str = "localhost:1") -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.slow
def test_the_page_follows_the_runs_files(served: tuple[Path, ThreadingHTTPServer]) -> None:
    run, server = served
    assert server.server_address[0] == LOOPBACK
    status, page = get(server, "/")
    assert status == 200 and "connect-src 'self'" in page and "prefzoo report --serve" in page
    before = get(server, "/state")[1]
    assert get(server, "/state")[1] == before
    verdict = json.loads((run / "verdict.json").read_text()) if (run / "verdict.json").exists() else {}
    time.sleep(0.01)
    (run / "verdict.json").write_text(json.dumps({**verdict, "decision": "Another word."}))
    assert get(server, "/state")[1] != before
    (run / "verdict.json").write_text("{")  # half written
    assert get(server, "/")[0] == 503
    (run / "verdict.json").write_text(json.dumps(verdict))
    assert get(server, "/")[0] == 200


@pytest.mark.slow
def test_other_hosts_and_paths_get_nothing(served: tuple[Path, ThreadingHTTPServer]) -> None:
    _, server = served
    assert get(server, "/", host="evil.example:80")[0] == 404
    assert get(server, "/../../etc/passwd")[0] == 404
    with pytest.raises(UserError, match=f"--port {server.server_port}: is taken"):
        server_of(served[0], server.server_port)


def test_a_written_page_fetches_nothing_and_options_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "report", str(tmp_path), "--serve", "--out", "x.html") == 2
    assert prefzoo(monkeypatch, "report", str(tmp_path), "--port", "1") == 2
    assert prefzoo(monkeypatch, "report", str(tmp_path), "--serve") == 2
    err = capsys.readouterr().err
    assert "--out and --plots have no effect with --serve" in err and "--port has no effect without --serve" in err
    assert "not a run's folder" in err
