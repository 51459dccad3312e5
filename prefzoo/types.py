"""What flows between the data, the engine and the losses: frozen dataclasses of tensors. Imports torch alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1


@dataclass(frozen=True)
class PairBatch:
    """Preference pairs laid out for one forward pass. R rows of T positions hold B pairs.

    A row holds one answer behind its prompt, or, where prompts are shared, the prompt once and both answers behind it.
    The log-prob of an answer's token is read at an earlier position (`source`), which `targets` are listed against,
    so the engine projects just those positions onto the vocabulary.

    Attributes:
        tokens: (R, T) token ids.
        positions: (R, T) position ids; both answers of a shared row continue from the end of the prompt.
        segments: (R, T) PROMPT, CHOSEN, REJECTED, or PADDING.
        source: (N,) flat index into R*T of the hidden state that predicts each scored token.
        targets: (N,) the scored token ids (the answers' tokens with their EOS; never the prompt's).
        owner: (N,) the answer (of 2B) a scored token belongs to: pair index for chosen, B + pair index for rejected.
        pair_ids: (B,) row number of each pair in its data set.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    source: Tensor
    targets: Tensor
    owner: Tensor
    pair_ids: Tensor

    def __len__(self) -> int:
        return int(self.pair_ids.shape[0])

    def to(self, device: torch.device | str) -> PairBatch:
        """The same batch on another device."""
        return PairBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def shares_prompts(self) -> bool:
        """Whether one row holds both answers of a pair."""
        return self.tokens.shape[0] == len(self)


@dataclass(frozen=True)
class LogProbs:
    r"""Log-probs of B pairs under one model, in fp32 (or fp64 in tests). The only thing a loss sees.

    Attributes:
        chosen, rejected: (B,) sums of $\log\pi(y_t|x,y_{<t})$ in nats over the answer's tokens, EOS included.
        chosen_len, rejected_len: (B,) number of tokens in those sums.
        chosen_tokens, rejected_tokens: (B, T) log-prob of each token, zero past the answer's end; only where asked for.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_len: Tensor
    rejected_len: Tensor
    chosen_tokens: Tensor | None = None
    rejected_tokens: Tensor | None = None

    def __len__(self) -> int:
        return int(self.chosen.shape[0])

    @property
    def margin(self) -> Tensor:
        """(B,) chosen minus rejected, sums in nats."""
        return self.chosen - self.rejected

    def per_token(self) -> LogProbs:
        """The same answers with sums replaced by means over their tokens (lengths kept)."""
        return LogProbs(
            self.chosen / self.chosen_len.clamp(min=1),
            self.rejected / self.rejected_len.clamp(min=1),
            self.chosen_len,
            self.rejected_len,
            self.chosen_tokens,
            self.rejected_tokens,
        )

    def detach(self) -> LogProbs:
        """The same values, outside the graph."""
        return LogProbs(
            self.chosen.detach(),
            self.rejected.detach(),
            self.chosen_len,
            self.rejected_len,
            None if self.chosen_tokens is None else self.chosen_tokens.detach(),
            None if self.rejected_tokens is None else self.rejected_tokens.detach(),
        )
