"""A local reward model as judge: a sequence-classification checkpoint with one output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from prefzoo.data.chat import Chat
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Text as Prompt
from prefzoo.errors import UserError
from prefzoo.evals.judges.conversations import as_text, with_answer
from prefzoo.evals.judges.device import on_accelerator
from prefzoo.evals.judges.protocol import Answer, Outcome, Progress, PromptRow
from prefzoo.evals.judges.scoring import ScoringJudge, bradley_terry
from prefzoo.evals.judges.verdict_cache import Batch, cached_outcomes
from prefzoo.recipe.judge import JudgeSettings, Text
from prefzoo.runtime.cache import Cache, cache_of
from prefzoo.runtime.lazy_torch import torch

BATCH = 8  # answers in a forward pass, and between two writes to the cache


class RewardSettings(JudgeSettings):
    """A reward model as judge: a sequence-classification checkpoint with one output, which scores single answers."""

    kind: Literal["reward"]
    model: Text

    def load(self, folder: Path) -> RewardJudge:
        """Load the reward model from a folder or from the hub.

        Raises:
            UserError: the model cannot be loaded, or is not a reward model.
        """
        from prefzoo.engine import models

        model, tokenizer = _load(self.model, folder)
        weights = models.fingerprint(model)
        cache = cache_of("judges", "scores", "reward", weights, models.tokenizer_hash(tokenizer), sync=False)
        return RewardJudge(model, tokenizer, f"reward:{self.model}@{weights}", cache)


class RewardJudge(ScoringJudge):
    """A judge with the preference 1 + sigma(second score - first score), the Bradley-Terry model of reward training."""

    def __init__(self, model: Any, tokenizer: Any, name: str, cache: Cache | None = None) -> None:
        self.model, self.tokenizer, self.name, self.cache = model, tokenizer, name, cache

    def prefer(self, first: float, second: float) -> float:
        """Return 1 + sigma(second - first)."""
        return bradley_terry(first, second)

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return the model's score of each answer, or the reason for a missing one."""
        texts = [(row.prompt, answer.text) for row, answer in answers]
        return cached_outcomes(self.cache, texts, lambda numbers: self._ask(texts, numbers, progress))

    def _ask(
        self, texts: Sequence[tuple[Prompt, str]], numbers: Sequence[int], progress: Progress | None
    ) -> Iterator[Batch]:
        ids: dict[int, list[int]] = {}
        for i in numbers:
            try:
                ids[i] = _encoded(self.tokenizer, *texts[i])
            except UserError as e:  # the chat template rejects a role of the conversation
                yield {i: str(e)}
        longest = getattr(self.model.config, "max_position_embeddings", None) or max(map(len, ids.values()), default=0)
        yield {
            i: f"{len(row)} tokens, but the judge reads at most {longest}"
            for i, row in ids.items()
            if len(row) > longest
        }
        fits = sorted((i for i in ids if len(ids[i]) <= longest), key=lambda i: len(ids[i]))
        with on_accelerator(self.model):
            for start in range(0, len(fits), BATCH):
                batch = fits[start : start + BATCH]
                yield dict(zip(batch, self._scored([ids[i] for i in batch]), strict=True))
                if progress:
                    progress(min(start + BATCH, len(fits)), len(fits))

    def _scored(self, ids: list[list[int]]) -> list[float]:
        width, pad = max(map(len, ids)), self.model.config.pad_token_id
        tokens = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=self.model.device)
        with torch.no_grad():
            scores: list[float] = self.model(input_ids=tokens, attention_mask=mask).logits[:, 0].float().tolist()
        return scores


def _encoded(tokenizer: Any, prompt: Prompt, answer: str) -> list[int]:
    """Encode prompt and answer with the chat template; without one, as two paragraphs."""
    if not tokenizer.chat_template:
        return encode_prompt(tokenizer, f"{as_text(prompt)}\n\n{answer}")
    text = Chat(tokenizer).render(with_answer(prompt, answer), generation=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template writes its own BOS
    return ids


def _load(spec: str, folder: Path) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from prefzoo.engine import models

    path = models.resolve_model(spec, folder)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        kinds = config.architectures or []
        if config.num_labels != 1 or not any("SequenceClassification" in kind for kind in kinds):
            raise UserError(
                f"evals.judge: {spec} is {', '.join(kinds) or 'of no stated kind'} with {config.num_labels} outputs, "
                "not a reward model; name a sequence-classification checkpoint with one output"
            )
        model = AutoModelForSequenceClassification.from_pretrained(
            path, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as e:
        reason = str(e).splitlines()[0]
        raise UserError(f"evals.judge: {spec} cannot be loaded ({reason}); name a folder or check the id") from e
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer
