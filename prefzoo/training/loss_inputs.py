"""What a loss is fed: each input that its signature names, for some rows of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.losses import AnyLoss
from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenKL


@dataclass(frozen=True)
class Inputs:
    """All a loss may take but its state. `policy` and `reference` are log-probs of pairs, as the engine gives them."""

    policy: LogProbs
    reference: LogProbs | None = None
    scores: Scores | None = None
    kl: TokenKL | None = None
    mismatched: Mismatched | None = None
    labels: Tensor | None = None

    def call(self, loss: AnyLoss, params: Any, state: Any = None) -> tuple[Tensor, Any]:
        """The loss of every row (pair or answer), and its next state."""
        policy, reference = self._as_asked(self.policy, loss), self._as_asked(self.reference, loss)
        extra = {"scores": self.scores, "kl": self.kl, "mismatched": self.mismatched}
        return loss.each_with_state(cast(Any, policy), reference, params, **cast(Any, extra), state=state)

    def _as_asked(self, values: LogProbs | None, loss: AnyLoss) -> LogProbs | Answers | None:
        if values is None or not loss.unpaired:
            return values
        if self.labels is None:
            return Answers.from_pairs(values)
        return Answers(values.chosen, values.chosen_len, self.labels)


def kind_of(loss: AnyLoss, what: str) -> type[LogProbs]:
    """The log-probs that the engine must give so that the loss gets its `policy` or `reference`."""
    asked = loss.needs.get(what, LogProbs)
    return LogProbs if asked is Answers else asked


def labels_of(pairs: Sequence[TokenPair], device: torch.device) -> Tensor | None:
    """(B,) whether each single answer is a good one; None for pairs."""
    return None if pairs[0].label is None else torch.tensor([bool(p.label) for p in pairs], device=device)


def scores_of(pairs: Sequence[TokenPair], device: torch.device) -> Scores | None:
    """The data's scores; None where some row has none."""
    found = [p.scores for p in pairs if p.scores is not None]
    if len(found) < len(pairs):
        return None
    return Scores(*torch.tensor(found, dtype=torch.float32, device=device).unbind(1))


def mismatched_rows(rows: Sequence[int], pairs: Sequence[TokenPair]) -> list[TokenPair]:
    """Each prompt of a step with the answers of the step's next row: what KTO estimates its KL from."""
    after = [*rows[1:], rows[0]]
    return [
        TokenPair(pairs[i].prompt, pairs[j].chosen, pairs[j].rejected, pairs[i].row, label=pairs[j].label)
        for i, j in zip(rows, after, strict=True)
    ]


def sums(values: LogProbs, pairs: Sequence[TokenPair]) -> Tensor:
    """(M,) log-probs of all answers: of both of every pair, or of every single one."""
    return values.chosen if pairs[0].label is not None else torch.cat((values.chosen, values.rejected))


def check_fit(loss: AnyLoss, pairs: Sequence[TokenPair], batch: int, place: str) -> None:
    """Whether the data and the batch can feed a loss.

    Raises:
        UserError: single answers for a loss of pairs, no scores for one that reads them, or a batch of one row for one
            that compares rows; a line each.
    """
    faults = []
    if not loss.unpaired and any(p.label is not None for p in pairs):
        faults.append(
            f"{place}: {loss.name} compares two answers to a prompt, but the data has single labelled answers; "
            "use kto, bco or another loss of the group unpaired, or data with chosen and rejected"
        )
    if loss.needs_scores and any(p.scores is None for p in pairs):
        bad = next(p.row + 1 for p in pairs if p.scores is None)
        faults.append(
            f"{place}: {loss.name} reads the columns score_chosen and score_rejected, and row {bad} has none; "
            "name them under data.columns, or choose a loss that needs no scores"
        )
    if loss.needs_mismatched and batch < 2:  # noqa: PLR2004 - a prompt and another row's answer
        faults.append(
            f"{place}: {loss.name} estimates a KL from prompts with another row's answer, which a batch of {batch} "
            "does not have; set train.batch to 2 or more (8 or more is better)"
        )
    if loss.couples and (loss.needs_kl or any(kind_of(loss, w) is not LogProbs for w in ("policy", "reference"))):
        faults.append(
            f"{place}: {loss.name} sums a loss that couples rows with one that reads single tokens, which cannot be "
            "gathered together; make two variants of them"
        )
    if faults:
        raise UserError(faults)
