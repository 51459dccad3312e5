"""On-policy preference data: a model's own answers, paired by a judge, in a file with a card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from prefzoo.data.chat import with_variables
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text
from prefzoo.engine import model_copies, models
from prefzoo.engine.precision import native_bf16
from prefzoo.errors import UserError
from prefzoo.evals.generation.pairs import BY_CHECKS, Rule, Sampler, Sampling, make_pairs, sampler_of, write_pairs
from prefzoo.evals.generation.vllm import Engine, check_vllm, engine_version, longest
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.protocol import Answer, Judge, Progress, PromptRow
from prefzoo.evals.suites.prompts import check_rendered, load_prompts
from prefzoo.experiment.plausible import sampling_warning
from prefzoo.experiment.recipe_judge import check_judgeable
from prefzoo.experiment.stages.judge import judge_settings
from prefzoo.runtime.cache import Cache, key_of
from prefzoo.runtime.paths import OUT_CURE, check_writable
from prefzoo.runtime.progress import stage


@dataclass(frozen=True)
class Wanted:
    """The options of `prefzoo pairs`.

    Attributes:
        length_ratio, least_score: bounds on the answers of a pair; None for the judge's own.
        limit: how many pairs at most; None for all.
        out: the file.
        variables: of the chat template.
        engine: what generates: `hf` or `vllm`.
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
    engine: str = "hf"

    def rule(self, *, by_checks: bool) -> Rule:
        """Return the bounds on answers that may pair: a judge by checks has bounds, other judges have none."""
        own = BY_CHECKS if by_checks else Rule()
        ratio = own.length_ratio if self.length_ratio is None else self.length_ratio
        return Rule(ratio, own.least_chosen if self.least_score is None else self.least_score)

    def command(self) -> str:
        """Return the command that reproduces the data, with every option that is not the default."""
        words = ["prefzoo", "pairs", "--model", self.model, "--prompts", self.prompts]
        words += ["--judge", self.judge] if self.judge != "verifier" else []
        more = {"length_ratio": self.length_ratio, "least_score": self.least_score, "limit": self.limit}
        for option, value in {**asdict(self.sampling), **more, "out": self.out}.items():
            words += [f"--{option.replace('_', '-')}", str(value)] if value is not None else []
        words += ["--engine", self.engine] if self.engine != "hf" else []
        words += ["--chat-template-kwargs", json.dumps(dict(self.variables))] if self.variables else []
        return shlex.join(words)


@dataclass(frozen=True)
class Policy:
    """The model whose answers are sampled.

    Attributes:
        spec: as `models.load` takes it.
        folder: what a path in it is relative to.
        engine: what generates: `hf` or `vllm`.
        variables: of the chat template.
        trust: whether code that comes with the model is run.
        places: the options or fields that name the variables and the prompts, for messages.
    """

    spec: str
    folder: Path
    engine: str = "hf"
    variables: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False
    places: tuple[str, str] = ("--chat-template-kwargs", "--prompts")


@dataclass(frozen=True)
class Asked:
    """The prompts, the judge and the settings of sampling; `limit`: how many pairs at most, None for all."""

    rows: Sequence[PromptRow]
    judge: Judge
    sampling: Sampling
    rule: Rule
    limit: int | None = None


