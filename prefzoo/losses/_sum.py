"""Parse and compute weighted sums of losses, like `dpo + 0.2*sft`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from pydantic import BaseModel, Field, create_model

from prefzoo.errors import UserError
from prefzoo.losses._inputs import check_inputs
from prefzoo.losses._loss import AnyLoss, Loss
from prefzoo.losses._params import Params
from prefzoo.losses._signature import INPUTS
from prefzoo.losses._torch import Tensor
from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenKL

PLUS = re.compile(r"(?<!\d[eE])\+")  # 1e+3 is one number
CURE = "a sum is written like dpo + 0.2*sft"


@dataclass(frozen=True)
class Sum(AnyLoss):
    """A weighted sum of losses of the same rows, with the interface of a `Loss`.

    Attributes:
        terms: Weight and loss of each term, in order.
        name: The text of the sum in its canonical spelling.
    """

    terms: tuple[tuple[float, Loss], ...]
    name: str

    @property
    def doc(self) -> str:
        lines = [f"{weight:g} times {term.name}: {''.join(term.doc.splitlines()[:1])}" for weight, term in self.terms]
        return "\n".join(["A sum of losses.", "", *lines])

    @property
    def paper(self) -> str:  # type: ignore[override]
        return "; ".join(f"{term.name}: {term.paper}" for _, term in self.terms if term.paper)

    @property
    def equation(self) -> str:  # type: ignore[override]
        return ""

    @property
    def couples(self) -> str:  # type: ignore[override]
        return "; ".join(f"{term.name}: {term.couples}" for _, term in self.terms if term.couples)

    @property
    def mean_only(self) -> str:  # type: ignore[override]
        return "; ".join(f"{term.name}: {term.mean_only}" for _, term in self.terms if term.mean_only)

    @property
    def provisional(self) -> str:  # type: ignore[override]
        return "; ".join(f"{term.name}: {term.provisional}" for _, term in self.terms if term.provisional)

    @property
    def at_reference(self) -> Callable[[Any], float] | None:  # type: ignore[override]
        """The weighted sum of the terms' values, if all of them declare one."""
        if any(term.at_reference is None for _, term in self.terms):
            return None
        return lambda params: sum(
            weight * term.at_reference(getattr(params, term.name)) for weight, term in self.terms if term.at_reference
        )

    @cached_property
    def needs(self) -> Mapping[str, type]:
        """The union of the terms' inputs, each in the richest type that a term asks for."""
        asked = {name: [term.needs[name] for _, term in self.terms if name in term.needs] for name in INPUTS}
        return {name: max(kinds, key=lambda kind: len(kind.__mro__)) for name, kinds in asked.items() if kinds}

    @property
    def state_type(self) -> type | None:
        return tuple if any(term.state_type for _, term in self.terms) else None

    def start(self) -> tuple[Any, ...] | None:
        return tuple(term.start() for _, term in self.terms) if self.state_type else None

    @cached_property
    def Params(self) -> type[Params]:  # noqa: N802 - it is a class
        """One field per term, named after its loss, with that loss's knobs."""
        return _params(tuple((term.name, term.Params) for _, term in self.terms))

    def each_with_state(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None, params: BaseModel, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        given = {"policy": policy, "reference": reference, "scores": scores, "kl": kl, "mismatched": mismatched}
        check_inputs(self.name, self.needs, given)
        before = state if state is not None else (None,) * len(self.terms)
        parts, after = [], []
        for (weight, term), one in zip(self.terms, before, strict=True):
            values, then = term.each_with_state(
                policy, reference, getattr(params, term.name), scores=scores, kl=kl, mismatched=mismatched, state=one
            )
            parts.append(weight * values)
            after.append(then)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total, tuple(after) if self.state_type else None


@lru_cache  # the same terms give the same class, so that equal knobs compare equal
def _params(terms: tuple[tuple[str, type[Params]], ...]) -> type[Params]:
    fields: Any = {name: (of_term, Field(default_factory=of_term)) for name, of_term in terms}
    return create_model("sum_params", __base__=Params, **fields)


def is_sum(text: str) -> bool:
    """Return whether a text is meant as a sum: it contains `+` or `*`."""
    return "+" in text or "*" in text


def parse(text: str, get: Callable[[str], Loss]) -> Sum:
    """Parse a sum: terms `name` or `weight*name`, joined by `+`; `get` returns the loss of a name.

    Raises:
        UserError: The text cannot be read, a weight is not positive, a loss occurs twice, or the terms mix losses of
            pairs with losses of single answers.
    """
    read = [_term(text, part.strip()) for part in PLUS.split(text)]
    terms = [(weight, get(name)) for weight, name in read]
    seen: set[str] = set()
    for _, term in terms:
        if term.name in seen:
            raise UserError(f"loss {text!r}: {term.name} occurs twice; write it once, with the sum of the weights")
        seen.add(term.name)
    single = [term.name for _, term in terms if term.unpaired]
    pairs = [term.name for _, term in terms if not term.unpaired]
    if single and pairs:
        raise UserError(
            f"loss {text!r}: {', '.join(single)} takes single answers and {', '.join(pairs)} takes pairs; one sum "
            "cannot mix them: use a paired relative (bco_pair for bco, apo_zero for apo_zero_unpaired) or two variants"
        )
    shown = [name if weight == 1 else f"{weight:.12g}*{name}" for weight, name in read]
    return Sum(tuple(terms), " + ".join(shown))


def _term(text: str, part: str) -> tuple[float, str]:
    if not part:
        raise UserError(f"loss {text!r}: a term is missing next to a +; {CURE}")
    weight, star, name = part.rpartition("*")
    name, weight = name.strip(), weight.strip()
    if not name or any(c.isspace() for c in name):
        raise UserError(f"loss {text!r}: cannot read {part!r}; {CURE}")
    try:
        number = float(weight) if star else 1.0
    except ValueError:
        raise UserError(f"loss {text!r}: {weight!r} is not a number to weight {name} with; {CURE}") from None
    if not (number > 0 and math.isfinite(number)):
        raise UserError(f"loss {text!r}: the weight of {name} must be greater than 0 (is {weight}); {CURE}")
    return number, name
