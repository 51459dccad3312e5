"""prefzoo beside TRL: seconds per pair and peak memory, as ratios within one run on one machine.

`python tests/benchmarks/bench.py --plan headline|curves` measures case after case, each in a process of its own, the
two tools in turn, and writes `results/benchmarks/<plan>.json`, `.md` and `.png`. What is on disk from the same machine,
versions and code of `prefzoo/` is not measured again, so an interrupted run goes on. Run nothing else meanwhile: two
threads that wait for each other on a busy core take many times as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from prefzoo.paths import resolve_package
from prefzoo.runs import environment, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "results" / "benchmarks"
REAL = ROOT.parent / "shared" / "data" / "alpacaeval_pairs_train.jsonl"
QUICKSTART = "package://prefzoo/data/packaged/instruct_train.jsonl"
TOOLS = ("trl", "prefzoo")
FIRST = 64  # rows of the file that any case draws from
VERSIONS = ("python", "torch", "transformers", "prefzoo")


@dataclass(frozen=True)
class Case:
    """What both tools train, and how often it is measured."""

    name: str
    pairs: int = 16
    length: int = 512
    precision: str = "fp32"
    lora: bool = False
    losses: int = 1
    checkpointing: bool = False
    rounds: int = 3

    def words(self, tool: str, rows: Path) -> list[str]:
        """The command line of `case.py`."""
        flags = [name for name in ("lora", "checkpointing") if getattr(self, name)]
        sizes = {"pairs": self.pairs, "length": self.length, "precision": self.precision, "losses": self.losses}
        values = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        return [tool, "--rows", str(rows), *values, *(f"--{flag}" for flag in flags)]


PLANS: dict[str, list[Case]] = {
    "headline": [
        Case("dpo, full, fp32"),
        Case("dpo, full, bf16", precision="bf16"),
        Case("8 losses, LoRA, bf16", pairs=8, precision="bf16", lora=True, losses=8, rounds=1),
    ],
    "curves": [
        Case("dpo, full, fp32, TRL's gradient checkpointing", checkpointing=True, rounds=1),
        *(Case(f"{n} pairs", pairs=n, precision="bf16", rounds=1) for n in (16, 32, 64)),
        *(Case(f"{n} tokens", pairs=8, length=n, precision="bf16", rounds=1) for n in (256, 512, 1024)),
        *(Case(f"{n} losses", pairs=8, precision="bf16", lora=True, losses=n, rounds=1) for n in (1, 2, 4, 8)),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=list(PLANS), default="headline")
    plan = parser.parse_args().plan
    source = REAL if REAL.is_file() else resolve_package(QUICKSTART)
    made = environment()
    known = _known(OUT / f"{plan}.json", made)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        lines = source.read_text(encoding="utf-8").splitlines()[:FIRST]
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for case in PLANS[plan]:
            for turn in range(case.rounds):
                for tool in TOOLS:
                    if len(known.setdefault(case.name, {}).setdefault(tool, [])) <= turn:
                        found = _measure(case, tool, rows)
                        seconds, peak = found["seconds"], found["peak_bytes"] / 1e9
                        console.print(f"{case.name}, {tool}: {seconds:.1f} s, {peak:.2f} GB")
                        known[case.name][tool].append(found)
                        kept = {"rows": source.name, "environment": made, "cases": [asdict(c) for c in PLANS[plan]]}
                        write_json(OUT / f"{plan}.json", {**kept, "measured": known})
    text = table(PLANS[plan], known, source.name, made)
    write_text(OUT / f"{plan}.md", text)
    picture(PLANS[plan], known, OUT / f"{plan}.png")
    console.print(text, markup=False, soft_wrap=True)


def _known(path: Path, made: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What was measured before on the same machine, versions and code."""
    if not path.is_file():
        return {}
    before = json.loads(path.read_text(encoding="utf-8"))
    same = all(before["environment"][what] == made[what] for what in ("versions", "hardware"))
    found: dict[str, dict[str, list[dict[str, Any]]]] = before["measured"]
    return found if same and _code(before["environment"]["commit"]) == _code(made["commit"]) else {}


def _code(commit: str) -> str:
    """What identifies the files of `prefzoo/` at a commit; of a changed tree, nothing that could match."""
    here = ["git", "-C", str(ROOT)]
    changed = subprocess.run([*here, "status", "--porcelain", "--", "prefzoo"], capture_output=True, check=False).stdout
    place = f"{commit.removesuffix('-dirty')}:prefzoo"
    tree = subprocess.run([*here, "rev-parse", place], capture_output=True, text=True, check=False).stdout
    return f"{tree} and {changed!r}" if commit.endswith("-dirty") and changed else tree


def _measure(case: Case, tool: str, rows: Path) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("case.py")), *case.words(tool, rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case.name}, {tool}: failed\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(known: dict[str, Any], case: Case, tool: str, what: str) -> float:
    """Median over rounds."""
    return float(median(m[what] for m in known[case.name][tool]))


def table(cases: list[Case], known: dict[str, Any], rows: str, made: dict[str, Any]) -> str:
    """Markdown: medians of both tools and their ratios."""
    head = "| case | pairs | TRL s | prefzoo s | times faster | TRL GB | prefzoo GB | share of memory | rounds |"
    lines = [head, "|" + "---|" * 9]
    for case in cases:
        theirs, ours = (middle(known, case, tool, "seconds") for tool in TOOLS)
        their_peak, our_peak = (middle(known, case, tool, "peak_bytes") / 1e9 for tool in TOOLS)
        lines.append(
            f"| {case.name} | {case.pairs} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} | {their_peak:.2f} | "
            f"{our_peak:.2f} | {our_peak / their_peak:.2f} | {case.rounds} |"
        )
    versions = ", ".join(f"{name} {made['versions'][name]}" for name in VERSIONS if name in made["versions"])
    hardware = made["hardware"]
    where = f"{hardware['gpu'] or hardware['processor']}, {hardware['cores']} cores, 2 threads"
    return "\n".join(lines) + (
        f"\n\nSmolLM2-135M, batch 4, rows of {rows}, TRL 1.16.0 without gradient checkpointing unless said; seconds "
        f"from raw rows to the end of training, medians over the rounds; peak memory of the process. {where}; "
        f"{versions}; commit {made['commit']}.\n"
    )


def picture(cases: list[Case], known: dict[str, Any], path: Path) -> None:
    """Seconds and memory of both tools, case by case."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 0.5 * len(cases) + 1.6), sharey=True, layout="constrained")
    for axis, what, scale, label in zip(axes, ("seconds", "peak_bytes"), (1, 1e9), ("seconds", "peak GB"), strict=True):
        for shift, tool, colour in ((-0.2, "trl", "#999999"), (0.2, "prefzoo", "#0072b2")):
            values = [middle(known, case, tool, what) / scale for case in cases]
            bars = axis.barh([i + shift for i in range(len(cases))], values, 0.38, color=colour, label=tool)
            axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_xlabel(f"{label} (less is better)")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(cases)), [case.name for case in cases])
    axes[0].invert_yaxis()
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
