"""Run benchmarks with lm-eval in this process, on a loaded model. The embedded suites need no network."""

from __future__ import annotations

import io
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from prefzoo.errors import UserError
from prefzoo.evals.suites.tasks import resolve_task, suite_key, suite_names
from prefzoo.runtime.memory import free_gpu_bytes
from prefzoo.runtime.plugins import describe_error
from prefzoo.runtime.rates import thread_clock

BOOTSTRAP = 1000  # lm-eval's resamples for standard errors that have no formula
FEW = (2, 10)  # documents of two short runs, whose difference in time is that of 8 documents
BATCH, MOST = {"cpu": 16}, 128  # documents in one batch on CPUs, and most documents on other devices
LONGEST, FP32 = 2048, 4  # most tokens that lm-eval scores at once; bytes of an fp32 number
PAIRED = 2  # lm-eval's sample of a perplexity is a pair (log-likelihood, length)


@dataclass(frozen=True)
class Benchmark:
    """The result of one task on one model.

    Attributes:
        value, stderr: the task's first metric and its standard error, from lm-eval; NaN if missing.
        n: number of documents.
        metric: lm-eval's name of the metric.
        higher_is_better: the direction of the metric; None if unknown.
        chat_template: whether the tokenizer's chat template was applied to prompts.
        suite: name and content hash of the benchmark.
        samples: {"doc_id", "doc_hash", "score"} of each document; empty if a document has no single score.
        reason: the reason for a missing value; empty otherwise.
    """

    value: float
    stderr: float
    n: int
    metric: str = "acc"
    higher_is_better: bool | None = True
    chat_template: bool = False
    suite: str = ""
    samples: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def run_benchmark(
    model: Any,
    tokenizer: Any,
    spec: str,
    *,
    folder: Path = Path(),
    batch_size: int | None = None,
    limit: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Run a benchmark with lm-eval.

    The model's training mode and all random states are restored afterwards, since lm-eval changes them. Tasks that
    generate text use the tokenizer's chat template, if it has one. Other tasks do not, since their choices continue a
    plain text. A task that fails, for example without its data or a network, gives a result with a reason and no value.

    Args:
        model, tokenizer: a causal language model and its tokenizer, of transformers.
        spec: an embedded suite, a task file or folder, or the name of an lm-eval task.
        folder: the folder that a relative path in `spec` starts from.
        batch_size: documents per batch; None to choose it by the device and its memory.
        limit: number of documents to run, from the first on; None for all.

    Returns:
        The fields of a `Benchmark` for each task, by its name.

    Raises:
        UserError: the benchmark does not exist.
    """
    manager, names = resolve_task(spec, folder)
    suite = f"{spec}@{suite_key(spec, folder)}"
    benchmarks: dict[str, Benchmark] = {}
    for name in names:
        with _states_restored(model), _quiet():
            try:
                results = _evaluate(model, tokenizer, manager, name, batch_size, limit)
            except Exception as e:  # lm-eval and its data sets may raise anything, and the run must continue
                reason = f"{type(e).__name__}: {(str(e).strip() or 'no reason given').splitlines()[0]}"
                benchmarks[Path(name).stem] = Benchmark(math.nan, math.nan, 0, "", None, suite=suite, reason=reason)
                continue
        benchmarks |= from_results(results, results["samples"], suite, chat=bool(results["chat"]))
    return {name: asdict(b) for name, b in benchmarks.items()}


def documents_together(model: Any) -> int:
    """Return the number of documents in one batch: 16 on CPUs, and as many as fit into the memory of a GPU.

    lm-eval holds the logits of all positions three times: in the model's precision, in fp32, and as log-probs.

    Args:
        model: a causal language model, on its device.
    """
    if model.device.type in BATCH:
        return BATCH[model.device.type]
    config = model.config.get_text_config()
    positions = min(int(getattr(config, "max_position_embeddings", None) or LONGEST), LONGEST)
    row = positions * int(config.vocab_size) * (int(model.dtype.itemsize) + 2 * FP32)
    return max(1, min(MOST, int(free_gpu_bytes(model.device) / 2) // row))


def seconds_for_all(model: Any, tokenizer: Any, spec: str, *, folder: Path = Path()) -> float:
    """Run a few documents of a benchmark, and estimate the time of all documents on one model.

    Args:
        model, tokenizer: a causal language model and its tokenizer, of transformers.
        spec: an embedded suite, or a task file or folder, whose data are on this machine.
        folder: the folder that a relative path in `spec` starts from.

    Returns:
        Seconds of `thread_clock`, with the time to load the documents.

    Raises:
        UserError: the data are on the hub, or the benchmark fails.
    """
    if spec not in suite_names() and not (folder / spec).exists():
        raise UserError(f"{spec}: its data are on the hub")
    manager, names = resolve_task(spec, folder)
    total = 0.0
    for name in names:
        took: list[float] = []
        counts: list[Mapping[str, int]] = []
        for limit in FEW:
            start = thread_clock()
            with _states_restored(model), _quiet():
                try:
                    results = _evaluate(model, tokenizer, manager, name, None, limit)
                except Exception as e:
                    raise UserError(f"{spec}: {describe_error(e)}") from None
            took.append(thread_clock() - start)
            samples = list(results["n-samples"].values())
            counts.append({key: sum(n[key] for n in samples) for key in ("original", "effective")})
        each = max(0.0, took[1] - took[0]) / max(1, counts[1]["effective"] - counts[0]["effective"])
        total += took[1] + each * (counts[1]["original"] - counts[1]["effective"])
    return total


def _evaluate(
    model: Any, tokenizer: Any, manager: Any, name: str, batch_size: int | None, limit: int | None
) -> dict[str, Any]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    loaded = manager.load([name])
    generates = any(task.OUTPUT_TYPE == "generate_until" for task in loaded["tasks"].values())
    chat = generates and bool(tokenizer.chat_template)
    # in bf16, log-probs of a whole document would be off by up to one in 512
    exact = torch.promote_types(model.dtype, torch.float32)
    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size or documents_together(model), softmax_dtype=exact
    )
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=harness, tasks=[name], task_manager=manager, bootstrap_iters=BOOTSTRAP, apply_chat_template=chat,
        limit=limit,
    )  # fmt: skip
    return results | {"chat": chat}


def from_results(
    results: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]], suite: str, *, chat: bool
) -> dict[str, Benchmark]:
    """Convert the results of lm-eval, from its Python API or its files.

    Args:
        results: lm-eval's results.
        samples: a row for each document, by task.
        suite: name and content hash of the benchmark.
        chat: whether the chat template was applied to prompts.

    Returns:
        A benchmark for each group, and for each task outside of groups, by name.
    """
    groups: Mapping[str, Any] = results.get("groups") or {}
    members = {m for subtasks in (results.get("group_subtasks") or {}).values() for m in subtasks}
    out: dict[str, Benchmark] = {}
    for name, numbers in {**results["results"], **groups}.items():
        if name in members and name not in groups:
            continue
        key = _metric(name, numbers, results)
        if key is None:
            continue
        under = (results.get("group_subtasks") or {}).get(name) or [name]
        rows = [r for task in under for r in _rows(samples.get(task, ()), key, task if len(under) > 1 else "")]
        metric = key.split(",")[0]
        value, stderr = numbers[key], numbers.get(key.replace(",", "_stderr,", 1))
        n = sum(int(results["n-samples"][t]["effective"]) for t in under if t in results.get("n-samples", {}))
        direction = (results.get("higher_is_better") or {}).get(name, {}).get(metric)
        out[name] = Benchmark(float(value), _number(stderr), n or len(rows), metric, direction, chat, suite, rows)
    return out


def _metric(name: str, numbers: Mapping[str, Any], results: Mapping[str, Any]) -> str | None:
    """Return the key (`metric,filter`) of the metric that the task file lists first; None without a number."""
    keys = [k for k, v in numbers.items() if "," in k and "_stderr," not in k and isinstance(v, int | float)]
    config = (results.get("configs") or {}).get(name, {})
    named = [m["metric"] for m in config.get("metric_list") or () if isinstance(m.get("metric"), str)]
    first = [k for want in named for k in keys if k.split(",")[0] == want]
    return next(iter([*first, *keys]), None)


def _rows(samples: Sequence[Mapping[str, Any]], key: str, task: str) -> list[dict[str, Any]]:
    metric, filter_name = key.split(",", 1)
    scored = [s for s in samples if s.get("filter", filter_name) == filter_name and metric in s]
    rows = [
        {"doc_id": f"{task}/{s['doc_id']}" if task else s["doc_id"], "doc_hash": s["doc_hash"],
         "score": _score(metric, s[metric])}
        for s in scored
    ]  # fmt: skip
    return [] if any(row["score"] is None for row in rows) else rows


def _score(metric: str, value: Any) -> float | None:
    """Return a document's score; convert lm-eval's pair (log-likelihood in nats, length in bytes) to bits per byte."""
    if isinstance(value, list | tuple) and len(value) == PAIRED and metric == "bits_per_byte":
        return -float(value[0]) / float(value[1]) / math.log(2)
    return float(value) if isinstance(value, int | float) else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


@contextmanager
def _states_restored(model: Any) -> Iterator[None]:
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
        # Some of lm-eval's progress bars cannot be turned off. It also asks git for the commit of the current folder,
        # and for each task it lists the machine's packages and drivers, which takes seconds.
        with (
            redirect_stderr(io.StringIO()),
            patch("lm_eval.evaluator.get_git_commit_hash", return_value=None),
            patch("lm_eval.evaluator.add_env_info"),
        ):
            yield
    finally:
        for x, level in zip(loggers, levels, strict=True):
            x.setLevel(level)
