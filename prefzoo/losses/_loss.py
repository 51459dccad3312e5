"""Define a loss: a pure function whose signature declares inputs and knobs, with notes on its origin."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, create_model

from prefzoo.losses._inputs import check_inputs
from prefzoo.losses._modifier import Modifier
from prefzoo.losses._params import Params, check_grid
from prefzoo.losses._signature import INPUTS, STATE, LossFn, knobs_of
from prefzoo.losses._torch import Tensor, torch
from prefzoo.runtime.plugins import WrongReturn
from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenKL

Rows = TypeVar("Rows", bound=LogProbs | Answers)
GROUPS = (
    "pairwise", "reference-free", "length-aware", "noise-robust", "f-divergence", "unpaired", "token-level",
    "distributional", "sft-augmented",
)  # fmt: skip


class AnyLoss:
    """The interface of a loss, of a sum of losses and of a modified loss; see `Loss` for the attributes."""

    name: str
    paper: str
    equation: str
    at_reference: Callable[[Any], float] | None
    couples: str
    mean_only: str
    provisional: str
    terms: tuple[tuple[float, Loss], ...]  # weight and loss of each, in order; a single loss is one of weight 1

    @property
    @abstractmethod
    def doc(self) -> str:
        """The docstring: a summary line, the formula, and notes on it."""

    @cached_property
    @abstractmethod
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The pydantic model of the knobs."""

    @cached_property
    @abstractmethod
    def needs(self) -> Mapping[str, type]:
        """Type of each input: `policy` always; `reference`, `scores`, `kl` and `mismatched` if the loss takes them."""

    @property
    @abstractmethod
    def state_type(self) -> type | None:
        """Class of the state that a step passes to the next one (a tuple for a sum); None without a state."""

    @abstractmethod
    def start(self) -> Any:
        """Return the state before the first step; None without a state."""

    @abstractmethod
    def each_with_state(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """Return the losses of all rows and the state for the next step.

        Inputs that the loss does not take are ignored.

        Args:
            policy: Log-probs of B pairs or N single answers under the policy.
            reference: Log-probs of the same rows under the reference.
            params: The knobs, an instance of `Params`.
            scores: Scores of the answers in the data.
            kl: KL from the reference, summed over each answer's tokens.
            mismatched: Log-probs of prompts with other rows' answers.
            state: The state that the last step returned; None for the first step.

        Returns:
            (B,) or (N,) losses, and the next state, which is None for a loss without one.

        Raises:
            ValueError: An input that the loss needs is missing or of another type, or the function did not return one
                value per row.
        """

    def each(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> Tensor:  # fmt: skip
        """Return the losses of all rows, without the next state.

        Args:
            policy, reference, params, scores, kl, mismatched, state: As for `each_with_state`.

        Returns:
            (B,) losses of pairs, or (N,) losses of single answers for an unpaired loss.
        """
        return self.each_with_state(
            policy, reference, params, scores=scores, kl=kl, mismatched=mismatched, state=state
        )[0]

    @property
    def modifiers(self) -> tuple[Modifier, ...]:
        """The modifiers of its log-probs or values, in order; empty for a plain loss."""
        return ()

    def modified_policy(self, policy: Rows, reference: LogProbs | Answers | None, params: BaseModel) -> Rows:
        """Return the policy's log-probs as the modifiers change them, before the loss is called with them.

        Args:
            policy, reference: Log-probs of the same rows.
            params: The knobs, an instance of `Params`.

        Returns:
            Log-probs of the same kind and rows.
        """
        return policy

    @property
    def needs_reference(self) -> bool:
        """Whether it compares the policy with a reference."""
        return "reference" in self.needs

    @property
    def needs_scores(self) -> bool:
        """Whether it reads the scores in the data."""
        return "scores" in self.needs

    @property
    def needs_kl(self) -> bool:
        """Whether it reads the KL of every token."""
        return "kl" in self.needs

    @property
    def needs_mismatched(self) -> bool:
        """Whether it reads log-probs of mismatched prompts and answers."""
        return "mismatched" in self.needs

    @property
    def unpaired(self) -> bool:
        """Whether its rows are single answers instead of pairs."""
        return issubclass(self.needs["policy"], Answers)


@dataclass(frozen=True)
class Loss(AnyLoss):
    """A named preference loss.

    Attributes:
        fn: `fn(policy[, reference, scores, kl, mismatched, state], *, knobs)`, which returns one value per row, in nats
            unless the docstring names another unit; with `state`, also the next state.
        paper: Author, year and where to read it; empty for a user's own loss.
        equation: Where in the paper: number of an equation, a section, or whose code was read. Empty if none of these
            was read.
        at_reference: The loss at policy = reference as a function of the knobs (ln 2 for DPO), if it does not depend on
            the data. The training loop checks its first step against it.
        group: Group in the catalogue, one of GROUPS.
        grid: Values of knobs that the paper, the authors' scripts, or the comparison that the docstring names tried or
            chose. A knob without an entry has no published values that were read.
        traps: Short sentences on what goes wrong with the loss and where implementations differ.
        couples: How the rows of a batch depend on each other; empty for independent rows.
        mean_only: Why value i does not belong to row i, so that only the mean is meaningful; empty if it does.
        provisional: Why the formula is uncertain; empty if it was read in the paper or the authors' code.
        learning_rate: Learning rates that the paper, or a published comparison, used.
        score_range: The lowest and the highest score that it expects; None if any will do.
    """

    fn: LossFn
    paper: str = ""
    equation: str = ""
    at_reference: Callable[[Any], float] | None = None
    group: str = "pairwise"
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    traps: tuple[str, ...] = ()
    couples: str = ""
    mean_only: str = ""
    provisional: str = ""
    learning_rate: tuple[float, ...] = ()
    score_range: tuple[float, float] | None = None

    @property
    def terms(self) -> tuple[tuple[float, Loss], ...]:  # type: ignore[override]
        return ((1.0, self),)

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(getattr(self.fn, "__name__", repr(self.fn)))

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.fn) or ""

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return inspect.get_annotations(self.fn, eval_str=True)

    @cached_property
    def needs(self) -> Mapping[str, type]:
        signature = inspect.signature(self.fn).parameters
        return {p: self._hints.get(p, INPUTS[p][0]) for p in INPUTS if p in signature}

    @property
    def state_type(self) -> type | None:
        return self._hints.get(STATE)

    def start(self) -> Any:
        kind: Any = self.state_type
        return None if kind is None else kind.start()

    @cached_property
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The pydantic model of this loss's knobs."""
        knobs: Any = knobs_of(self.fn)
        return create_model(f"{self.name}_params", __base__=Params, **knobs)

    def each_with_state(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        given = {"policy": policy, "reference": reference, "scores": scores, "kl": kl, "mismatched": mismatched}
        inputs = check_inputs(self.name, self.needs, given)
        if self.state_type is not None:
            inputs[STATE] = self.start() if state is None else state
        out = self.fn(**inputs, **params.model_dump())
        if self.state_type is not None and not (isinstance(out, tuple) and len(out) == 2):  # noqa: PLR2004 - a pair
            raise WrongReturn(
                self.fn, f"loss {self.name} returned {type(out).__name__}; with a state, return values, next state"
            )
        values, after = out if self.state_type is not None else (out, None)
        if not isinstance(values, torch.Tensor):
            raise WrongReturn(self.fn, f"loss {self.name} returned {type(values).__name__}; it must return a tensor")
        if values.shape != (len(policy),):
            row = "answer" if self.unpaired else "pair"
            raise WrongReturn(
                self.fn,
                f"loss {self.name} returned shape {tuple(values.shape)} for {len(policy)} {row}s; "
                f"it must return one value per {row}, without taking the mean",
            )
        return values, after


def check_metadata(loss: Loss) -> None:
    """Check that a loss's group exists and that its grid fits its knobs.

    Raises:
        ValueError: The group does not exist or the grid does not fit; the message says which.
    """
    if loss.group not in GROUPS:
        raise ValueError(f"loss {loss.name}: no such group: {loss.group!r}; there are {', '.join(GROUPS)}")
    check_grid(f"loss {loss.name}", loss.Params, loss.grid)
