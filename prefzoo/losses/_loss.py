"""What a loss is: a pure function whose signature says what it needs, with what is known about it."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import NoneType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import Tensor

from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenKL, TokenLogProbs, VocabLogProbs

LossFn = Callable[..., Any]

GROUPS = (
    "pairwise", "reference-free", "length-aware", "noise-robust", "f-divergence", "unpaired", "token-level",
    "distributional", "sft-augmented",
)  # fmt: skip
SHAPES: tuple[type, ...] = (LogProbs, TokenLogProbs, VocabLogProbs, Answers)
INPUTS: dict[str, tuple[type, ...]] = {
    "policy": SHAPES, "reference": SHAPES, "scores": (Scores,), "kl": (TokenKL,), "mismatched": (Mismatched,),
}  # fmt: skip
STATE = "state"
MISSING_INPUT = {
    "reference": ("compares with a reference", "score one, or take a loss without (simpo, orpo, cpo, ...)"),
    "scores": ("reads the data's scores", "fill score_chosen and score_rejected, or take a loss without"),
    "kl": ("reads the KL of every token", "have the engine compute it, or take dpo"),
    "mismatched": ("estimates a KL from mismatched pairs", "score prompts with other rows' answers, or take bco"),
}


class Params(BaseModel):
    """The knobs of one loss: strict types, no unknown keys. Each loss gets its own subclass from its signature."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class AnyLoss:
    """What a loss and a sum of losses both offer. Their attributes are explained at `Loss`."""

    name: str
    paper: str
    equation: str
    at_reference: Callable[[Any], float] | None
    couples: str
    provisional: str

    @property
    @abstractmethod
    def doc(self) -> str:
        """The docstring: a line, the formula, what its symbols are."""

    @cached_property
    @abstractmethod
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The pydantic model of the knobs."""

    @cached_property
    @abstractmethod
    def needs(self) -> Mapping[str, type]:
        """Input -> its type: `policy` always; `reference`, `scores`, `kl`, `mismatched` where the loss takes them."""

    @property
    @abstractmethod
    def state_type(self) -> type | None:
        """The class of the state that goes from one step to the next (a tuple for a sum), or None."""

    @abstractmethod
    def start(self) -> Any:
        """The state before the first step; None where there is none."""

    @abstractmethod
    def each_with_state(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """The value of every row and the state for the next step (None for a loss that keeps none).

        `state=None` means the start. Whatever the loss does not take is ignored.

        Raises:
            ValueError: something it needs is missing or of another type, or it returned something other than one
                value per row.
        """

    def each(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> Tensor:  # fmt: skip
        """(B,) the loss of every pair, (N,) of every answer for an unpaired loss: `each_with_state` less the state."""
        return self.each_with_state(
            policy, reference, params, scores=scores, kl=kl, mismatched=mismatched, state=state
        )[0]

    @property
    def needs_reference(self) -> bool:
        return "reference" in self.needs

    @property
    def needs_scores(self) -> bool:
        return "scores" in self.needs

    @property
    def needs_kl(self) -> bool:
        return "kl" in self.needs

    @property
    def needs_mismatched(self) -> bool:
        return "mismatched" in self.needs

    @property
    def unpaired(self) -> bool:
        """Whether its rows are single answers, not pairs."""
        return self.needs["policy"] is Answers

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of what is given, what the loss takes; a ValueError that names what it lacks."""
        for what, kind in self.needs.items():
            value = given[what]
            if value is None:
                raise ValueError(
                    f"loss {self.name} {MISSING_INPUT[what][0]}, and none was given; {MISSING_INPUT[what][1]}"
                )
            if not isinstance(value, kind):
                raise ValueError(f"loss {self.name} takes {what}: {kind.__name__}, not {type(value).__name__}")
        return {what: given[what] for what in self.needs}


