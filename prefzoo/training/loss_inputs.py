"""The inputs of a loss: everything that its signature names, for some examples of the data."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from prefzoo.data.mixtures import Origins
from prefzoo.data.tokens import TokenAnswer, TokenExample, TokenPair
from prefzoo.data.views import View
from prefzoo.errors import UserError
from prefzoo.losses import AnyLoss, Modified
from prefzoo.runtime.lazy_torch import Tensor, torch
from prefzoo.types import (
    Answers,
    LogProbs,
    Mismatched,
    RankedScores,
    Scores,
    TokenAnswers,
    TokenKL,
    TokenLogProbs,
    to_device,
)

Values = LogProbs | Answers  # of pairs, or of single answers
V = TypeVar("V", bound=Values | TokenKL)
SUMS = ("logps", "chosen", "rejected")  # fields that gradients reach the policy through, then those of tokens
TOKENS = ("tokens", "chosen_tokens", "rejected_tokens")


@dataclass(frozen=True)
class Inputs:
    """Everything a loss may take, except its state and its knobs.

    Attributes:
        policy, reference: log-probs of B pairs, or of B single answers.
        scores: the data's scores of the pairs.
        kl: KL of every answer from the reference.
        mismatched: log-probs of prompts with other rows' answers.
        start: log-probs of the model that the policy starts from, which its first step is tested against, where that is
            not the reference; no loss reads them.
        weights: (B,) weights of the rows in the mean of their losses; None where all count alike.
        sources: the name of each source of the training data, with which of the rows are its own, as (B,) flags; empty
            where there is one source.
    """

    policy: Values
    reference: Values | None = None
    scores: Scores | None = None
    kl: TokenKL | None = None
    mismatched: Mismatched | None = None
    start: Values | None = None
    weights: Tensor | None = None
    sources: Mapping[str, Tensor] = field(default_factory=dict)

    def call(self, loss: AnyLoss, params: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Evaluate a loss.

        Args:
            loss: the loss; one of single answers sees each answer of a pair as one.
            params: its knobs.
            state: its state before this step.

        Returns:
            (B,) values, one per row, or (2B,) where a loss of single answers sees pairs; and the next state.
        """
        policy, reference = _for_loss(self.policy, loss, "policy"), _for_loss(self.reference, loss, "reference")
        extra = {"scores": self.scores, "kl": self.kl, "mismatched": self.mismatched}
        return loss.each_with_state(cast(Any, policy), cast(Any, reference), params, **cast(Any, extra), state=state)


def make_inputs(
    examples: Sequence[TokenExample], policy: LogProbs, reference: LogProbs | None, kl: TokenKL | None
) -> Inputs:
    """Gather the inputs of a loss for some examples.

    Args:
        examples: the B pairs or single answers.
        policy: their log-probs as the engine gives them.
        reference: those under the reference; None for a loss without one.
        kl: the KL of each answer from the reference; None for a loss that does not read it.

    Returns:
        The inputs, with the scores and labels of the examples.
    """
    of_reference = None if reference is None else unpack(reference, examples)
    return Inputs(unpack(policy, examples), of_reference, scores_of(examples, policy.chosen.device), kl)


def _for_loss(values: Values | None, loss: AnyLoss, name: str) -> Values | None:
    kind = loss.needs.get(name, LogProbs)
    return kind.from_pairs(values) if issubclass(kind, Answers) and isinstance(values, LogProbs) else values


def kind_of(loss: AnyLoss, name: str) -> type[LogProbs]:
    """Return the kind of log-probs that the engine must give for a loss's `policy` or `reference`."""
    kind = loss.needs.get(name, LogProbs)
    return {Answers: LogProbs, TokenAnswers: TokenLogProbs}.get(kind, kind)


def unpack(values: LogProbs, examples: Sequence[TokenExample]) -> Values:
    """Return the engine's log-probs as those of pairs, or, for single answers, as `Answers` with their labels.

    The engine scores a single answer as a chosen one.
    """
    labels = [e.label for e in examples if isinstance(e, TokenAnswer)]
    if not labels:
        return values
    desirable = to_device([torch.tensor(labels)], values.chosen.device)[0]
    answers = values.chosen, values.chosen_len, desirable
    return TokenAnswers(*answers, values.chosen_tokens) if isinstance(values, TokenLogProbs) else Answers(*answers)


def sums_of(values: Values) -> tuple[Tensor, ...]:
    """Return the summed log-probs, in nats: (B,) of chosen and of rejected, or (B,) of the single answers."""
    return (values.logps,) if isinstance(values, Answers) else (values.chosen, values.rejected)


def gradient_paths(inputs: Inputs) -> list[Tensor]:
    """Return the tensors through which a loss's gradient reaches the policy: sums, log-probs of tokens, and KL."""
    return [getattr(values, name) for values, name in _paths(inputs)]


def with_leaves(inputs: Inputs) -> Inputs:
    """Return the inputs with `gradient_paths` that gradients end at."""
    return replace(inputs, policy=_cut(inputs.policy), kl=None if inputs.kl is None else _cut(inputs.kl))


def _cut(values: V) -> V:
    own = {f: getattr(values, f).detach().requires_grad_() for f in (*SUMS, *TOKENS) if hasattr(values, f)}
    return replace(values, **own)


def _paths(inputs: Inputs) -> list[tuple[Values | TokenKL, str]]:
    parts = [part for part in (inputs.policy, inputs.kl) if part is not None]
    return [(part, name) for part in parts for name in (*SUMS, *TOKENS) if hasattr(part, name)]