def sample_pairs(
    policy: Policy, asked: Asked, out: Path, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:  # fmt: skip
    """Sample a policy's answers and pair them; after a kill, the same call resumes where it stopped.

    Args:
        policy: whose answers.
        asked: the prompts, the judge and the settings.
        out: the file that the pairs are for; sampled answers are stored beside it.
        progress: called with the number of finished prompts (of pairs, under a limit) and of all.

    Returns:
        The pairs, the facts for their card, and the file of sampled answers, to be removed when the pairs are safe.

    Raises:
        UserError: the model cannot be loaded, its chat template refuses a prompt, or the judge cannot judge.
    """
    dtype = torch.bfloat16 if native_bf16() else torch.float32
    model, tokenizer = models.load(policy.spec, policy.folder, dtype=dtype, trust=policy.trust, rows=True)
    tokenizer = with_variables(tokenizer, policy.variables, policy.places[0])
    check_rendered(asked.rows, tokenizer, policy.variables, policy.places[1])
    prompts = [row.prompt for row in asked.rows]
    weights, vocabulary = models.fingerprint(model), models.tokenizer_hash(tokenizer)
    engine = [] if policy.engine == "hf" else [engine_version()]
    key = key_of([weights, vocabulary, asdict(asked.sampling), prompts, *engine])[
        :8
    ]  # another sampling starts from the beginning
    partial = out.with_name(f".{out.name}.{key}.partial")
    with ExitStack() as stack:
        if policy.engine == "hf":
            sampler = sampler_of(model.to("cuda") if torch.cuda.is_available() else model, tokenizer, asked.sampling)
        else:
            del model
            sampler = _by_vllm(policy, tokenizer, asked, stack)
        pairs, card = make_pairs(
            sampler, asked.rows, asked.judge, asked.sampling, asked.rule, limit=asked.limit, partial=Cache(partial),
            progress=progress,
        )  # fmt: skip
    return pairs, card | ({"engine": engine[0]} if engine else {}), partial


def _by_vllm(policy: Policy, tokenizer: Any, asked: Asked, stack: ExitStack) -> Sampler:
    """Return a sampler by vLLM, whose engine starts with the first prompts that are not cached."""
    source = model_copies.merged(models.resolve_model(policy.spec, policy.folder), trust=policy.trust)
    source = model_copies.with_rows(source, tokenizer, trust=policy.trust)
    length = longest([encode_prompt(tokenizer, row.prompt) for row in asked.rows]) + asked.sampling.max_new_tokens
    engines: list[Engine] = []

    def sample(prompts: Sequence[Text]) -> list[list[Answer]]:
        if not engines:
            engines.append(stack.enter_context(Engine(source, tokenizer, length)))
        ids = [encode_prompt(tokenizer, prompt) for prompt in prompts]
        return engines[0].sample(ids, **asdict(asked.sampling))

    return sample


def summary_of(card: Mapping[str, Any]) -> str:
    """Return in words how many prompts gave no pair, and which answers were left out."""
    without = "; ".join(f"{n} x {why}" for why, n in card["why_without"].items())
    left_out = ", ".join(f"{n} {why}" for why, n in card["answers_left_out"].items())
    summary = f"{card['prompts_without_a_pair']} of {card['prompts_asked']} prompts gave no pair"
    return f"{summary}{f' ({without})' if without else ''}; left out of {card['answers']} answers: {left_out or 'none'}"


def write(wanted: Wanted, *, quiet: bool = False) -> None:
    """Sample answers, judge them, pair them and write the pairs; the card beside the file records how.

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
    if wanted.engine == "vllm":
        check_vllm("--engine")
    console = Console(soft_wrap=True, emoji=False)
    warning = sampling_warning(sampling.temperature)
    if warning:
        console.print(f"warning: {warning}", markup=False, highlight=False)
    rows = load_prompts(wanted.prompts, Path.cwd(), lambda line: console.print(line, markup=False, highlight=False))
    judge = load_judge(judge_settings(wanted.judge), Path.cwd())
    check_judgeable(judge, rows, "--judge", "--prompts")
    judge.check()
    policy = Policy(wanted.model, Path.cwd(), wanted.engine, wanted.variables)
    asked = Asked(rows, judge, sampling, wanted.rule(by_checks=judge.needs_checks), wanted.limit)
    title = f"sampling {sampling.n} answers to each of up to {len(rows)} prompts"
    with stage(title, "pairs", Console(quiet=quiet)) as report:
        pairs, card, partial = sample_pairs(policy, asked, out, lambda done, total: report(done, total, ""))
    summary = summary_of(card)
    if not pairs:
        raise UserError(f"{wanted.prompts}: {summary}; raise --n, --temperature or --max-new-tokens")
    write_pairs(out, pairs, {"command": wanted.command(), "model": wanted.model, **card})
    partial.unlink(missing_ok=True)
    for line in (summary, card["verdicts_missing"]):
        if line:
            console.print(line, markup=False, highlight=False)
    console.print(f"{len(pairs)} pairs in {out}; their origin is in {out}.card.json")
