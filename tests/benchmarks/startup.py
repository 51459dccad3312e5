"""How long commands take that train nothing, as multiples of `python -c "import torch"` on the same machine.

`bench.py --plan startup` measures them; a few minutes on two cores. Each round starts every command once, so that a
ratio compares processes that ran under the same load. Seconds are by the clock; those of the processor count all
threads of the process, and say more on a busy machine.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from prefzoo.runtime.run_folders import environment, write_json, write_text

ROUNDS = 3
PREFZOO = (sys.executable, "-m", "prefzoo")
UNIT = "import torch"
TYPO = "name: r\nmodel: m\ndata: {train: t.jsonl}\nvariants: {dpo: {betta: 1}}\n"
TINY = """\
name: tiny
model: ./model
data: {train: pairs.jsonl}
train: {batch: 2, steps: 1, precision: fp32}
variants: {dpo: }
"""
CHANGED = "`check` after a change of the learning rate"
AIMS = {
    "`losses`": 0.4,
    "a typo in a recipe": 0.6,
    "`check` again, nothing changed": 1.5,
    CHANGED: 1.5,
    "first line of `run`": 0.5,
}


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        words: the words.
        first_line: whether only the time until its first line counts; it is stopped then.
    """

    words: tuple[str, ...]
    first_line: bool = False


def commands(quickstart: str, turn: int) -> dict[str, Command]:
    """Return what is measured, by its name in the table.

    Args:
        quickstart: the recipe that is checked.
        turn: number of the round: each has a learning rate of its own.
    """
    rate = f"train.learning_rate={turn + 1}e-6"
    return {
        UNIT: Command((sys.executable, "-c", "import torch")),
        "`--help`": Command((*PREFZOO, "--help")),
        "`losses`": Command((*PREFZOO, "losses")),
        "`ls`": Command((*PREFZOO, "ls")),
        "a typo in a recipe": Command((*PREFZOO, "run", "typo.yaml")),
        "first line of `run`": Command((*PREFZOO, "run", "tiny.yaml", "--results", "other"), first_line=True),
        "`run` of a finished run": Command((*PREFZOO, "run", "tiny.yaml")),
        "`check` again, nothing changed": Command((*PREFZOO, "check", quickstart)),
        CHANGED: Command((*PREFZOO, "check", quickstart, "--set", rate)),
        "`check`, nothing cached": Command((*PREFZOO, "check", quickstart, "--fresh")),
    }


def seconds(command: Command, folder: Path) -> tuple[float, float]:
    """Return how long a command takes by the clock, and of the processor."""
    # a user's processes do not compile the package anew, as this setting of some containers has them do
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    if command.first_line:
        with subprocess.Popen(
            command.words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None and process.stdout.readline(), command.words
            taken = time.perf_counter() - start
            process.kill()
    else:
        subprocess.run(command.words, cwd=folder, env=env, capture_output=True, check=False)
        taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(folder: Path, model: Path) -> None:
    """Write the recipes, and finish the run of the tiny one.

    Args:
        folder: where they go.
        model: a tiny model.
    """
    (folder / "typo.yaml").write_text(TYPO)
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "model").symlink_to(model)
    rows = [{"prompt": f"Say {i}", "chosen": f"It is {i}.", "rejected": "No."} for i in range(4)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    subprocess.run((*PREFZOO, "run", "tiny.yaml"), cwd=folder, capture_output=True, check=True)


def measure(quickstart: str, model: Path, rounds: int = ROUNDS) -> dict[str, list[list[float]]]:
    """Measure all commands in turn, after a round that fills the caches of files, bytecode and checks.

    Args:
        quickstart: the recipe that is checked.
        model: a tiny model.
        rounds: how often each is measured.

    Returns:
        By command, [seconds by the clock, seconds of the processor] of each round.
    """
    measured: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PREFZOO_CACHE"] = str(folder / "cache")
        prepare(folder, model)
        for turn in range(rounds + 1):
            for name, command in commands(quickstart, turn).items():
                taken = seconds(command, folder)
                if turn:
                    measured.setdefault(name, []).append(list(taken))
    return measured


def table(measured: dict[str, list[list[float]]], surroundings: dict[str, Any]) -> str:
    """Return the measurements as Markdown.

    Args:
        measured: as `measure` returned them.
        surroundings: the environment, as `run_folders.environment` describes it.
    """
    hardware, versions = surroundings["hardware"], surroundings["versions"]
    lines = [
        "# Start-up",
        "",
        f"Median of {len(measured[UNIT])} rounds on {hardware['processor']}, torch {versions['torch']}. A ratio is "
        "the median of each round's ratio to `python -c 'import torch'`. The clock also counts other programs.",
        "",
        "| command | seconds | times `import torch` | processor seconds | times `import torch` | aim, seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, rounds in measured.items():
        clock, processor = (statistics.median(column) for column in zip(*rounds, strict=True))
        by_clock, by_processor = (
            statistics.median(one[kind] / unit[kind] for one, unit in zip(rounds, measured[UNIT], strict=True))
            for kind in range(2)
        )
        aim = f"{AIMS[name]:g}" if name in AIMS else ""
        lines.append(f"| {name} | {clock:.2f} | {by_clock:.2f} | {processor:.2f} | {by_processor:.2f} | {aim} |")
    return "\n".join(lines) + "\n"


def run(out: Path, quickstart: str, model: Path) -> None:
    """Measure, and write `startup.json` and `startup.md`.

    Args:
        out: folder to write to.
        quickstart: the recipe that is checked.
        model: a tiny model.
    """
    surroundings = environment()
    measured = measure(quickstart, model)
    write_json(out / "startup.json", {"environment": surroundings, "measured": measured})
    text = table(measured, surroundings)
    write_text(out / "startup.md", text)
    Console().print(text, markup=False, soft_wrap=True)
