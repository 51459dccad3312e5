"""A local language model as judge: its log-probs show how likely it is to prefer each answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from prefzoo.data.examples import Pair
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.evals.judges.device import on_accelerator
from prefzoo.evals.judges.judge_prompt import JudgePrompt, read_prompt
from prefzoo.evals.judges.position_swap import FIRST, SECOND, PairwiseJudge
from prefzoo.evals.judges.protocol import Comparison, Outcome, Progress
from prefzoo.evals.judges.verdict_cache import Batch, cached_outcomes
from prefzoo.recipe.judge import JudgeSettings, Text
from prefzoo.runtime.cache import Cache, cache_of
from prefzoo.runtime.devices import has_gpu

BATCH = {"cpu": 16}  # comparisons between two writes to the cache, by device
DEFAULT_BATCH = 256  # on other devices; each batch runs in passes that fit the device


class ModelSettings(JudgeSettings):
    """A local language model as judge, by the log-probs of its two verdicts. `prompt` names a template file."""

    kind: Literal["model"]
    model: Text
    prompt: Text | None = None

    def load(self, folder: Path) -> CausalJudge:
        """Load the judging model in the same way as a recipe's `model`.

        Raises:
            UserError: the model cannot be loaded, or the prompt file is not a template.
        """
        from prefzoo.engine import models

        prompt = read_prompt(folder / self.prompt if self.prompt else None, "evals.judge.prompt")
        try:
            model, tokenizer = models.load(self.model, folder)
        except UserError as e:
            raise UserError(f"evals.judge: {line}" for line in e.lines) from None
        weights = models.fingerprint(model)
        identity = ["model", weights, models.tokenizer_hash(tokenizer), str(has_gpu())]
        cache = cache_of("judges", "verdicts", *identity, sync=False)
        return CausalJudge(model, tokenizer, f"model:{self.model}@{weights}", prompt, cache)


class CausalJudge(PairwiseJudge):
    """A judge with the preference 1 + p(B) / (p(A) + p(B)), at the first token in which the two verdicts differ."""

    def __init__(self, model: Any, tokenizer: Any, name: str, prompt: JudgePrompt, cache: Cache | None = None) -> None:
        self.model, self.tokenizer, self.name, self.prompt, self.cache = model, tokenizer, name, prompt, cache
        self.prompt_hash = prompt.hash

    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        """Return the preference of each comparison, or the reason for a missing one."""
        prompts = [self.prompt.filled(c) for c in comparisons]
        return cached_outcomes(self.cache, prompts, lambda numbers: self._ask(prompts, numbers, progress))

    def _ask(self, prompts: Sequence[str], numbers: Sequence[int], progress: Progress | None) -> Iterator[Batch]:
        from prefzoo.engine import reference_logprobs
        from prefzoo.engine.logprobs import choose_layout

        longest = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        space = "" if self.tokenizer.chat_template else " "  # without a template the verdict continues a line of text
        pairs = [Pair(prompts[i], f"{space}A", f"{space}B", i) for i in numbers]
        verdicts = [
            _verdicts(p) for p in tokenise(pairs, self.tokenizer, longest, "drop", f"judge {self.name}").examples
        ]
        dropped = set(numbers) - {p.row for p in verdicts}
        yield dict.fromkeys(dropped, f"the question is longer than the judge's {longest} tokens")
        if not verdicts:
            return
        bf16 = has_gpu()
        with on_accelerator(self.model):
            layout = choose_layout(self.model, verdicts)
            size = BATCH.get(self.model.device.type, DEFAULT_BATCH)
            for start in range(0, len(verdicts), size):
                batch = verdicts[start : start + size]
                logprobs = reference_logprobs.logprobs(self.model, batch, layout, bf16=bf16)
                rows = zip(batch, logprobs.chosen.tolist(), logprobs.rejected.tolist(), strict=True)
                yield {p.row: FIRST + (SECOND - FIRST) / (1 + math.exp(a - b)) for p, a, b in rows}
                if progress:
                    progress(start + len(batch), len(verdicts))


def _verdicts(pair: TokenPair) -> TokenPair:
    """Reduce each verdict to its first token that differs from the other verdict; put shared tokens into the prompt."""
    same = next(i for i, (a, b) in enumerate(zip(pair.chosen, pair.rejected, strict=False)) if a != b)
    return TokenPair(pair.prompt + pair.chosen[:same], [pair.chosen[same]], [pair.rejected[same]], pair.row)
