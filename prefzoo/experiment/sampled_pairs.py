"""On-policy preference data: a model's own answers, paired by a judge, in a file with a card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from prefzoo.data.chat import with_variables
from prefzoo.engine import models
from prefzoo.engine.precision import native_bf16
from prefzoo.errors import UserError
from prefzoo.evals.generation.pairs import BY_CHECKS, Rule, Sampling, make_pairs, write_pairs
from prefzoo.evals.judges import load_judge
from prefzoo.evals.suites.prompts import check_rendered, load_prompts
from prefzoo.experiment.plausible import sampling_warning
from prefzoo.experiment.stages.judge import check_judgeable, judge_settings
from prefzoo.runtime.cache import Cache, key_of
from prefzoo.runtime.paths import OUT_CURE, check_writable
from prefzoo.runtime.progress import stage


@dataclass(frozen=True)
class Wanted:
    """What pairs are asked for, in the words of `prefzoo pairs`.

    Attributes:
        length_ratio, least_score: bounds on the answers of a pair; None for the judge's own.
        limit: how many pairs at most; None for all.
        out: the file.
        variables: of the chat template.
    """

    model: str
    prompts: str
    judge: str
    sampling: Sampling
    length_ratio: float | None
    least_score: float | None
    limit: int | None
    out: Path
    variables: Mapping[str, Any] = field(default_factory=dict)

    def rule(self, *, by_checks: bool) -> Rule:
        """Return which answers may pair: a judge by checks has bounds of its own, other judges none."""
        own = BY_CHECKS if by_checks else Rule()
        ratio = own.length_ratio if self.length_ratio is None else self.length_ratio
        return Rule(ratio, own.least_chosen if self.least_score is None else self.least_score)

    def command(self) -> str:
        """Return the command that makes the same data again, with every option that is not the default."""
        words = ["prefzoo", "pairs", "--model", self.model, "--prompts", self.prompts]
        words += ["--judge", self.judge] if self.judge != "verifier" else []
        more = {"length_ratio": self.length_ratio, "least_score": self.least_score, "limit": self.limit}
        for option, value in {**asdict(self.sampling), **more, "out": self.out}.items():
            words += [f"--{option.replace('_', '-')}", str(value)] if value is not None else []
        words += ["--chat-template-kwargs", json.dumps(dict(self.variables))] if self.variables else []
        return shlex.join(words)


def write(wanted: Wanted, *, quiet: bool = False) -> None:
    """Sample, judge, pair and write; the card beside the file records how it was made.

    Args:
        wanted: The pairs.
        quiet: Show no progress.

    Raises:
        UserError: The file cannot be written, prompts, judge or model cannot be read, or no prompt gave a pair.
    """
    out, sampling = wanted.out, wanted.sampling
    if out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {out}: unknown kind of file {out.suffix!r}; use .jsonl or .parquet")
    check_writable(out.parent, "--out", OUT_CURE)
    console = Console(soft_wrap=True, emoji=False)
    warning = sampling_warning(sampling.temperature)
    if warning:
        console.print(f"warning: {warning}", markup=False, highlight=False)
    rows = load_prompts(wanted.prompts, Path.cwd(), lambda line: console.print(line, markup=False, highlight=False))
    judge = load_judge(judge_settings(wanted.judge), Path.cwd())
    check_judgeable(judge, rows, "--judge", "--prompts")
    judge.check()
    policy, tokenizer = models.load(wanted.model, Path.cwd(), dtype=torch.bfloat16 if native_bf16() else torch.float32)
    tokenizer = with_variables(tokenizer, wanted.variables, "--chat-template-kwargs")
    check_rendered(rows, tokenizer, wanted.variables, "--prompts")
    if torch.cuda.is_available():
        policy = policy.to("cuda")
    identity = [
        models.fingerprint(policy),
        models.tokenizer_hash(tokenizer),
        asdict(sampling),
        [r.prompt for r in rows],
    ]
    key = key_of(identity)[:8]  # the same sampling goes on; another one starts anew
    partial = out.with_name(f".{out.name}.{key}.partial")
    with stage(
        f"sampling {sampling.n} answers to each of up to {len(rows)} prompts", "pairs", Console(quiet=quiet)
    ) as report:
        pairs, card = make_pairs(
            policy, tokenizer, rows, judge, sampling, wanted.rule(by_checks=judge.needs_checks), limit=wanted.limit,
            partial=Cache(partial), progress=lambda done, total: report(done, total, ""),
        )  # fmt: skip
    without = "; ".join(f"{n} x {why}" for why, n in card["why_without"].items())
    left_out = ", ".join(f"{n} {why}" for why, n in card["answers_left_out"].items())
    summary = f"{card['prompts_without_a_pair']} of {card['prompts_asked']} prompts gave no pair"
    summary += f" ({without})" if without else ""
    summary += f"; left out of {card['answers']} answers: {left_out or 'none'}"
    if not pairs:
        raise UserError(f"{wanted.prompts}: {summary}; raise --n, --temperature or --max-new-tokens")
    write_pairs(out, pairs, {"command": wanted.command(), "model": wanted.model, **card})
    partial.unlink(missing_ok=True)
    for line in (summary, card["verdicts_missing"]):
        if line:
            console.print(line, markup=False, highlight=False)
    console.print(f"{len(pairs)} pairs in {out}; how they were made: {out}.card.json")
