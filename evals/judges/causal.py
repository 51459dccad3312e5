"""A local language model as judge: how likely it is to name either answer, read off its log-probs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evals.judges.device import on_accelerator
from evals.judges.protocol import Comparison, Report, Verdict
from evals.judges.seats import FIRST, SECOND, Said, both_orders
from evals.judges.wording import Question
from prefzoo import models, reference
from prefzoo.data.schemas import Pair
from prefzoo.data.tokens import TokenPair, tokenise
from prefzoo.errors import UserError
from prefzoo.logprobs import choose_layout


class Causal:
    """Preference p(B) / (p(A) + p(B)) of the first token in which the two verdicts differ; both seat orders."""

    def __init__(self, model: Any, tokenizer: Any, name: str, question: Question) -> None:
        self.model, self.tokenizer, self.name, self.question = model, tokenizer, name, question
        self.prompt_hash = question.hash

    def check(self) -> None:
        """It is loaded, hence ready."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """Local: nothing to pay."""
        return ""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """Two forward passes for each comparison."""
        return both_orders(asked, lambda seated: self._ask(seated, report))

    def _ask(self, seated: Sequence[Comparison], report: Report | None) -> list[Said]:
        if not seated:
            return []
        longest = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        said: list[Said] = [f"the question is longer than the judge's {longest} tokens"] * len(seated)
        before = "" if self.tokenizer.chat_template else " "  # without a template the verdict goes on a line of text
        pairs = [Pair(self.question.asked(c), f"{before}A", f"{before}B", i) for i, c in enumerate(seated)]
        made = tokenise(pairs, self.tokenizer, longest, "drop", f"judge {self.name}").pairs
        progress = (lambda done, total, _: report(done, total)) if report else None
        verdicts = [_verdicts(p) for p in made]
        with on_accelerator(self.model):
            layout = choose_layout(self.model, verdicts)
            found = reference.logprobs(self.model, verdicts, layout, bf16=torch.cuda.is_available(), report=progress)
        for pair, a, b in zip(made, found.chosen.tolist(), found.rejected.tolist(), strict=True):
            said[pair.row] = FIRST + (SECOND - FIRST) / (1 + math.exp(a - b))
        return said


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
    name = f"model:{spec}@{models.fingerprint(model)}"
    return Causal(model, tokenizer, name, question)
