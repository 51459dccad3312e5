"""Let threads that wait for work give way to other programs on the same cores.

This module does not import torch: torch's OpenMP library reads the setting once, when torch is imported.
"""

from __future__ import annotations

import os

SPINS = "GOMP_SPINCOUNT"  # how often a waiting thread of GNU's OpenMP library looks for work before it sleeps
COUNT = "1000"  # what the library itself takes where it knows that there are more threads than cores; else 300,000
OWN = ("OMP_WAIT_POLICY", SPINS)  # with KMP_*, Intel's, what users set to choose by themselves


def limit_spinning() -> None:
    """Let waiting threads sleep after `COUNT` looks, unless the environment sets how they wait; before importing torch.

    A thread that spins keeps its core from the threads that it waits for, if those belong to a busy machine: three
    programs of two threads each on two cores then take eight times the time that they take with threads that sleep.
    """
    if not chosen_by_user():
        os.environ[SPINS] = COUNT


def chosen_by_user() -> str:
    """Return the first variable of the environment that sets how threads wait otherwise, as NAME=VALUE, or ''."""
    chosen = (f"{name}={value}" for name, value in sorted(os.environ.items()) if name in OWN or name.startswith("KMP_"))
    return next((setting for setting in chosen if setting != f"{SPINS}={COUNT}"), "")


def environment() -> dict[str, str]:
    """Return the variables that a process on another machine needs for its threads to wait as they do here."""
    return {name: value for name, value in os.environ.items() if name in OWN or name.startswith("KMP_")}