@dataclass(frozen=True)
class Loss(AnyLoss):
    """A named preference loss.

    Attributes:
        fn: `fn(policy[, reference, scores, kl, mismatched, state], *, knobs)`: one value per row, in nats unless said
            otherwise; with `state`, the values and the next state.
        paper: author, year and where to read it.
        equation: where in it: an equation's number, a section, or whose code it was read in. Empty: nothing of the
            kind was read, and none is made up.
        at_reference: the value at policy = reference with default lengths, when it does not depend on the data:
            a function of the knobs (ln 2 for DPO). The loop checks the first step against it.
        group: where a list shows it, one of GROUPS.
        grid: knob -> the values that its paper, its authors' scripts, or the comparison that its docstring names,
            tried or settled on. A knob that is not there has no published values that were read.
        traps: short sentences: what goes wrong with it, where peers disagree.
        couples: how rows see each other through the batch; empty for independent rows.
        provisional: why its formula is not yet sure; empty when it was read in the paper or the authors' code.
        learning_rate: what its paper, or a published comparison, used.
    """

    fn: LossFn
    paper: str
    equation: str = ""
    at_reference: Callable[[Any], float] | None = None
    group: str = "pairwise"
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    traps: tuple[str, ...] = ()
    couples: str = ""
    provisional: str = ""
    learning_rate: tuple[float, ...] = ()

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
        return {p: self._hints.get(p, LogProbs) for p in INPUTS if p in signature}

    @property
    def state_type(self) -> type | None:
        return self._hints.get(STATE)

    def start(self) -> Any:
        kind: Any = self.state_type
        return None if kind is None else kind.start()

    @cached_property
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The pydantic model of this loss's knobs."""
        parameters = inspect.signature(self.fn).parameters.values()
        knobs: Any = {p.name: (self._hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
        return create_model(f"{self.name}_params", __base__=Params, **knobs)

    def each_with_state(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        inputs = self._checked(
            {"policy": policy, "reference": reference, "scores": scores, "kl": kl, "mismatched": mismatched}
        )
        if self.state_type is not None:
            inputs[STATE] = self.start() if state is None else state
        out = self.fn(**inputs, **params.model_dump())
        values, after = out if self.state_type is not None else (out, None)
        if values.shape != (len(policy),):
            what = "answer" if self.unpaired else "pair"
            raise ValueError(
                f"loss {self.name} returned shape {tuple(values.shape)} for {len(policy)} {what}s; "
                f"it must return one value per {what}, without taking the mean"
            )
        return values, after


def check_signature(fn: LossFn) -> None:
    """Raise the TypeError that says what is wrong with a signature, if anything is."""
    parameters = inspect.signature(fn).parameters.values()
    before = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    knobs = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    shown = f"loss {fn.__name__}({', '.join(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)})"
    if before[:1] != ["policy"] or len(before) + len(knobs) != len(parameters) or {*before} - {*INPUTS, STATE}:
        raise TypeError(
            f"{shown}: a loss takes policy, then any of reference, scores, kl, mismatched and state, "
            "then keyword-only knobs behind a *"
        )
    for p in knobs:
        if p.annotation is p.empty or p.default is p.empty:
            raise TypeError(
                f"loss {fn.__name__}: knob {p.name!r} needs a type and a default, like `beta: Positive = 0.1`"
            )
    hints = inspect.get_annotations(fn, eval_str=True)
    for name in before:
        _check_annotation(fn, name, hints)
    if "reference" in before and (hints.get("reference") is Answers) != (hints.get("policy") is Answers):
        raise TypeError(f"{shown}: policy and reference are both pairs, or both Answers")


def _check_annotation(fn: LossFn, name: str, hints: Mapping[str, Any]) -> None:
    kind = hints.get(name, LogProbs if INPUTS.get(name) is SHAPES else NoneType)
    if name == STATE:
        if not (isinstance(kind, type) and callable(getattr(kind, "start", None))):
            raise TypeError(
                f"loss {fn.__name__}: state needs a class with a classmethod start(), like `state: MyState`"
            )
    elif kind not in INPUTS[name]:
        allowed = " or ".join(k.__name__ for k in INPUTS[name])
        raise TypeError(
            f"loss {fn.__name__}: {name} must be annotated {allowed}, not {getattr(kind, '__name__', kind)}"
        )


def check_metadata(made: Loss) -> None:
    """Raise the ValueError that says which of a loss's notes does not fit it, if any."""
    if made.group not in GROUPS:
        raise ValueError(f"loss {made.name}: no such group: {made.group!r}; there are {', '.join(GROUPS)}")
    for knob, values in made.grid.items():
        if knob not in made.Params.model_fields:
            raise ValueError(f"loss {made.name}: grid names {knob!r}, which is no knob of it")
        for value in values:
            try:
                made.Params(**{knob: value})
            except ValidationError as e:
                raise ValueError(f"loss {made.name}: grid of {knob} has {value}: {e.errors()[0]['msg']}") from e
