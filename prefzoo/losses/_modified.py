"""A loss with modifiers: they change the log-probs that it is given, then the values that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer, create_model
from typing_extensions import TypedDict

from prefzoo.errors import UserError
from prefzoo.losses._inputs import check_inputs
from prefzoo.losses._loss import AnyLoss, Loss, Rows
from prefzoo.losses._modifier import Modifier
from prefzoo.losses._modifier_registry import get_modifier
from prefzoo.losses._params import Params
from prefzoo.losses._signature import INPUTS
from prefzoo.losses._sum import Sum
from prefzoo.losses._torch import Tensor, torch
from prefzoo.runtime.plugins import WrongReturn
from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenKL

FIELD = "modifiers"  # of the knobs: a list of mappings from a modifier's name to its knobs


@dataclass(frozen=True)
class Modified(AnyLoss):
    """A loss, or a sum of losses, with modifiers, and the interface of a `Loss`.

    Attributes:
        loss: What is modified.
        steps: The name that a recipe gives each modifier, and the modifier, in order.
    """

    loss: Loss | Sum
    steps: tuple[tuple[str, Modifier], ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.loss.name} with {' and '.join(one.name for one in self.modifiers)}"

    @property
    def terms(self) -> tuple[tuple[float, Loss], ...]:  # type: ignore[override]
        return self.loss.terms

    @property
    def modifiers(self) -> tuple[Modifier, ...]:
        return tuple(one for _, one in self.steps)

    @property
    def doc(self) -> str:
        lines = [f"{one.name}: {''.join(one.doc.splitlines()[:1])}" for one in self.modifiers]
        return "\n".join([self.loss.doc, "", "Its modifiers, in order:", "", *lines])

    @property
    def paper(self) -> str:  # type: ignore[override]
        own = [self.loss.paper, *(f"{one.name}: {one.paper}" for one in self.modifiers if one.paper)]
        return "; ".join(part for part in own if part)

    @property
    def equation(self) -> str:  # type: ignore[override]
        return ""

    @property
    def couples(self) -> str:  # type: ignore[override]
        own = [self.loss.couples, *(f"{one.name}: {one.couples}" for one in self.modifiers if one.couples)]
        return "; ".join(part for part in own if part)

    @property
    def mean_only(self) -> str:  # type: ignore[override]
        return self.loss.mean_only

    @property
    def provisional(self) -> str:  # type: ignore[override]
        own = [self.loss.provisional, *(f"{one.name}: {one.provisional}" for one in self.modifiers if one.provisional)]
        return "; ".join(part for part in own if part)

    @property
    def at_reference(self) -> Callable[[Any], float] | None:  # type: ignore[override]
        """The value at the reference after all modifiers, if the loss and all of them declare it."""
        start = self.loss.at_reference
        if start is None or any(one.at_reference is None for one in self.modifiers):
            return None

        def value(params: Any) -> float:
            result = start(self._own(params))
            for one, knobs in self._with_knobs(params):
                assert one.at_reference is not None
                result = one.at_reference(result, one.Params(**knobs))
            return result

        return value

    @cached_property
    def needs(self) -> Mapping[str, type]:
        """The union of the inputs of the loss and of the modifiers, each in the richest type that one asks for."""
        unpaired = self.loss.unpaired
        all_needs = [self.loss.needs, *(one.needs_of(unpaired=unpaired) for one in self.modifiers)]
        asked = {name: [needs[name] for needs in all_needs if name in needs] for name in INPUTS}
        return {name: max(kinds, key=lambda kind: len(kind.__mro__)) for name, kinds in asked.items() if kinds}

    @property
    def state_type(self) -> type | None:
        return self.loss.state_type

    def start(self) -> Any:
        return self.loss.start()

    @cached_property
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """The knobs of the loss, and `modifiers`: for each a mapping from its name to its own knobs."""
        return _params(self.loss.Params, tuple((spec, one.Params) for spec, one in self.steps))

    def modified_policy(self, policy: Rows, reference: LogProbs | Answers | None, params: BaseModel) -> Rows:
        given = {"policy": policy, "reference": reference}
        for one, knobs in self._with_knobs(params):
            if not one.of_values:
                inputs = {name: given[name] for name in one.needs if name in given}
                given["policy"] = _like(one, one.fn(**inputs, **knobs), policy)
        return given["policy"]  # type: ignore[return-value]

    def each_with_state(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        given = {"policy": policy, "reference": reference, "scores": scores, "kl": kl, "mismatched": mismatched}
        check_inputs(self.name, self.needs, given)
        seen = self.modified_policy(policy, reference, params)
        values, state = self.loss.each_with_state(
            seen, reference, self._own(params), scores=scores, kl=kl, mismatched=mismatched, state=state
        )
        for one, knobs in self._with_knobs(params):
            if one.of_values:
                inputs = {name: given[name] for name in one.needs}
                values = _like(one, one.fn(values=values, **inputs, **knobs), values)
        return values, state

    def _own(self, params: Any) -> BaseModel:
        """Return the knobs of the loss without those of the modifiers."""
        own = self.loss.Params
        return own.model_construct(**{name: getattr(params, name) for name in own.model_fields})

    def _with_knobs(self, params: Any) -> list[tuple[Modifier, dict[str, Any]]]:
        entries = getattr(params, FIELD)
        return [(one, dict(entry[spec])) for (spec, one), entry in zip(self.steps, entries, strict=True)]


def _like(one: Modifier, result: Any, before: Any) -> Any:
    """Return a modifier's result after checking that its type and shape are those of its input."""
    values = isinstance(before, torch.Tensor)
    if type(result) is not type(before) or (values and result.shape != before.shape):
        kind = f"values of shape {tuple(before.shape)}" if values else type(before).__name__
        shown = f"shape {tuple(result.shape)}" if isinstance(result, torch.Tensor) else type(result).__name__
        raise WrongReturn(one.fn, f"modifier {one.name} returned {shown}; it must return {kind}")
    return result


