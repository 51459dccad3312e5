"""A local reward model as judge: a sequence-classification checkpoint with one output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evals.judges.device import on_accelerator
from evals.judges.protocol import Answer, Comparison, PromptRow, Report, Verdict
from evals.judges.seats import Said, by_distance, by_scores
from prefzoo import models
from prefzoo.data.tokens import encode_prompt
from prefzoo.errors import UserError

BATCH = 8


class Reward:
    """Preference sigma(difference of the two scores), as reward models are trained (Bradley-Terry)."""

    prompt_hash = ""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name

    def check(self) -> None:
        """It is loaded, hence ready."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """Local: nothing to pay."""
        return ""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """Each answer is scored once."""
        answers = list(dict.fromkeys((c.row.prompt, a.text) for c in asked for a in (c.first, c.second)))
        scores = dict(zip(answers, self._scores(answers, report), strict=True))
        pairs = [(scores[c.row.prompt, c.first.text], scores[c.row.prompt, c.second.text]) for c in asked]
        return by_scores(asked, pairs, by_distance)

    def score(self, row: PromptRow, answer: Answer) -> float:
        """The model's own scale; higher is better.

        Raises:
            UserError: the answer cannot be scored.
        """
        (found,) = self._scores([(row.prompt, answer.text)])
        if isinstance(found, str):
            raise UserError(f"judge {self.name}: prompt {row.id}: {found}; shorten it or take another judge")
        return found

    @torch.no_grad()
    def _scores(self, answers: Sequence[tuple[str, str]], report: Report | None = None) -> list[Said]:
        ids = [_encoded(self.tokenizer, prompt, text) for prompt, text in answers]
        longest = getattr(self.model.config, "max_position_embeddings", None) or max(map(len, ids), default=0)
        said: list[Said] = [f"{len(row)} tokens, and the judge reads at most {longest}" for row in ids]
        fits = sorted((i for i, row in enumerate(ids) if len(row) <= longest), key=lambda i: len(ids[i]))
        with on_accelerator(self.model):
            for start in range(0, len(fits), BATCH):
                part = fits[start : start + BATCH]
                for i, score in zip(part, self._batch([ids[i] for i in part]), strict=True):
                    said[i] = score
                if report:
                    report(min(start + BATCH, len(fits)), len(fits))
        return said

    def _batch(self, ids: list[list[int]]) -> list[float]:
        width, pad = max(map(len, ids)), self.model.config.pad_token_id
        tokens = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=self.model.device)
        found: list[float] = self.model(input_ids=tokens, attention_mask=mask).logits[:, 0].float().tolist()
        return found


def _encoded(tokenizer: Any, prompt: str, answer: str) -> list[int]:
    """Both turns through the chat template; without one, the answer behind an empty line."""
    if not tokenizer.chat_template:
        return encode_prompt(tokenizer, f"{prompt}\n\n{answer}")
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template writes its own BOS
    return ids


def load(spec: str, folder: Path) -> Reward:
    """The reward model in a folder or on the hub.

    Raises:
        UserError: it cannot be read, or is no reward model.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    place = models.locate(spec, folder)
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        kinds = config.architectures or []
        if config.num_labels != 1 or not any("SequenceClassification" in kind for kind in kinds):
            raise UserError(
                f"evals.judge: {spec} is {', '.join(kinds) or 'of no stated kind'} with {config.num_labels} outputs, "
                "no reward model; name a sequence-classification checkpoint with one output"
            )
        model = AutoModelForSequenceClassification.from_pretrained(
            place, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as e:
        reason = str(e).splitlines()[0]
        raise UserError(f"evals.judge: {spec} cannot be loaded ({reason}); name a folder or check the id") from e
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return Reward(model.eval(), tokenizer, f"reward:{spec}@{models.fingerprint(model)}")
