"""A local language model as judge: how likely it is to name either answer, read off its log-probs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from prefzoo.data.examples import Pair
from prefzoo.data.tokens import TokenPair, tokenise
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.logprobs import choose_layout
from prefzoo.errors import UserError
from prefzoo.evals.judges.device import on_accelerator
from prefzoo.evals.judges.position_swap import FIRST, SECOND, Said, both_orders
from prefzoo.evals.judges.protocol import Comparison, Report, Verdict
from prefzoo.evals.judges.verdict_cache import Kept, Part, kept_of, once
from prefzoo.evals.judges.wording import Question

BATCH = 16  # questions that are answered, and kept, together


class Causal:
    """Preference p(B) / (p(A) + p(B)) of the first token in which the two verdicts differ; both seat orders.

    `kept`: where what it said is kept.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, question: Question, kept: Kept | None = None) -> None:
        self.model, self.tokenizer, self.name, self.question, self.kept = model, tokenizer, name, question, kept
        self.prompt_hash = question.hash

    def check(self) -> None:
        """It is loaded, hence ready."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """Local: nothing to pay."""
        return ""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """Two forward passes for each comparison."""
        return both_orders(asked, lambda seated: self._say(seated, report))

    def _say(self, seated: Sequence[Comparison], report: Report | None) -> list[Said]:
        words = [self.question.asked(c) for c in seated]
        return once(self.kept, words, lambda todo: self._ask(words, todo, report))

    def _ask(self, words: Sequence[str], todo: Sequence[int], report: Report | None) -> Iterator[Part]:
        longest = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        before = "" if self.tokenizer.chat_template else " "  # without a template the verdict goes on a line of text
        pairs = [Pair(words[i], f"{before}A", f"{before}B", i) for i in todo]
        verdicts = [_verdicts(p) for p in tokenise(pairs, self.tokenizer, longest, "drop", f"judge {self.name}").pairs]
        lost = set(todo) - {p.row for p in verdicts}
        yield dict.fromkeys(lost, f"the question is longer than the judge's {longest} tokens")
        if not verdicts:
            return
        bf16 = torch.cuda.is_available()
        with on_accelerator(self.model):
            layout = choose_layout(self.model, verdicts)
            for start in range(0, len(verdicts), BATCH):
                part = verdicts[start : start + BATCH]
                found = reference_logprobs.logprobs(self.model, part, layout, bf16=bf16)
                both = zip(part, found.chosen.tolist(), found.rejected.tolist(), strict=True)
                yield {p.row: FIRST + (SECOND - FIRST) / (1 + math.exp(a - b)) for p, a, b in both}
                if report:
                    report(start + len(part), len(verdicts))


def _verdicts(pair: TokenPair) -> TokenPair:
    """The one token of each verdict that tells it from the other."""
    same = next(i for i, (a, b) in enumerate(zip(pair.chosen, pair.rejected, strict=False)) if a != b)
    return TokenPair(pair.prompt + pair.chosen[:same], [pair.chosen[same]], [pair.rejected[same]], pair.row)


def load(spec: str, folder: Path, question: Question) -> Causal:
    """A causal model as a judge; where it lies, as for any model of a recipe.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        model, tokenizer = models.load(spec, folder)
    except UserError as e:
        raise UserError(f"evals.judge: {line}" for line in e.lines) from None
    weights = models.fingerprint(model)
    kept = kept_of("model", weights, models.tokenizer_hash(tokenizer), str(torch.cuda.is_available()))
    return Causal(model, tokenizer, f"model:{spec}@{weights}", question, kept)
