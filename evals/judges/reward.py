"""A local reward model as judge: a sequence-classification checkpoint with one output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from prefzoo.data.tokens import encode_prompt
from prefzoo.engine import models
from prefzoo.errors import UserError
from prefzoo.evals.judges.device import on_accelerator
from prefzoo.evals.judges.position_swap import Said, by_distance, by_scores
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow, Report, Verdict
from prefzoo.evals.judges.verdict_cache import Kept, Part, kept_of, once

BATCH = 8


class Reward:
    """Preference sigma(difference of the two scores), as reward models are trained (Bradley-Terry).

    `kept`: where the scores are kept.
    """

    prompt_hash = ""

    def __init__(self, model: Any, tokenizer: Any, name: str, kept: Kept | None = None) -> None:
        self.model, self.tokenizer, self.name, self.kept = model, tokenizer, name, kept

    def check(self) -> None:
        """It is loaded, hence ready."""

    def forecast(self, asked: Sequence[Comparison]) -> str:
        """Local: nothing to pay."""
        return ""

    def compare(self, asked: Sequence[Comparison], report: Report | None = None) -> list[Verdict]:
        """Each answer is scored once."""
        said = self.scores([(c.row, a) for c in asked for a in (c.first, c.second)], report)
        return by_scores(asked, list(zip(said[::2], said[1::2], strict=True)), by_distance)

    def scores(self, asked: Sequence[tuple[PromptRow, Answer]], report: Report | None = None) -> list[Said]:
        """Of each answer, on the model's own scale: higher is better; or why there is none."""
        words = [(row.prompt, answer.text) for row, answer in asked]
        return once(self.kept, words, lambda todo: self._ask(words, todo, report))

    @torch.no_grad()
    def _ask(self, words: Sequence[tuple[str, str]], todo: Sequence[int], report: Report | None) -> Iterator[Part]:
        ids = {i: _encoded(self.tokenizer, *words[i]) for i in todo}
        longest = getattr(self.model.config, "max_position_embeddings", None) or max(map(len, ids.values()))
        yield {
            i: f"{len(row)} tokens, and the judge reads at most {longest}"
            for i, row in ids.items()
            if len(row) > longest
        }
        fits = sorted((i for i in todo if len(ids[i]) <= longest), key=lambda i: len(ids[i]))
        with on_accelerator(self.model):
            for start in range(0, len(fits), BATCH):
                part = fits[start : start + BATCH]
                yield dict(zip(part, self._batch([ids[i] for i in part]), strict=True))
                if report:
                    report(min(start + BATCH, len(fits)), len(fits))

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

    place = models.resolve_model(spec, folder)
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
    weights = models.fingerprint(model)
    kept = kept_of("reward", weights, models.tokenizer_hash(tokenizer))
    return Reward(model.eval(), tokenizer, f"reward:{spec}@{weights}", kept)
