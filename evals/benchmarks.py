"""Benchmarks by lm-eval, in process, on the loaded model; the project's own task files need no network."""

from __future__ import annotations

import hashlib
import io
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
import yaml

from prefzoo.errors import UserError, did_you_mean

SUITES = Path(__file__).parent / "suites"


def known() -> list[str]:
    """Names of the embedded suites."""
    return sorted(p.stem for p in SUITES.glob("*/*.yaml"))


def check_names(names: Sequence[str]) -> None:
    """Raises UserError, a line per name that is no embedded suite."""
    wrong = [n for n in names if n not in known()]
    if wrong:
        have = ", ".join(known())
        raise UserError(
            f"evals.benchmarks: no suite {n!r}{did_you_mean(n, known())}; embedded are {have}" for n in wrong
        )


def suite_key(name: str) -> str:
    """Hash of a suite's files: what a result of it depends on besides the model."""
    digest = hashlib.sha256()
    for path in sorted(p for p in (SUITES / name).iterdir() if p.suffix in (".yaml", ".jsonl")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run_benchmark(model: Any, tokenizer: Any, name: str, *, batch_size: int = 16) -> dict[str, float]:
    """Accuracy of one embedded suite: value, stderr and n, as lm-eval gives them.

    The model's mode and all random states are left as they were (lm-eval reseeds them).

    Raises:
        UserError: no such suite.
    """
    check_names([name])
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = SUITES / name
    task = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    task["dataset_kwargs"] = {"data_files": {"test": str(folder / "items.jsonl")}}
    with _untouched(model), _quiet():
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        found = lm_eval.simple_evaluate(
            model=harness, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=100
        )
    result = found["results"][name]
    n = found["n-samples"][name]["effective"]
    return {"value": float(result["acc,none"]), "stderr": float(result["acc_stderr,none"]), "n": float(n)}


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    import numpy as np

    training, states = model.training, (random.getstate(), np.random.get_state(), torch.get_rng_state())
    try:
        yield
    finally:
        model.train(training)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def _quiet(names: Sequence[str] = ("lm_eval", "lm-eval", "datasets")) -> Iterator[None]:
    from datasets.utils import logging as datasets_logging

    loggers = [logging.getLogger(n) for n in names]
    levels = [x.level for x in loggers]
    datasets_logging.disable_progress_bar()
    for x in loggers:
        x.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):  # some of its bars cannot be turned off
            yield
    finally:
        for x, level in zip(loggers, levels, strict=True):
            x.setLevel(level)
