"""prefzoo beside TRL: seconds per pair and peak memory, as ratios within one run on one machine.

`python tests/benchmarks/bench.py --plan headline|curves|side|gpu|data|startup` measures case after case, each in a
process of its own, the two tools in turn, and writes `<plan>.json`, `.md` and `.png` to `--out`. What is there from the
same machine, versions and code of `prefzoo/` is not measured again, so an interrupted run goes on; with `--minutes` it
stops by itself, after the measurement under way. Run nothing else meanwhile: two threads that wait for each
other on a busy core take many times as long.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import startup
from case import MODEL
from plans import PLANS, SIZES, Case
from report import Known, gpu_table, picture, table
from rich.console import Console

from prefzoo.engine import model_copies, models
from prefzoo.engine.model_sources import find_model
from prefzoo.runtime import atomic_files
from prefzoo.runtime.memory import release_memory
from prefzoo.runtime.paths import resolve_package
from prefzoo.runtime.run_folders import environment, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "runs" / "benchmarks"
REAL = ROOT.parent / "shared" / "data" / "alpacaeval_pairs_train.jsonl"
QUICKSTART = "package://prefzoo/data/packaged/instruct_train.jsonl"
STARTUP = "startup"  # the plan of commands that train nothing
FIRST = 64  # rows of the real file that any case draws from
OUT_OF_MEMORY = -9  # what a process that the kernel killed returns
LONGEST = 300  # seconds that a measurement on a GPU may take
SHOWN = 200  # characters of the reason why a tool failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=[*PLANS, STARTUP], default="headline")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no measurement after so many")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to; default: runs/benchmarks")
    parser.add_argument("--rows", type=Path, help="file of prompt, chosen and rejected, in place of AlpacaEval's")
    parser.add_argument("--tokenizer", type=Path, help="folder; for models of random weights, in place of the demo's")
    asked = parser.parse_args()
    if asked.plan == STARTUP:
        with tempfile.TemporaryDirectory() as folder:
            startup.run(asked.out, "quickstart", _random_model("tiny", Path(folder) / "tiny", asked.tokenizer))
        return
    end, cases, here = time.monotonic() + 60 * asked.minutes, PLANS[asked.plan], environment()
    if any(case.device == "cuda" for case in cases) and not here["hardware"]["gpu"]:
        raise SystemExit(f"plan {asked.plan}: needs an NVIDIA GPU, not found here; --plan gpu-tiny runs on a CPU")
    source = asked.rows or (REAL if REAL.is_file() else resolve_package(QUICKSTART))
    file, console = asked.out / f"{asked.plan}.json", Console()
    identity = {"rows": source.name, "environment": here, "code": _code()}
    known, kept = _known(file, identity), {**identity, "cases": [asdict(c) for c in cases]}
    kept_files = asked.out / f"{asked.plan}-files" if any(case.kept for case in cases) else None
    with _folder(kept_files) as folder:
        for case, tool in _missing(cases, known):
            if time.monotonic() > end:
                console.print("time is up; run the same command to resume")
                break
            model = _model(case, folder, asked.tokenizer)
            result = _measure(case, tool, _rows(case, source, folder), model, folder)
            known.setdefault(case.name, {}).setdefault(tool, []).append(result)
            told = (
                f"{result['seconds']:.1f} s, {result['peak_bytes'] / 1e9:.2f} GB" if "seconds" in result else "failed"
            )
            console.print(f"{case.name}, {tool}: {told}")
            write_json(file, {**kept, "measured": known})
    if kept_files and not any(_missing(cases, known)):
        shutil.rmtree(kept_files)
    text = (gpu_table if cases[0].size else table)(asked.plan, cases, known, source.name, here)
    write_text(asked.out / f"{asked.plan}.md", text)
    picture(cases, known, asked.out / f"{asked.plan}.png")
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Yield a folder for rows and models: one that is kept, or a new one that is removed."""
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def _missing(cases: list[Case], known: Known) -> Iterator[tuple[Case, str]]:
    """What is to be measured, the tools in turn."""
    for case in cases:
        for turn in range(case.rounds):
            for tool in case.tools:
                if len(known.get(case.name, {}).get(tool, [])) <= turn:
                    yield case, tool


