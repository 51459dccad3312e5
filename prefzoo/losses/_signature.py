"""Read from a function's signature what a loss takes: inputs, a state, and knobs with their types and defaults."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import Any

from prefzoo.errors import did_you_mean
from prefzoo.types import (
    Answers,
    LogProbs,
    Mismatched,
    RankedScores,
    Scores,
    TokenAnswers,
    TokenKL,
    TokenLogProbs,
    VocabLogProbs,
)

LossFn = Callable[..., Any]

SHAPES: tuple[type, ...] = (LogProbs, TokenLogProbs, VocabLogProbs, Answers, TokenAnswers)
INPUTS: dict[str, tuple[type, ...]] = {
    "policy": SHAPES, "reference": SHAPES, "scores": (Scores, RankedScores),
    "kl": (TokenKL,), "mismatched": (Mismatched,),
}  # fmt: skip
STATE = "state"
RESERVED = ("loss", "train", "sweep", "modifiers")  # fields of a variant beside the knobs
TEMPLATE = """\
A loss is a function in a file of yours, say my_losses.py, that a recipe names by `loss: my_losses.py:mine`:
  from torch.nn.functional import logsigmoid

  def mine(policy, reference, beta=0.1):  # sums of log-probs; leave reference out if you need none
      h = (policy.chosen - policy.rejected) - (reference.chosen - reference.rejected)
      return -logsigmoid(beta * h)  # one value per pair, without a mean"""
# The four tensors of other tools' loss functions, like TRL's policy_chosen_logps.
SIDE = re.compile(r"(?:(?P<of>policy|pi|model|reference|ref)_)?(?P<side>chosen|rejected)(?:_log_?p(?:robs?|s)?)?")
OTHER_NAMES = {"ref": "reference", "pi": "policy", "model": "policy", "score": "scores", "ref_policy": "reference"}
# The type of a knob without an annotation, by its default; 1 may become 0.5.
KNOB_TYPES: dict[type, Any] = {bool: bool, int: int | float, float: float, str: str}


def knobs_of(fn: LossFn) -> dict[str, tuple[Any, Any]]:
    """Return type and default of every knob: the parameters other than inputs and state."""
    hints = inspect.get_annotations(fn, eval_str=True)
    parameters = inspect.signature(fn).parameters.values()
    return {
        p.name: (hints.get(p.name, KNOB_TYPES.get(type(p.default))), p.default)
        for p in parameters
        if p.name not in (*INPUTS, STATE)
    }


def adapted(fn: LossFn) -> LossFn:
    """Wrap a function that takes tensors by other tools' names as a function of `policy` and `reference`.

    Args:
        fn: A function like `mine(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps,
            reference_rejected_logps, beta=0.1)`, with two or four tensors; any other is returned as it is.
    """
    parameters = inspect.signature(fn).parameters
    tensors = {name: match for name in parameters if (match := SIDE.fullmatch(name))}
    if not tensors or any(name in parameters for name in INPUTS):
        return fn
    of = {name: ("reference" if (match["of"] or "").startswith("ref") else "policy") for name, match in tensors.items()}
    knobs = [p.replace(kind=p.KEYWORD_ONLY) for name, p in parameters.items() if name not in tensors]

    @functools.wraps(fn)
    def call(policy: LogProbs, reference: LogProbs | None = None, **knobs: Any) -> Any:
        given = {"policy": policy, "reference": reference}
        return fn(**{name: getattr(given[of[name]], match["side"]) for name, match in tensors.items()}, **knobs)

    inputs = [name for name in ("policy", "reference") if name in of.values()]
    positional = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in inputs]
    call.__signature__ = inspect.Signature([*positional, *knobs])  # type: ignore[attr-defined]
    hints = inspect.get_annotations(fn, eval_str=True)
    call.__annotations__ = {p.name: hints[p.name] for p in knobs if p.name in hints}
    return call


def check_signature(fn: LossFn) -> None:
    """Check that a function has the signature of a loss.

    Raises:
        TypeError: The signature is wrong; the message names the parameter.
    """
    if not inspect.isfunction(fn):
        raise TypeError(f"loss {getattr(fn, '__name__', fn)!r} is not a function")
    parameters = inspect.signature(fn).parameters
    shown = f"loss {fn.__name__}({', '.join(parameters)})"
    if "policy" not in parameters or any(p.kind in (p.POSITIONAL_ONLY, *_VARIADIC) for p in parameters.values()):
        raise TypeError(
            f"{shown}: a loss takes policy, then any of reference, scores, kl, mismatched and state, then knobs with "
            f"defaults; no *args, **kwargs or /{_other_name(parameters)}"
        )
    for p in parameters.values():
        if p.name in (*INPUTS, STATE):
            continue
        if p.name in RESERVED:
            raise TypeError(f"{shown}: {p.name} is a field of every variant; give the knob another name")
        if p.default is p.empty:
            raise TypeError(
                f"{shown}: {p.name} is not an input of a loss, and a knob needs a default, like `beta=0.1`"
                f"{_other_name([p.name])}"
            )
        if p.annotation is p.empty and type(p.default) not in KNOB_TYPES:
            raise TypeError(f"loss {fn.__name__}: knob {p.name!r} needs a type, like `beta: Positive = 0.1`")
    hints = inspect.get_annotations(fn, eval_str=True)
    for name in (name for name in parameters if name in (*INPUTS, STATE)):
        _check_annotation(fn, name, hints)
    single = {name: issubclass(hints.get(name, LogProbs), Answers) for name in ("policy", "reference")}
    if "reference" in parameters and single["reference"] != single["policy"]:
        raise TypeError(f"{shown}: policy and reference must both be pairs, or both Answers")


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _other_name(names: Any) -> str:
    """Return a hint if a name is a misspelt input, or another tool's name for one."""
    known = [*INPUTS, STATE]

    def hints() -> Iterator[str]:
        for name in names:
            other = OTHER_NAMES.get(name)
            yield f"; did you mean {other!r}?" if other else did_you_mean(name, known) * (name not in known)

    return next((hint for hint in hints() if hint), "")


def _check_annotation(fn: LossFn, name: str, hints: Mapping[str, Any]) -> None:
    kind = hints.get(name, INPUTS[name][0] if name in INPUTS else NoneType)
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
