"""Kill real `prefzoo eval`s by SIGKILL in the middle of generating and of judging; run by test_killed_evals.py.

Usage: killed_evals.py FOLDER. FOLDER holds two models, a reward model, prompts and a judge's function. For each judge,
an uninterrupted run records the calls. Other runs are then killed as they enter a call, and the command is run again.
Each call must be made only once in total, and the results must be those of the uninterrupted run.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification  # noqa: F401

import prefzoo.experiment.evaluate  # noqa: F401 - what every child would import
from prefzoo.cli import main
from prefzoo.engine import reference_logprobs
from prefzoo.evals.judges.function import Function

LOG = "calls.log"
RUNS: dict[str, list[tuple[str, int]]] = {  # judge -> (stage, number of the call at which to kill)
    "own.py:better": [("answers", 5), ("function", 100)],
    "{kind: reward, model: rm}": [("reward", 11)],
    "{kind: model, model: model}": [("causal", 5)],
}


def watched(
    stage: str, real: Callable[..., Any], kill: tuple[str, int], describe: Callable[..., str]
) -> Callable[..., Any]:
    """Wrap `real` so that it logs each finished call, and kills the process on entering the call that `kill` names."""
    entered = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal entered
        entered += 1
        if kill == (stage, entered):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        with Path(LOG).open("a", encoding="utf-8") as f:
            f.write(f"{stage} {hashlib.sha256(describe(*args, **kwargs).encode()).hexdigest()}\n")
        return result

    return call


def watch(kill: tuple[str, int]) -> None:
    def of_batch(model: Any, **options: Any) -> str:
        return f"{float(model.lm_head.weight[5, 5])} {options['input_ids'].tolist()}"

    LlamaForCausalLM.generate = watched("answers", LlamaForCausalLM.generate, kill, of_batch)
    LlamaForSequenceClassification.forward = watched(
        "reward", LlamaForSequenceClassification.forward, kill, lambda _, **options: str(options["input_ids"].tolist())
    )
    Function.call = watched("function", Function.call, kill, lambda _, texts: str(texts))  # type: ignore[method-assign]
    reference_logprobs.logprobs = watched(
        "causal", reference_logprobs.logprobs, kill, lambda _, pairs, *__, **___: str(list(pairs))
    )


def run(name: str, judge: str, kill: tuple[str, int] = ("", 0)) -> int:
    """Run `prefzoo eval` in a child process, and return its exit code, or the negative number of a signal.

    Args:
        name: Name of the folders of its cache and results.
        judge: The judge.
        kill: Stage and number of the call at which to kill the process.
    """
    sys.stdout.flush()  # else the child prints the same text again
    pid = os.fork()
    if pid == 0:
        os.environ["PREFZOO_CACHE"] = f"cache-{name}"
        watch(kill)
        words = ["model", "other", "--suite", "prompts.jsonl", "--max-new-tokens", "5"]
        sys.argv = ["prefzoo", "eval", *words, "--judge", judge, "--out", f"out-{name}"]
        code = 0
        try:
            main()
        except SystemExit as e:
            code = int(e.code or 0)
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def calls() -> Counter[str]:
    """Return the calls since this was last called."""
    path = Path(LOG)
    result = Counter(path.read_text(encoding="utf-8").splitlines()) if path.exists() else Counter()
    path.unlink(missing_ok=True)
    return result


OWN_TO_A_RUN = ("measuring.json", "evaluation.yaml")  # hold times, and the folder's name


def results(name: str) -> dict[str, bytes]:
    folder = Path(f"out-{name}")
    files = [p for p in sorted(folder.rglob("*.*")) if p.suffix != ".parquet" and p.name not in OWN_TO_A_RUN]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def check() -> None:
    for number, (judge, kills) in enumerate(RUNS.items()):
        assert run(f"whole-{number}", judge) == 0
        whole = calls()
        assert max(whole.values()) == 1, "something is done twice without any kill"
        for stage, at in kills:
            name = f"{number}-{stage}-{at}"
            assert sum(call.startswith(stage) for call in whole) > at, f"{judge}: {stage} has fewer calls than {at}"
            assert run(name, judge, (stage, at)) == -signal.SIGKILL, name
            before = calls()
            assert sum(n for call, n in before.items() if call.startswith(stage)) == at - 1, name
            assert run(name, judge) == 0
            assert before + calls() == whole, f"{name}: lost or done twice"
            assert results(name) == results(f"whole-{number}"), name
            print(f"killed in {stage} {at}, gone on: every call once")
    assert run(name, judge) == 0 and not calls(), "a call after the end does something"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.chdir(sys.argv[1])
    check()
