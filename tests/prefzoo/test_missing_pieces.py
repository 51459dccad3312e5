"""From Python, a public function that lacks something names it, in one sentence with the cure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

import prefzoo
from prefzoo import Answers, LogProbs, UserError, losses
from prefzoo.data import normalise, tokenise

C, R, N = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -3.0]), torch.tensor([3, 4])
FULL = LogProbs(C, R, N, N)
WITHOUT_LENGTHS: Any = dataclasses.replace(FULL, chosen_len=None, rejected_len=None)  # type: ignore[arg-type]


def without(kind: type, absent: Callable[[str], bool]) -> Any:
    """An input of a loss for two rows, whose fields of some names are None."""

    def field(name: str) -> Any:
        if absent(name):
            return None
        if name == "desirable":
            return torch.tensor([True, False])
        if name.endswith("len") or name == "lengths":
            return N
        return torch.rand(2, 4) if "_" in name and not name.endswith("quantile") else -torch.rand(2)

    return kind(**{f.name: field(f.name) for f in dataclasses.fields(kind)})


@pytest.mark.parametrize("loss", list(losses.all_losses()), ids=lambda loss: loss.name)
def test_every_loss_names_the_field_that_it_reads_and_that_is_none(loss: losses.Loss) -> None:
    def call(absent: Callable[[str], bool]) -> Any:
        return prefzoo.loss(loss.name)(**{name: without(kind, absent) for name, kind in loss.needs.items()})

    with pytest.raises(ValueError, match=rf"^loss {loss.name} reads \w+\.\w+, which is None; fill it"):
        call(lambda name: True)
    try:
        call(lambda name: "len" in name)  # most losses read no lengths
    except ValueError as e:
        assert "len" in str(e) and "which is None" in str(e)  # noqa: PT017 - not all raise


def test_log_probs_without_lengths_do_for_a_loss_that_reads_none() -> None:
    assert torch.equal(prefzoo.loss("dpo")(WITHOUT_LENGTHS, WITHOUT_LENGTHS), prefzoo.loss("dpo")(FULL, FULL))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prefzoo.loss("ipo_mean")(WITHOUT_LENGTHS, FULL), "ipo_mean reads policy.chosen_len, which is None"),
        (lambda: prefzoo.loss("ipo_mean")(FULL, WITHOUT_LENGTHS), "reads reference.chosen_len, which is None"),
        (lambda: prefzoo.loss("dpo + 0.2*sft")(WITHOUT_LENGTHS, FULL), "loss sft reads policy.chosen_len"),
        (lambda: prefzoo.loss("dpo")(None, FULL), "loss dpo scores a policy, but none was given; pass its log-probs"),
        (lambda: prefzoo.loss("dpo")(FULL), "compares with a reference, but none was given"),
        (lambda: prefzoo.loss("dpo")(C, R), "loss dpo takes policy: LogProbs, not Tensor"),
        (lambda: prefzoo.loss("dpo")(dataclasses.replace(FULL, chosen=[-1.0, -2.0]), FULL),
         "policy.chosen is list, not a tensor"),
        (lambda: prefzoo.loss("dpo")(dataclasses.replace(FULL, rejected=R[:1]), FULL),
         "policy.chosen has 2 rows, policy.rejected 1"),
        (lambda: prefzoo.loss("dpo")(FULL, LogProbs(C[:1], R[:1], N[:1], N[:1])), "has 2 rows, reference 1"),
        (lambda: prefzoo.loss("dpo")(dataclasses.replace(FULL, chosen=C[0]), FULL), "policy.chosen is one number"),
        (WITHOUT_LENGTHS.per_token, "chosen_len is None"),
        (lambda: Answers(C, None, C > R).per_token(), "lengths is None"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_losses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prefzoo.run(None), "prefzoo.run takes a recipe, the path of a file or a mapping"),  # type: ignore[arg-type]
        (lambda: prefzoo.compare(None), "prefzoo.compare takes runs or paths of folders, not NoneType"),  # type: ignore[arg-type]
        (prefzoo.compare, "no run is named"),
        (lambda: normalise([], "d"), "^d: no rows; at least one is needed"),
        (lambda: normalise([{}], "d"), "^d: its rows have no columns, which fits no format"),
        (lambda: normalise(["prompt"], "d"), "^d: row 1 is str, not a mapping of columns"),  # type: ignore[list-item]
        (lambda: normalise({"prompt": ["q"]}, "d"), "^d: rows is one mapping"),  # type: ignore[arg-type]
        (lambda: tokenise(normalise([{"prompt": "q", "chosen": "a", "rejected": "b"}], "d"), None, 9, "drop", "d"),
         "^d: the tokenizer is missing"),
        (lambda: tokenise([], object(), 9, "drop", "d"), "^d: no examples; at least one is needed"),
    ],
)  # fmt: skip
def test_other_functions(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_data_set_of_the_hub_is_rows(tmp_path: Any) -> None:
    import datasets

    rows = [{"question": "is it?", "chosen": "yes", "rejected": "no"}] * 3
    assert normalise(datasets.Dataset.from_list(rows), "d") == normalise(rows, "d")  # type: ignore[arg-type]
