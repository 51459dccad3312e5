"""`prefzoo pairs`: on-policy preference data from a model and a judge."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from evals.judges.verifier import Verifier
from evals.pairs import Sampling, make_pairs, write_pairs
from evals.prompts import load_prompts
from prefzoo import models
from prefzoo.errors import UserError
from prefzoo.progress import stage
from prefzoo.train import native_bf16


def write(
    model: str, prompts: str, n: int, temperature: float, seed: int, max_new_tokens: int, limit: int | None, out: Path,
    *, quiet: bool = False,
) -> None:  # fmt: skip
    """Sample, judge, pair and write; the card beside the file says how it was made."""
    if out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {out}: unknown kind of file {out.suffix!r}; use .jsonl or .parquet")
    console = Console()
    rows = load_prompts(prompts, Path.cwd())
    policy, tokenizer = models.load(model, Path.cwd(), dtype=torch.bfloat16 if native_bf16() else torch.float32)
    if torch.cuda.is_available():
        policy = policy.to("cuda")
    how = Sampling(n, temperature, seed, max_new_tokens)
    settings = json.dumps([model, prompts, limit, asdict(how), [[r.prompt, r.checks] for r in rows]])
    key = hashlib.sha256(settings.encode()).hexdigest()[:8]
    partial = out.with_name(f".{out.name}.{key}.partial")  # the same command goes on; another one starts anew
    with stage(f"sampling {n} answers to each of up to {len(rows)} prompts", "pairs", Console(quiet=quiet)) as report:
        made, card = make_pairs(
            policy, tokenizer, rows, Verifier(), how, limit=limit, partial=partial,
            progress=lambda done, total: report(done, total, ""),
        )  # fmt: skip
    if not made:
        raise UserError(f"{prompts}: no prompt gave two answers of different score; raise --n or --temperature")
    command = (
        f"prefzoo pairs --model {model} --prompts {prompts} --n {n} --temperature {temperature} --seed {seed} "
        f"--max-new-tokens {max_new_tokens}" + (f" --limit {limit}" if limit else "") + f" --out {out}"
    )
    write_pairs(out, made, {"command": command, "model": model, **card})
    console.print(f"{len(made)} pairs in {out}; how they were made: {out}.card.json")
