"""Run stages as Ray tasks. A task runs again if its worker or machine dies, and resumes from its last checkpoint."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.experiment.check import load_checked
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.executors import RAY, Resources, run_stage
from prefzoo.experiment.opening import open_experiment
from prefzoo.experiment.request import Request
from prefzoo.experiment.stages.stage import REFERENCE, SAMPLE, TRAIN, Done, Failed, Result, Stage
from prefzoo.recipe import load
from prefzoo.runtime import memory, run_folders, threads
from prefzoo.runtime.live_view import FAILED, KEPT, TRAINED
from prefzoo.runtime.progress import set_variant_state
from prefzoo.runtime.signals import Interrupted, interrupt_now

RETRIES = 3  # times that a stage is run again when its worker or machine dies
LOOK = 2  # seconds between looks at Ray's head
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # how long Ray waits for its head before it ends the process
HEAD_PATIENCE = 0.7  # of that time
MOST = 300  # characters of what Ray says
STORE = 100_000_000  # bytes; stages exchange files, not objects
INSTALL = "--on {on}: Ray is not installed; pip install 'prefzoo[ray]', or leave out --on to train in order"


@contextmanager
def ray_executor(resources: Resources, request: Request, experiment: Experiment) -> Iterator[OnRay]:
    """Connect to Ray, or start it; it is shut down afterwards.

    Args:
        resources: the cluster, and the resources of each stage.
        request: the request by which workers open the experiment.
        experiment: as opened in this process.

    Returns:
        A context manager whose value is the executor.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
    """
    ray = connect(resources.on)
    experiment.base.drop()  # the workers have copies of their own
    try:
        yield OnRay(ray, resources, request, experiment)
    except HeadLost:
        atexit.register(_leave_at_once)  # Ray's own shutdown would wait for the head, and then crash
        raise
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


def connect(on: str) -> Any:
    """Return the module `ray`, connected to the cluster that `--on` names, or to one started on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its coming default
    try:
        import ray
    except ImportError:
        raise UserError(INSTALL.format(on=on)) from None
    options: dict[str, Any] = {"ignore_reinit_error": False}
    address = None if on == RAY else on
    if on == RAY and "RAY_ADDRESS" not in os.environ:
        address = "local"  # not a cluster that somebody else started on this machine
        options |= {"include_dashboard": False, "object_store_memory": STORE}
    try:
        ray.init(address, logging_level="error", **options)
    except Exception as e:  # many kinds, each meaning that there is no cluster
        reason = " ".join(str(e).split())[:MOST] or "no reason given"  # a client's is on its second line
        cure = "look at `ray status` there, and whether RAY_AUTH_MODE and `ray get-auth-token` are the cluster's here"
        raise UserError(f"--on {on}: Ray does not answer ({reason}); {cure}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt_now)  # Ray puts its own in place
    return ray


class OnRay:
    """Each stage is a Ray task, run again if its worker or machine dies; it resumes from its last checkpoint."""

    def __init__(self, ray: Any, resources: Resources, request: Request, experiment: Experiment) -> None:
        self.ray, self.resources, self.request = ray, resources, request.absolute()
        self.experiment, self.console = experiment, experiment.console
        total = ray.cluster_resources()
        self.gpus = resources.gpus if resources.gpus is not None else float(total.get("GPU", 0) > 0)
        self.device = "cuda" if self.gpus else "cpu"
        self.processes = 2 if resources.several_processes else 1  # at least; what matters is whether it is one
        room = [total.get("CPU", 1) / resources.cpus] + ([total.get("GPU", 0) / self.gpus] if self.gpus else [])
        self.slots = max(1, int(min(room)))

    def run(self, stages: Sequence[Stage]) -> dict[str, Result]:
        """Run the stages, and return the result of each trial, by its name."""
        options = {
            "num_cpus": self.resources.cpus, "max_retries": RETRIES, "num_gpus": self.gpus,
            "runtime_env": {"env_vars": threads.environment()},
        }  # fmt: skip
        tasks: dict[Any, Stage] = {}
        for stage in stages:
            launched = self.resources.several_processes and stage.kind == TRAIN
            remote = self.ray.remote(**options)(_launch_stage if launched else _run_in_worker)
            task = remote.options(name=f"prefzoo {stage}")
            tasks[task.remote(self.request, stage, self.resources, self.console.quiet)] = stage
        results: dict[str, Result] = {}
        waiting, head, count = list(tasks), Head(self.ray, self.resources.on), 0
        while waiting:
            ready, waiting = head.wait(waiting)
            for task in ready:
                count += 1
                ended = self._result(task, tasks[task])
                self._report(tasks[task], ended, f"({count} of {len(stages)})")
                results |= ended
        return results

    def _report(self, stage: Stage, ended: dict[str, Result], progress: str) -> None:
        """Print a line for the stage, and show the new states of its trials in the live view."""
        if stage.kind == REFERENCE:
            set_variant_state("", "", self.console, f"{stage}: {ended[REFERENCE]} {progress}")
        for name, result in ended.items():
            line = f"{Stage(stage.kind, (name,), stage.until)}: {result} {progress}"
            set_variant_state(name, _state(stage, result), self.console, line)

    def _result(self, task: Any, stage: Stage) -> dict[str, Result]:
        try:
            ended: dict[str, Result] = self.ray.get(task)
            return ended
        except self.ray.exceptions.RayTaskError as e:
            if isinstance(e.cause, UserError):
                raise e.cause from None
            raise UserError(f"{stage}: {type(e.cause).__name__}: {e.cause}; its log is above") from e
        except self.ray.exceptions.RayError as e:
            died = str(e).splitlines()[0]
            raise UserError(
                f"{stage}: its worker died {RETRIES + 1} times ({died}); "
                "run the same command to resume where it stopped"
            ) from None


def _state(stage: Stage, result: Result) -> str:
    """Return the state that the live view shows after a stage."""
    if isinstance(result, Failed):
        return FAILED
    if stage.kind != TRAIN:
        return "sampled" if stage.kind == SAMPLE else "measured"
    if stage.until is not None:
        return "paused"
    return KEPT if isinstance(result, Done) and result.kept else TRAINED


def _leave_at_once() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(2)


class HeadLost(UserError):
    """Ray's head does not answer any more."""


class Head:
    """The cluster's head. If it is lost, Ray reports nothing and ends the process after a minute."""

    def __init__(self, ray: Any, on: str) -> None:
        self.ray, self.on = ray, on
        self.address = "" if on.startswith("ray://") else ray.get_runtime_context().gcs_address
        self.patience = HEAD_PATIENCE * float(os.environ.get(RECONNECT, "60"))
        self.heard = time.monotonic()

    def wait(self, tasks: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return a task that has ended, if one does within some seconds, and the others.

        Raises:
            HeadLost: it has been away for longer than a restart takes.
        """
        try:
            ready, waiting = self.ray.wait(tasks, timeout=LOOK)
        except ConnectionError as e:  # of a client: only the cluster knows the head's address
            raise self._lost(str(e)) from None
        if not self.address or _listens(self.address):
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > self.patience:
            raise self._lost(f"no answer from {self.address} for {self.patience:.0f} s")
        return ready, waiting

    def _lost(self, reason: str) -> HeadLost:
        cure = "run the same command to resume where it stopped"
        return HeadLost(f"--on {self.on}: Ray's head is lost ({reason}); {cure}")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK).close()
    except OSError:
        return False
    return True


_OPENED: dict[Request, Experiment] = {}  # the experiment that this worker keeps from one task to the next


def _open_in_worker(request: Request, *, quiet: bool) -> Experiment:
    if request not in _OPENED:
        _OPENED.clear()
        console = Console(quiet=quiet, emoji=False)
        _OPENED[request] = open_experiment(request, load_checked(request), console)
        _OPENED[request].base.may_stay = False  # it is dropped after each stage
    return _OPENED[request]


def _run_in_worker(request: Request, stage: Stage, resources: Resources, quiet: bool) -> dict[str, Result]:  # noqa: FBT001
    """Run a stage in a Ray worker, with one thread per CPU."""
    import torch

    memory.configure_allocator()
    torch.set_num_threads(resources.cpus)
    experiment = _open_in_worker(request, quiet=quiet)
    try:
        return run_stage(experiment, stage)
    except Interrupted as e:  # Ray takes an exception, and no BaseException, for a stage's end
        raise RuntimeError(e.line) from None
    finally:
        experiment.base.drop()  # frees the device's memory for the next stage, in whichever worker


def _launch_stage(request: Request, stage: Stage, resources: Resources, quiet: bool) -> dict[str, Result]:
    """Run a training in several processes of its own, under `accelerate launch`."""
    (name,) = stage.trials
    words = launch_words(request, stage, resources) + (["--quiet"] if quiet else [])
    code = subprocess.run(words, check=False).returncode
    folder = request.folder(load.load(request.recipe, request.overrides).name) / name
    failure = run_folders.read_failure(folder)
    if failure is not None:
        return {name: Failed(failure.reason, failure.step)}
    if code:
        raise RuntimeError(f"`{' '.join(words)}` ended with {code}")
    return {name: Done()}


def launch_words(request: Request, stage: Stage, resources: Resources) -> list[str]:
    """Return the command of a training in several processes.

    Args:
        request: the run.
        stage: the training.
        resources: the Accelerate profile, and how many processes.

    Returns:
        The words of the command, the interpreter first.
    """
    words = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    words += ["--config_file", str(resources.launch)] if resources.launch else []
    words += ["--num_processes", f"{resources.gpus:.0f}"] if resources.gpus and resources.gpus > 1 else []
    return [*words, "-m", *request.words(), "--stage", f"{stage}"]
