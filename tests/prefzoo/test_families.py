"""Every family of models that transformers has trains from its reference, with transformers' own log-probs."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import FAMILIES, STATES, Family, tiny
from one_policy import train_one
from packaging.version import Version

from prefzoo import losses
from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenExample, TokenPair
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base, load_policy
from prefzoo.engine.logprobs import choose_layout, left_out, score
from prefzoo.recipe.sections import Lora, Train
from prefzoo.training.job import Job, with_reference
from prefzoo.training.passes import Passes
from prefzoo.types import LogProbs

TABLE = Path(__file__).parents[2] / "docs" / "families.md"
QUICK = {"gpt2", "gpt_neox", "bloom"}
PAIRS = [TokenPair([5 + i, 6, 7, 9][: 2 + i % 3], [8, 9 + i, 10], [11, 12 + i], i) for i in range(6)]


def listed() -> list[Any]:
    return [pytest.param(f, id=f.kind, marks=[] if f.kind in QUICK else pytest.mark.slow) for f in FAMILIES]


def plain(model: Any, pair: TokenPair) -> list[float]:
    """The log-probs of both answers, from transformers' own logits of one row without padding."""
    sums = []
    for answer in pair.answers:
        ids = torch.tensor([[*pair.prompt, *answer]])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(pair.prompt) - 1 : -1].double().log_softmax(-1)
        sums.append(float(logits.gather(-1, torch.tensor(answer)[:, None]).sum()))
    return sums


@pytest.mark.parametrize("family", listed())
def test_a_family_trains_from_its_reference(family: Family, tmp_path: Path, tiny_tokenizer: Any) -> None:
    own = tiny(family)
    if own is None:
        pytest.skip(f"this transformers has no {family.kind}")
    own.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    loaded = models.load(str(tmp_path / "model"), Path())[0]
    layout = choose_layout(loaded, PAIRS)
    assert layout == (family.layout if Version(transformers.__version__) >= Version(family.packed_since) else "rows")
    with torch.no_grad():
        ours = score(loaded, collate(PAIRS, layout, pad=0))
        expected = torch.tensor([plain(own, pair) for pair in PAIRS])
    torch.testing.assert_close(torch.stack([ours.chosen, ours.rejected], 1), expected.float(), rtol=1e-4, atol=1e-3)
    for lora in (None, Lora(rank=2)):
        first, last = trained(loaded, layout, lora, tmp_path)
        assert max(abs(first["rewards/margins"]), abs(first["rewards/chosen"])) <= family.gap and first["grad_norm"] > 0
        assert last["logps/chosen"] != first["logps/chosen"]


@pytest.mark.parametrize("kind", ["stablelm", "jamba"])
def test_answers_of_a_nearly_uniform_model_that_see_each_other_are_not_packed(
    kind: str, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    """What one answer takes from another is smaller there than the tolerance between two layouts."""
    family = next(f for f in FAMILIES if f.kind == kind)
    own = tiny(replace(family, settings=family.settings | {"initializer_range": 0.01}))
    own.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    assert choose_layout(models.load(str(tmp_path / "model"), Path())[0], PAIRS) == "rows"


@pytest.mark.parametrize("family", FAMILIES, ids=[f.kind for f in FAMILIES])
def test_what_is_left_out_is_reported(family: Family) -> None:
    own = tiny(family)
    if own is None:
        pytest.skip(f"this transformers has no {family.kind}")
    lines = " ".join(left_out(own))
    assert ("no states are cached" in lines) == (STATES in family.note)


def trained(loaded: Any, layout: Any, lora: Lora | None, folder: Path) -> list[dict[str, float]]:
    loss, settings = losses.get("dpo"), Train(batch=6, steps=2, learning_rate=1e-2, precision="fp32", lora=lora)

    def frozen(rows: list[TokenExample], title: str, kind: type[LogProbs], passes: list[Passes]) -> LogProbs:
        return reference_logprobs.logprobs(loaded, rows, layout, kind, bf16=False, passes=passes[0])

    job = with_reference(
        Job(loss, loss.Params(), settings, 0, PAIRS, layout, bf16=False), Base(lambda: copy.deepcopy(loaded)), frozen
    )
    train_one(job, load_policy(lambda _: copy.deepcopy(loaded), settings, bf16=False, seed=0), folder / "log.jsonl")
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def table() -> str:
    """Return docs/families.md; made by: python tests/prefzoo/test_families.py > docs/families.md."""
    layouts = {"shared": "packed", "rows": "padded rows"}
    rows = [f"| {f.title} | `{f.kind}` | {layouts[f.layout]} | {f.note} |" for f in FAMILIES]
    return "\n".join([
        "# Model families", "",
        "A tiny random model of each is trained for two steps in the tests, all weights and LoRA: its log-probs are",
        "those of plain transformers, and at the first step policy and reference are equal to the last bit. Only Jamba",
        "under LoRA is equal up to rounding in fp32: transformers computes its time step differently under an adapter.",
        "",
        "| Family | `model_type` | Layout | Left out |", "|---|---|---|---|", *rows, "",
    ])  # fmt: skip


def test_the_table_in_the_docs_is_current() -> None:
    assert TABLE.read_text() == table(), "run: python tests/prefzoo/test_families.py > docs/families.md"


if __name__ == "__main__":
    print(table(), end="")
