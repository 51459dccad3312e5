"""Frozen dataclasses of tensors that the data, the engine and the losses exchange, without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1
PINNED = ("cuda",)  # devices that fetch from pinned memory


@dataclass(frozen=True)
class PairBatch:
    """B pairs, or B single answers, laid out for one forward pass of R rows of T positions.

    A packed batch has one row (R = 1) of blocks without padding between them, each a prompt with its one or two
    answers. Any other has a row for each answer, its prompt first, padded to the longest. A single answer is laid out
    as a chosen one.

    The log-prob of a token is read at the position that predicts it, so the engine projects only those positions
    (`source`) onto the vocabulary.

    Attributes:
        tokens: (R, T) token ids.
        positions: (R, T) position ids; both answers of a shared prompt continue from its end.
        segments: (R, T) PROMPT, CHOSEN, REJECTED or PADDING.
        source: (N,) flat index into R*T of the hidden state that predicts each scored token.
        targets: (N,) ids of the scored tokens: all that the assistant says in the answers, the end of each of its turns
            included; none of the prompts, nor of what others say between its turns.
        owner: (N,) the answer, of 2B, that each scored token belongs to: i is the chosen answer of pair i, B + i its
            rejected one.
        pair_ids: (B,) row of each example in its data set.
        lengths: (2B,) number of scored tokens of each answer.
        longest: the largest of them, known without a look at the device.
        blocks: of a packed batch, the tokens of each block's prompt, first and second answer (0 without a second).
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    source: Tensor
    targets: Tensor
    owner: Tensor
    pair_ids: Tensor
    lengths: Tensor
    longest: int
    blocks: tuple[tuple[int, int, int], ...] = ()

    def __len__(self) -> int:
        return int(self.pair_ids.shape[0])

    def to(self, device: torch.device | str) -> PairBatch:
        """Return the same batch on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("longest", "blocks")}
        moved: dict[str, Any] = dict(zip(tensors, to_device(list(tensors.values()), device), strict=True))
        return replace(self, **moved)


def to_device(values: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Return tensors on a device, without waiting for what the device is doing.

    A GPU fetches those of a dtype in one transfer from pinned memory, when it comes to that; from other memory it would
    first finish its current work, while this process waits.
    """
    import torch

    if torch.device(device).type not in PINNED:
        return [value.to(device) for value in values]
    moved: dict[int, Tensor] = {}
    for dtype in {value.dtype for value in values}:
        own = [i for i, value in enumerate(values) if value.dtype == dtype]
        whole = torch.cat([values[i].flatten() for i in own]).pin_memory().to(device, non_blocking=True)
        parts = torch.split(whole, [values[i].numel() for i in own])
        moved |= {i: part.view(values[i].shape) for i, part in zip(own, parts, strict=True)}
    return [moved[i] for i in range(len(values))]


class _Tensors:
    """Methods of every frozen dataclass of tensors."""

    def detach(self) -> Self:
        """Return the same values, detached from the autograd graph."""
        return type(self)(**{f.name: getattr(self, f.name).detach() for f in fields(cast(Any, self))})


def _present(value: Tensor | None, name: str) -> Tensor:
    """Return a field that a method reads; raise ValueError if it is None."""
    if value is None:
        raise ValueError(f"{name} is None; means over tokens need the number of tokens of every answer")
    return value


