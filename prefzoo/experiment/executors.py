"""Where stages run: one after the other in this process, or on Ray. Neither changes a number."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.experiment.stages.dispatch import DONE, Order, Stage, do, failure
from prefzoo.recipe import load
from prefzoo.runtime import memory
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.signals import Interrupted, interrupt_now

LOCAL, RAY = "local", "ray"
RETRIES = 3  # times that a stage is placed anew when its worker or machine dies
LOOK = 2  # seconds between looks at Ray's head
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # how long Ray waits for its head before it ends the process
HEAD_PATIENCE = 0.7  # of that time
MOST = 300  # characters of what Ray says
STORE = 100_000_000  # bytes; stages exchange files, not objects
INSTALL = "--on {on}: Ray is not installed; pip install 'prefzoo[ray]', or leave out --on to train in order"


@dataclass(frozen=True)
class Placing:
    """What one stage gets.

    Attributes:
        on: `local`, `ray` (the cluster of $RAY_ADDRESS, else one started on this machine), or `ray://host:port`.
        gpus: per stage; below 1, several stages share one. None: 1 where Ray sees any.
        cpus: per stage, also the number of its threads.
        launch: an Accelerate profile that trainings start under, for several processes each.
    """

    on: str = LOCAL
    gpus: float | None = None
    cpus: int = 1
    launch: Path | None = None


class Placer(Protocol):
    """Does stages that do not depend on each other; gives `done` or the reason of a failure for each, in order."""

    def all(self, stages: Sequence[Stage]) -> list[str]: ...


@contextmanager
def placer(how: Placing, order: Order, console: Console) -> Iterator[Placer]:
    """The placer that `--on` names; Ray is shut down behind it.

    Raises:
        UserError: there is no such place, Ray is not installed, or its cluster does not answer.
    """
    if how.on == LOCAL:
        yield InOrder(order)
        return
    if process_state().num_processes > 1:
        raise UserError(f"--on {how.on}: Ray starts the processes; leave out accelerate launch, see --launch")
    ray = connected(how.on)
    try:
        yield OnRay(ray, how, order, console)
    except HeadLost:
        atexit.register(_leave_at_once)  # Ray's own end would wait for the head, and then crash
        raise
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


@dataclass(frozen=True)
class InOrder:
    """One after the other, in this process."""

    order: Order

    def all(self, stages: Sequence[Stage]) -> list[str]:
        return [do(self.order, what) for what in stages]


def connected(on: str) -> Any:
    """Ray, connected or started.

    Raises:
        UserError: see `placer`.
    """
    if on != RAY and not on.startswith("ray://"):
        raise UserError(f"--on {on}: no such place; give local, ray, or ray://host:10001")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its coming default
    try:
        import ray
    except ImportError:
        raise UserError(INSTALL.format(on=on)) from None
    options: dict[str, Any] = {"ignore_reinit_error": False}
    address = None if on == RAY else on
    if on == RAY and "RAY_ADDRESS" not in os.environ:
        address = "local"  # not one that somebody else started on this machine
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


@dataclass(frozen=True)
class OnRay:
    """Each stage a Ray task, placed anew when its worker or machine dies; it goes on from its last checkpoint."""

    ray: Any
    how: Placing
    order: Order
    console: Console

    def all(self, stages: Sequence[Stage]) -> list[str]:
        several = self.how.launch is not None or (self.how.gpus or 0) > 1
        options = {"num_cpus": self.how.cpus, "max_retries": RETRIES, "num_gpus": self._gpus()}
        tasks = {}
        for what in stages:
            remote = self.ray.remote(**options)(_launched if several and what.kind == "train" else _task)
            words = (
                (self.order, what, self.how) if several and what.kind == "train" else (self.order, what, self.how.cpus)
            )
            tasks[remote.options(name=f"prefzoo {what}").remote(*words)] = what
        ended: dict[Stage, str] = {}
        waiting, head = list(tasks), Head(self.ray, self.how.on)
        while waiting:
            ready, waiting = head.wait(waiting)
            if not ready:
                continue
            what = tasks[ready[0]]
            ended[what] = self._result(ready[0], what)
            self.console.print(f"{what}: {ended[what]} ({len(ended)} of {len(stages)})", soft_wrap=True, markup=False)
        return [ended[what] for what in stages]

    def _gpus(self) -> float:
        if self.how.gpus is not None:
            return self.how.gpus
        return 1.0 if self.ray.cluster_resources().get("GPU", 0) else 0.0

    def _result(self, task: Any, what: Stage) -> str:
        try:
            return str(self.ray.get(task))
        except self.ray.exceptions.RayTaskError as e:
            if isinstance(e.cause, UserError):
                raise e.cause from None
            raise UserError(f"{what}: {type(e.cause).__name__}: {e.cause}; its log is above") from e
        except self.ray.exceptions.RayError as e:
            died = str(e).splitlines()[0]
            raise UserError(
                f"{what}: its worker died {RETRIES + 1} times ({died}); the same command goes on where it stopped"
            ) from None


def _leave_at_once() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(2)


class HeadLost(UserError):
    """Ray's head does not answer any more."""


class Head:
    """The cluster's head, of which Ray itself says nothing while it is away, and ends the process after a minute."""

    def __init__(self, ray: Any, on: str) -> None:
        self.ray, self.on = ray, on
        self.address = "" if on.startswith("ray://") else ray.get_runtime_context().gcs_address
        self.patience = HEAD_PATIENCE * float(os.environ.get(RECONNECT, "60"))
        self.heard = time.monotonic()

    def wait(self, tasks: list[Any]) -> tuple[list[Any], list[Any]]:
        """A task that has ended, if one does within some seconds, and the others.

        Raises:
            HeadLost: it is gone, for longer than one that is started anew takes.
        """
        try:
            ready, waiting = self.ray.wait(tasks, timeout=LOOK)
        except ConnectionError as e:  # of a client: the head's address is the cluster's own affair
            raise self._lost(str(e)) from None
        if not self.address or _listens(self.address):
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > self.patience:
            raise self._lost(f"no answer from {self.address} for {self.patience:.0f} s")
        return ready, waiting

    def _lost(self, how: str) -> HeadLost:
        return HeadLost(f"--on {self.on}: Ray's head is lost ({how}); the same command goes on where it stopped")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK).close()
    except OSError:
        return False
    return True


def _task(order: Order, what: Stage, threads: int) -> str:
    """A stage in a Ray worker, whose threads are as many as its CPUs."""
    import torch

    memory.configure_allocator()
    torch.set_num_threads(threads)
    try:
        return do(order, what)
    except Interrupted as e:  # Ray takes an exception, and no BaseException, for a stage's end
        raise RuntimeError(e.line) from None


def _launched(order: Order, what: Stage, how: Placing) -> str:
    """A training in several processes of its own, under `accelerate launch`."""
    words = launch_words(order, what, how)
    code = subprocess.run(words, check=False).returncode
    folder = Path(order.results) / load.load(order.recipe, order.overrides).name
    reason = failure(folder / what.trial)
    if code and not reason:
        raise RuntimeError(f"`{' '.join(words)}` ended with {code}")
    return reason or DONE


def launch_words(order: Order, what: Stage, how: Placing) -> list[str]:
    """The command of a training in several processes."""
    words = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    words += ["--config_file", str(how.launch)] if how.launch else []
    words += ["--num_processes", f"{how.gpus:.0f}"] if how.gpus and how.gpus > 1 else []
    return [*words, "-m", *run_words(order), "--stage", f"{what}"]


def run_words(order: Order) -> list[str]:
    """`prefzoo run` of an order, behind `python -m`."""
    words = ["prefzoo", "run", order.recipe, "--results", order.results, "--save-every", f"{order.save_every:g}"]
    return words + [word for text in order.overrides for word in ("--set", text)]
