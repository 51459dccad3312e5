"""Ray's head lost in the middle of a training, and trainings of several processes on Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_ray import RECIPE, compare, environment

pytest.importorskip("ray")
OPEN = {
    "RAY_AUTH_MODE": "disabled",  # else head and driver need a token of the user's
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}
WORDS = [sys.executable, "-m", "prefzoo", "run", "r.yaml", "--save-every", "0", "--results"]


def small(folder: Path, steps: int) -> None:
    (folder / "r.yaml").write_text(RECIPE.replace("steps: 80", f"steps: {steps}"))
    rows = [{"prompt": f"Ask {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in range(6)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@contextmanager
def head(env: dict[str, str], *more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Ray cluster of this machine alone, in processes of its own, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        f"--port={port}",
        "--num-cpus=2",
    ]
    words += ["--include-dashboard=false", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1", *more]
    started = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env | OPEN
    )
    try:
        yield started, f"127.0.0.1:{port}"
    finally:
        lost(started)
        started.wait(60)


def lost(cluster: subprocess.Popen[bytes]) -> None:
    """As if the machine had lost its power: SIGKILL to the head and all it started."""
    children = family(cluster.pid)
    for pid in [cluster.pid, *children]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def family(of: int) -> list[int]:
    parent: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    members = [of]
    for pid in members:
        members += [child for child, its in parent.items() if its == pid]
    return members[1:]


def until_logged(run: subprocess.Popen[str], folder: Path, steps: int) -> None:
    """Wait until two trainings, side by side, have logged so many steps and are not over."""
    end = time.monotonic() + 300
    while time.monotonic() < end and run.poll() is None:
        logs = [log for log in folder.glob("*/metrics.jsonl") if not (log.parent / "result.json").exists()]
        if sum(len(log.read_bytes().splitlines()) >= steps for log in logs) > 1:
            return
        time.sleep(0.02)
    raise AssertionError(f"no two trainings were met in the middle; the run ended with {run.poll()}")


def told(words: list[str], folder: Path, env: dict[str, str]) -> str:
    """What a run says that ends well."""
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_when_the_head_dies_the_run_says_so_and_the_same_command_goes_on(run_folder: Path) -> None:
    """Its two trainings share a GPU, as far as Ray knows."""
    small(run_folder, 60)
    env, words = environment(run_folder / "cache-ray"), [*WORDS, "on-ray", "--on", "ray"]
    pretended = env | {"CUDA_VISIBLE_DEVICES": "GPU-none"}  # one that Ray counts, and torch does not see
    with head(pretended, "--num-gpus=1") as (cluster, address), (run_folder / "ray.log").open("w") as log:
        run = subprocess.Popen(
            [*words, "--gpus", "0.5"], cwd=run_folder, text=True, stdout=log, stderr=subprocess.STDOUT,
            env={**env, **OPEN, "RAY_ADDRESS": address},
        )  # fmt: skip
        try:
            until_logged(run, run_folder / "on-ray" / "tuned", 10)
            lost(cluster)
            code = run.wait(200)
        finally:
            run.kill()
    printed = (run_folder / "ray.log").read_text()
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in printed, printed[-4000:]
    assert "Ray's head is lost" in lines[0] and "run the same command to resume" in lines[0]
    assert "resuming after step" in told(words, run_folder, env)  # on a cluster of its own
    told([*WORDS, "in-order"], run_folder, environment(run_folder / "cache-order"))
    compare(run_folder / "on-ray" / "tuned", run_folder / "in-order" / "tuned", "dpo-beta0.05-s0")


PROFILE = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
machine_rank: 0
num_processes: 2
mixed_precision: "no"
"""


@pytest.mark.slow
def test_a_training_on_ray_may_be_several_processes_with_one_processs_numbers(run_folder: Path) -> None:
    """On workers that were started elsewhere, so that a relative path is none to them."""
    small(run_folder, 6)
    (run_folder / "two.yaml").write_text(PROFILE)
    env = environment(run_folder / "cache-ray") | {"ACCELERATE_USE_CPU": "true"}
    with head(env) as (_, address):
        words = [*WORDS, "on-ray", "--on", "ray", "--cpus", "2", "--launch", "two.yaml"]
        told(words, run_folder, env | OPEN | {"RAY_ADDRESS": address})
    told([*WORDS, "in-order"], run_folder, environment(run_folder / "cache-order"))
    one, other = (run_folder / place / "tuned" for place in ("on-ray", "in-order"))
    for trial in json.loads((other / "sweep.json").read_text())["trials"]:
        seen, expected = (
            [json.loads(line) for line in (place / trial["name"] / "metrics.jsonl").read_text().splitlines()]
            for place in (one, other)
        )
        assert len(seen) == len(expected) == 6
        for a, b in zip(seen, expected, strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
        result = json.loads((one / trial["name"] / "result.json").read_text())
        assert result["environment"]["processes"] == 2