@dataclass(frozen=True)
class LogProbs(_Tensors):
    r"""Log-probs of B pairs under one model, in fp32 (fp64 in tests). Most losses take these.

    Attributes:
        chosen, rejected: (B,) sums of $\log\pi(y_t|x,y_{<t})$ in nats over the answer's scored tokens, EOS included.
        chosen_len, rejected_len: (B,) number of tokens in those sums.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_len: Tensor
    rejected_len: Tensor

    def __len__(self) -> int:
        return int(self.chosen.shape[0])

    @property
    def margin(self) -> Tensor:
        """(B,) chosen minus rejected, sums in nats."""
        return self.chosen - self.rejected

    def per_token(self) -> LogProbs:
        """Return the same answers with means over their tokens in place of sums; lengths stay."""
        return LogProbs(
            self.chosen / _present(self.chosen_len, "chosen_len").clamp(min=1),
            self.rejected / _present(self.rejected_len, "rejected_len").clamp(min=1),
            self.chosen_len,
            self.rejected_len,
        )


@dataclass(frozen=True)
class TokenLogProbs(LogProbs):
    """Log-probs with those of each token. A loss that annotates `policy: TokenLogProbs` gets these.

    Attributes:
        chosen_tokens, rejected_tokens: (B, T) log-prob of each token in order, zero past the answer's end.
    """

    chosen_tokens: Tensor
    rejected_tokens: Tensor

    def map_tokens(self, change: Callable[[Tensor, Tensor], Tensor], other: TokenLogProbs) -> Self:
        """Return the same answers with other token log-probs, and with sums over these.

        Args:
            change: Takes (B, T) token log-probs of these answers and the other's of the same tokens, and returns those
                that replace them. It must return zeros where both are zero, past an answer's end.
            other: Token log-probs of the same answers, such as the reference's.
        """
        chosen = change(self.chosen_tokens, other.chosen_tokens)
        rejected = change(self.rejected_tokens, other.rejected_tokens)
        tokens = {"chosen_tokens": chosen, "rejected_tokens": rejected}
        return replace(self, chosen=chosen.sum(1), rejected=rejected.sum(1), **tokens)


@dataclass(frozen=True)
class VocabLogProbs(TokenLogProbs):
    r"""Token log-probs with two statistics of the whole vocabulary at each scored position, zero past the end.

    Attributes:
        chosen_entropy, rejected_entropy: (B, T) entropy in nats.
        chosen_log_sum_sq, rejected_log_sum_sq: (B, T) $\log\sum_v p(v)^2$.
    """

    chosen_entropy: Tensor
    rejected_entropy: Tensor
    chosen_log_sum_sq: Tensor
    rejected_log_sum_sq: Tensor


@dataclass(frozen=True)
class Answers(_Tensors):
    """Log-probs of N single answers under one model. A loss that annotates `policy: Answers` is unpaired.

    Attributes:
        logps: (N,) sums in nats over the answer's scored tokens, EOS included.
        lengths: (N,) number of tokens in those sums.
        desirable: (N,) bool: whether the answer is a good one.
    """

    logps: Tensor
    lengths: Tensor
    desirable: Tensor

    def __len__(self) -> int:
        return int(self.logps.shape[0])

    def per_token(self) -> Answers:
        """Return the same answers with means over their tokens in place of sums; lengths stay."""
        return Answers(self.logps / _present(self.lengths, "lengths").clamp(min=1), self.lengths, self.desirable)

    @classmethod
    def from_pairs(cls, pairs: LogProbs) -> Answers:
        """Return the 2B answers of B pairs: the chosen ones, which are desirable, then the rejected ones."""
        import torch

        sides = (torch.ones_like(pairs.chosen, dtype=torch.bool), torch.zeros_like(pairs.rejected, dtype=torch.bool))
        return cls(
            torch.cat((pairs.chosen, pairs.rejected)),
            torch.cat((pairs.chosen_len, pairs.rejected_len)),
            torch.cat(sides),
        )


@dataclass(frozen=True)
class TokenAnswers(Answers):
    """Log-probs of single answers with those of each token.

    Attributes:
        tokens: (N, T) log-prob of each token in order, zero past the answer's end.
    """

    tokens: Tensor

    @classmethod
    def from_pairs(cls, pairs: LogProbs) -> TokenAnswers:
        """Return the 2B answers of B pairs, which must have token log-probs: the chosen ones, then the rejected ones.

        Raises:
            TypeError: The pairs have sums alone.
        """
        if not isinstance(pairs, TokenLogProbs):
            raise TypeError(f"{type(pairs).__name__} has no log-probs of tokens; give TokenLogProbs")
        import torch

        both = Answers.from_pairs(pairs)
        sides = pairs.chosen_tokens, pairs.rejected_tokens
        width = max(side.shape[1] for side in sides)
        tokens = torch.cat([torch.nn.functional.pad(side, (0, width - side.shape[1])) for side in sides])
        return cls(both.logps, both.lengths, both.desirable, tokens)

    def map_tokens(self, change: Callable[[Tensor, Tensor], Tensor], other: TokenAnswers) -> Self:
        """Return the same answers with other token log-probs, and with sums over these.

        Args:
            change, other: As of `TokenLogProbs.map_tokens`.
        """
        tokens = change(self.tokens, other.tokens)
        return replace(self, logps=tokens.sum(1), tokens=tokens)


@dataclass(frozen=True)
class Scores(_Tensors):
    """The data's own scores of the answers of B pairs, in its own unit.

    Attributes:
        chosen, rejected: (B,) scores.
    """

    chosen: Tensor
    rejected: Tensor

    @property
    def gap(self) -> Tensor:
        """(B,) chosen minus rejected."""
        return self.chosen - self.rejected


@dataclass(frozen=True)
class RankedScores(Scores):
    """Scores with their rank among rewards of the reference's own answers to the prompt (column `ref_rewards`).

    Attributes:
        chosen_quantile, rejected_quantile: (B,) share of those rewards that are at most the answer's score, 0 to 1.
    """

    chosen_quantile: Tensor
    rejected_quantile: Tensor


@dataclass(frozen=True)
class TokenKL(_Tensors):
    r"""$\sum_t \mathrm{KL}(\pi_{ref,t} \| \pi_t)$ over the positions of each answer, differentiable in the policy.

    Attributes:
        chosen, rejected: (B,) sums in nats.
    """

    chosen: Tensor
    rejected: Tensor


@dataclass(frozen=True)
class Mismatched(_Tensors):
    """Log-probs of M prompts, each with another row's answer, without gradient. KTO estimates its KL from them.

    Attributes:
        policy, reference: (M,) sums in nats.
    """

    policy: Tensor
    reference: Tensor
