"""A policy as judge, by its implicit reward: the log-ratio log pi(y|x) - log pi_ref(y|x)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from prefzoo.data.examples import LabelledAnswer, Text
from prefzoo.data.tokenising import ALL_TURNS, encode_row
from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError
from prefzoo.evals.judges.conversations import as_answer
from prefzoo.evals.judges.device import on_accelerator
from prefzoo.evals.judges.protocol import Answer, Outcome, Progress, PromptRow
from prefzoo.evals.judges.scoring import ScoringJudge, bradley_terry
from prefzoo.evals.judges.verdict_cache import Batch, cached_outcomes
from prefzoo.recipe.judge import JudgeSettings
from prefzoo.recipe.judge import Text as NonEmpty
from prefzoo.runtime.cache import Cache, cache_of
from prefzoo.runtime.devices import has_gpu
from prefzoo.runtime.run_folders import RESOLVED

BATCH = 32  # answers between two writes to the cache
FIELD = "evals.judge.reference"


class ImplicitSettings(JudgeSettings):
    """A policy as judge, by its implicit reward: the log-ratio of an answer to the reference model.

    `reference` is the model that the policy was trained from. By default it is read from the run of the checkpoint.
    """

    kind: Literal["implicit"]
    model: NonEmpty
    reference: NonEmpty | None = None

    def load(self, folder: Path) -> ImplicitJudge:
        """Load policy and reference in the same way as a recipe's `model`.

        Raises:
            UserError: a model cannot be loaded, no reference is known, or the two vocabularies differ.
        """
        from prefzoo.engine import models

        spec, place = (self.reference, folder) if self.reference else _reference_of(self.model, folder)
        try:
            policy, tokenizer = models.load(self.model, folder)
            reference, other = models.load(spec, place)
        except UserError as e:
            raise UserError(f"evals.judge: {line}" for line in e.lines) from None
        if tokenizer.get_vocab() != other.get_vocab():
            cure = "name the model it was trained from"
            raise UserError(f"{FIELD}: {spec} has a different vocabulary from {self.model}; {cure}")
        weights = [models.fingerprint(model) for model in (policy, reference)]
        name = f"implicit:{self.model}@{weights[0]}"
        identity = ["implicit", *weights, models.tokenizer_hash(tokenizer), str(has_gpu())]
        return ImplicitJudge(policy, reference, tokenizer, name, cache_of("judges", "scores", *identity, sync=False))


class ImplicitJudge(ScoringJudge):
    """A judge that scores an answer by its log-ratio in nats, EOS included, without the loss's beta."""

    def __init__(self, policy: Any, reference: Any, tokenizer: Any, name: str, cache: Cache | None = None) -> None:
        self.policy, self.reference, self.tokenizer = policy, reference, tokenizer
        self.name, self.cache = name, cache

    def prefer(self, first: float, second: float) -> float:
        """Return 1 + sigma(second - first)."""
        return bradley_terry(first, second)

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return the log-ratio of each answer in nats, or the reason for a missing one."""
        texts: list[tuple[Text, str]] = [(row.prompt, answer.text) for row, answer in answers]
        return cached_outcomes(self.cache, texts, lambda numbers: self._ask(texts, numbers, progress))

    def _ask(
        self, texts: Sequence[tuple[Text, str]], numbers: Sequence[int], progress: Progress | None
    ) -> Iterator[Batch]:
        from prefzoo.engine import reference_logprobs
        from prefzoo.engine.logprobs import choose_layout

        longest = getattr(self.policy.config, "max_position_embeddings", None) or 2**31
        encoded, left_out = self._encoded(texts, numbers, longest)
        yield left_out
        if not encoded:
            return
        with on_accelerator(self.policy), on_accelerator(self.reference):
            layout = choose_layout(self.policy, encoded)
            for start in range(0, len(encoded), BATCH):
                batch = encoded[start : start + BATCH]
                own, other = (
                    reference_logprobs.logprobs(model, batch, layout, bf16=has_gpu()).chosen
                    for model in (self.policy, self.reference)
                )
                yield dict(zip((a.row for a in batch), (own - other).tolist(), strict=True))
                if progress:
                    progress(start + len(batch), len(encoded))

    def _encoded(
        self, texts: Sequence[tuple[Text, str]], numbers: Sequence[int], longest: int
    ) -> tuple[list[TokenExample], dict[int, Outcome]]:
        """Return the answers that can be scored, shortest first, and the reason for each of the others."""
        encoded: list[TokenExample] = []
        left_out: dict[int, Outcome] = {}
        for i in numbers:
            prompt, answer = texts[i]
            try:
                example = LabelledAnswer(prompt, as_answer(prompt, answer), True, i)
                tokens = encode_row(self.tokenizer, example, ALL_TURNS, Counter())
            except UserError as e:
                left_out[i] = e.lines[0]
                continue
            if tokens is None:
                left_out[i] = "the answer has no scored tokens"
            elif len(tokens) > longest:
                left_out[i] = f"{len(tokens)} tokens, but the model reads at most {longest}"
            else:
                encoded.append(tokens)
        return sorted(encoded, key=len), left_out


def _reference_of(model: str, folder: Path) -> tuple[str, Path]:
    """Return the reference model from the recipe of a checkpoint's run, and the folder of relative paths."""
    checkpoint = folder / Path(model).expanduser()
    if not checkpoint.exists():
        cure = "name a checkpoint; for a model on the hub, set reference too"
        raise UserError(f"evals.judge.model: {model}: no such folder: {checkpoint}; {cure}")
    trial, run = checkpoint.resolve().parents[:2]
    if (run / RESOLVED).is_file():
        recipe = yaml.safe_load((run / RESOLVED).read_text(encoding="utf-8"))
        own = (recipe.get("variants", {}).get(trial.name) or {}).get("reference")
        return str(own or recipe.get("reference") or recipe["model"]), run
    raise UserError(f"{FIELD}: {checkpoint} is not a checkpoint in a run's folder; name the model it was trained from")