def scores_of(examples: Sequence[TokenExample], device: torch.device) -> Scores | None:
    """Return the data's scores, with their quantiles where all examples have them; None where one has no score."""
    scores = [e.scores for e in examples if isinstance(e, TokenPair) and e.scores is not None]
    quantiles = [e.quantiles for e in examples if isinstance(e, TokenPair) and e.quantiles is not None]
    if len(scores) < len(examples):
        return None
    ranked = len(quantiles) == len(examples)
    columns = [torch.tensor(values, dtype=torch.float32) for values in ([scores, quantiles] if ranked else [scores])]
    parts = [column for part in to_device(columns, device) for column in part.unbind(1)]
    return RankedScores(*parts) if ranked else Scores(*parts)


def flags_of(origins: Origins | None, examples: Sequence[TokenExample]) -> dict[str, Tensor]:
    """Tell which source each of B examples comes from.

    Args:
        origins: the sources; None where there is one.
        examples: the B pairs or single answers.

    Returns:
        (B,) flags by the source's name, on the CPU; empty where there is one source.
    """
    if origins is None:
        return {}
    numbers = torch.tensor([origins.number(e.row) for e in examples])
    return {name: numbers == i for i, name in enumerate(origins.names)}


def mismatched_rows(rows: Sequence[int], examples: Sequence[TokenExample]) -> list[TokenExample]:
    """Return each prompt of a step with the answers of the step's next row: what KTO estimates its KL from."""
    return list(MismatchedRows([rows], examples))


class MismatchedRows(View[TokenExample]):
    """The `mismatched_rows` of many steps, one after another, each made when it is read.

    Args:
        steps: the rows of each step.
        examples: the data set.
    """

    def __init__(self, steps: Iterable[Sequence[int]], examples: Sequence[TokenExample]) -> None:
        self._examples, self._prompts, self._answers = examples, array("q"), array("q")
        for rows in steps:
            self._prompts.extend(rows)
            self._answers.extend([*rows[1:], rows[0]])

    def __len__(self) -> int:
        """Return the number of rows of all steps."""
        return len(self._prompts)

    def item(self, index: int) -> TokenExample:
        """Return the row at an index from 0 on."""
        asked = self._examples[self._prompts[index]]
        return replace(self._examples[self._answers[index]], prompt=asked.prompt, row=asked.row)


@dataclass(frozen=True)
class Contents:
    """The inputs that training data has for losses that need more than pairs.

    Attributes:
        single: whether there are single labelled answers.
        scoreless: number, from 1, of the first row without scores; 0 if all have them.
        rankless: that of the first row with scores and without quantiles among the reference's rewards.
    """

    single: bool = False
    scoreless: int = 0
    rankless: int = 0


def contents_of(examples: Iterable[TokenExample]) -> Contents:
    """Go through training data once.

    Args:
        examples: the data.

    Returns:
        The inputs that the data has.
    """
    single, scoreless, rankless = False, 0, 0
    for example in examples:
        single = single or isinstance(example, TokenAnswer)
        if not isinstance(example, TokenPair) or example.scores is None:
            scoreless = scoreless or example.row + 1
        elif example.quantiles is None:
            rankless = rankless or example.row + 1
    return Contents(single, scoreless, rankless)


def check_fit(loss: AnyLoss, data: Contents, batch: int, setting: str) -> None:
    """Check that the data and the batch size give a loss everything it needs.

    Args:
        loss: the loss.
        data: what the training data has.
        batch: rows of a step.
        setting: where the recipe names the loss, for messages.

    Raises:
        UserError: single answers for a loss of pairs, no scores for one that reads them, or a batch of one row for one
            that compares rows; a line each.
    """
    faults = []
    if not loss.unpaired and data.single:
        faults.append(
            f"{setting}: {loss.name} compares two answers to a prompt, but the data has single labelled answers; "
            "use kto, bco or another loss of the group unpaired, or data with chosen and rejected"
        )
    if loss.needs_scores and data.scoreless:
        faults.append(
            f"{setting}: {loss.name} reads the columns score_chosen and score_rejected, and row {data.scoreless} has "
            "none; name them under data.columns, or choose a loss that needs no scores"
        )
    if loss.needs.get("scores") is RankedScores and data.rankless:
        faults.append(
            f"{setting}: {loss.name} ranks scores among rewards of the reference's own answers, and row "
            f"{data.rankless} has no list ref_rewards of them; add the column, or choose a loss that needs none"
        )
    if loss.needs_mismatched and batch < 2:  # noqa: PLR2004 - a prompt and another row's answer
        faults.append(
            f"{setting}: {loss.name} estimates a KL from prompts with another row's answer, which a batch of {batch} "
            "does not have; set train.batch to 2 or more (8 or more is better)"
        )
    if batch < 2:  # noqa: PLR2004 - what compares rows needs two
        faults += [
            f"{setting}: {name} compares the rows of a step with each other, and a batch of {batch} has nothing to "
            "compare; set train.batch to 2 or more (8 or more is better)"
            for name in _comparing(loss)
        ]
    if faults:
        raise UserError(faults)


def _comparing(loss: AnyLoss) -> list[str]:
    """Return what of a loss changes nothing for a row that is alone in its step: no state carries rows over to it."""
    modifiers = loss.modifiers if isinstance(loss, Modified) else ()
    terms = [term for _, term in loss.terms if term.state_type is None and not term.needs_mismatched]
    return [term.name for term in terms if term.couples] + [one.name for one in modifiers if one.couples]