@lru_cache  # the same loss and modifiers give the same class, so that equal knobs compare equal
def _params(of_loss: type[Params], steps: tuple[tuple[str, type[Params]], ...]) -> type[Params]:
    mapping: Any = TypedDict  # the keys are names, so that no class can be written
    entries: Any = tuple(mapping(f"{FIELD}_{i}", {spec: kind}) for i, (spec, kind) in enumerate(steps))
    kinds: Any = Annotated[tuple[entries], Field(strict=False), PlainSerializer(_plain)]
    fields: Any = {FIELD: (kinds, Field(default_factory=lambda: tuple({spec: kind()} for spec, kind in steps)))}
    return create_model("modified_params", __base__=of_loss, **fields)


def _plain(entries: Sequence[Mapping[str, BaseModel]]) -> list[dict[str, Any]]:
    return [{spec: knobs.model_dump() for spec, knobs in entry.items()} for entry in entries]


def modify(loss: Loss | Sum, specs: Sequence[str], folder: Any = None) -> Modified:
    """Return a loss with modifiers.

    Args:
        loss: The loss, or a sum of losses.
        specs: The names of the modifiers, in the order in which they act: registered ones, or `file.py:function`.
        folder: Where the paths of files start.

    Returns:
        The modified loss, whose knobs have a field `modifiers`.

    Raises:
        UserError: There is no such modifier, one does not fit the loss or another one, or their order is wrong.
    """
    result = Modified(loss, tuple((spec, get_modifier(spec, folder)) for spec in specs))
    for fault in _faults(result):
        raise UserError(fault)
    return result


def as_listed(loss: Loss | Sum, params: BaseModel, folder: Any = None) -> Loss | Sum | Modified:
    """Return a loss with the modifiers that its knobs list, if any.

    Args:
        loss: The loss, or a sum of losses.
        params: Its knobs, or those of a modified loss.
        folder: Where the paths of files start.

    Returns:
        The modified loss, or the loss itself.
    """
    specs = [spec for entry in getattr(params, FIELD, ()) for spec in entry]
    return modify(loss, specs, folder) if specs else loss


def _faults(result: Modified) -> list[str]:
    faults, loss, seen = [], result.loss, list[Modifier]()
    for one in result.modifiers:
        if any(one.name == other.name for other in seen):
            faults.append(f"{one.name} occurs twice; keep one")
        for other in seen:
            if one.name in other.excludes or other.name in one.excludes:
                faults.append(f"{one.name} and {other.name} exclude each other; keep one, or make two variants")
        after = next((other for other in seen if other.of_values), None)
        if after is not None and not one.of_values:
            faults.append(
                f"{one.name} changes the log-probs before the loss, {after.name} the values after it; "
                f"write {one.name} first"
            )
        seen.append(one)
        faults += _misfits(one, loss)
    return faults


def _misfits(one: Modifier, loss: Loss | Sum) -> list[str]:
    if one.pairs_only and loss.unpaired:
        return [f"{one.name} weighs pairs, and {loss.name} has single answers; use a loss of pairs"]
    if one.of_values and loss.mean_only:
        return [f"{one.name} changes the values of single rows, and {loss.name} has none: {loss.mean_only}"]
    if set(one.needs_of(unpaired=loss.unpaired)) < set(one.needs):
        kind, needs = ("single answers", "pairs") if loss.unpaired else ("pairs", "single answers")
        return [f"{one.name} reads the log-probs of {needs}, and {loss.name} has {kind}; use another loss"]
    return []
