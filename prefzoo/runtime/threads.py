"""Let threads that wait for work give way to other programs on the same cores.

This module does not import torch: torch's OpenMP library reads the setting once, when torch is imported.
"""

from __future__ import annotations

import os

SPINS = "GOMP_SPINCOUNT"  # how often a waiting thread of GNU's OpenMP library looks for work before it sleeps
COUNT = "1000"  # the library's own value if there are more threads than cores; else it is 300,000
OWN = ("OMP_WAIT_POLICY", SPINS)  # by these, and Intel's KMP_*, users choose how threads wait


def limit_spinning() -> None:
    """Let waiting threads sleep soon, unless the environment sets how they wait; call before importing torch.

    On a busy machine, a thread that spins occupies a core that the threads it waits for need: three programs of two
    threads each on two cores take eight times as long as with threads that sleep.
    """
    if not chosen_by_user():
        os.environ[SPINS] = COUNT


def chosen_by_user() -> str:
    """Return the first environment variable with which a user sets how threads wait, as NAME=VALUE, or ''."""
    chosen = (f"{name}={value}" for name, value in sorted(os.environ.items()) if name in OWN or name.startswith("KMP_"))
    return next((setting for setting in chosen if setting != f"{SPINS}={COUNT}"), "")


def environment() -> dict[str, str]:
    """Return the environment variables that let threads of a process on another machine wait as they do here."""
    return {name: value for name, value in os.environ.items() if name in OWN or name.startswith("KMP_")}