def _known(path: Path, identity: dict[str, Any]) -> Known:
    """What was measured before on the same machine, rows, versions and code; failures are tried again."""
    if not path.is_file():
        return {}
    before = json.loads(path.read_text(encoding="utf-8"))
    same = all(before["environment"][key] == identity["environment"][key] for key in ("versions", "hardware"))
    if not same or any(before.get(key) != identity[key] for key in ("rows", "code")):
        return {}
    return {
        name: {tool: [m for m in result if "failed" not in m] for tool, result in tools.items()}
        for name, tools in before["measured"].items()
    }


def _code() -> str:
    """What identifies the files of `prefzoo/`, also where there is no repository."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "prefzoo").rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)} {atomic_files.sha256_of_file(path)} ".encode())
    return digest.hexdigest()[:16]


def _rows(case: Case, source: Path, folder: Path) -> Path:
    """The file that a case reads."""
    if case.rows == "quickstart":
        source = resolve_package(QUICKSTART)
    if case.rows in ("made up", "conversations"):
        return made_up(case.pairs, folder / f"{case.rows}-{case.pairs}.jsonl", messages=case.rows == "conversations")
    lines = source.read_text(encoding="utf-8").splitlines()
    lines = (lines * 2)[: case.pairs] if case.rows == "quickstart" else lines[:FIRST]  # 400, for 512
    target = folder / f"{case.rows}-{len(lines)}.jsonl"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def made_up(count: int, target: Path, *, messages: bool = False) -> Path:
    """Write pairs of random words, about 90 tokens each, if they are not there; every prompt is another one.

    Args:
        count: number of pairs.
        target: file to write.
        messages: whether they are conversations, and not texts.

    Returns:
        The file.
    """
    if target.is_file():
        return target
    rng = random.Random(0)
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()[:2000]

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(least, most)))

    with atomic_files.write_atomically(target) as partial, partial.open("w", encoding="utf-8") as file:
        for i in range(count):
            row: dict[str, Any] = {"prompt": f"{i} {text(8, 16)}?", "chosen": text(10, 30), "rejected": text(8, 26)}
            if messages:
                roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
                row = {name: [{"role": role, "content": row[name]}] for name, role in roles.items()}
            file.write(json.dumps(row) + "\n")
    return target


def _model(case: Case, folder: Path, tokenizer: Path | None) -> str:
    """The model that a case trains: the whole one, a copy of its first layers, or random weights of some size."""
    if case.size:
        return str(_random_model(case.size, folder / f"random-{case.size}", tokenizer))
    if not case.layers:
        return MODEL
    target = folder / f"first-{case.layers}-layers"
    if not target.is_dir():
        model, tokenizer = models.load(MODEL, Path())
        model.model.layers, model.config.num_hidden_layers = model.model.layers[: case.layers], case.layers
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    return str(target)


def _random_model(size: str, target: Path, folder: Path | None) -> Path:
    """A Qwen2 of random weights, in bf16 on disk, with the tokenizer in a folder, or the demo's."""
    if not target.is_dir():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        source = folder or model_copies.tokenizer_from_gguf(Path(find_model(MODEL, ROOT)))
        tokenizer = AutoTokenizer.from_pretrained(source)
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = AutoConfig.for_model(
            "qwen2", num_key_value_heads=2, vocab_size=151_936, tie_word_embeddings=True,
            max_position_embeddings=16_384, **SIZES[size], **ids,
        )  # fmt: skip
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.to("cpu").save_pretrained(target)
        tokenizer.save_pretrained(target)
        release_memory()  # what it took on a GPU, which the measured processes are to have
    return target


def _measure(case: Case, tool: str, rows: Path, model: str, folder: Path) -> dict[str, Any]:
    words = [*case.words(tool), "--rows", str(rows), "--model", model]
    words += ["--keep", str(folder / case.name.replace(" ", "-"))] if case.kept else []
    command = [sys.executable, str(Path(__file__).with_name("case.py")), *words]
    errors = None if case.kept else subprocess.PIPE  # of one that takes long, the progress is shown
    longest = LONGEST if case.device == "cuda" else None
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, timeout=longest)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {longest} s"}
    if done.returncode == OUT_OF_MEMORY:
        return {"failed": "killed, as a process that asks for more memory than there is"}
    if done.returncode and case.device == "cuda":  # such as one that does not fit into the card's memory
        lines = [line.strip() for line in (done.stderr or "").splitlines() if line.strip()]
        return {"failed": lines[-1][:SHOWN] if lines else f"code {done.returncode}"}
    if done.returncode:
        raise SystemExit(f"{case.name}, {tool}: failed\n{(done.stderr or '')[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
