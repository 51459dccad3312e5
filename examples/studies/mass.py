"""Study 2: where probability goes at the one token of an answer, and whether CHES tells beforehand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.data.tokens import TokenPair, only_pairs
from prefzoo.engine import models
from prefzoo.engine.ches import ches_of
from prefzoo.engine.first_tokens import MovedMass, first_token_probs, moved_mass
from prefzoo.engine.logprobs import choose_layout
from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import RunFiles, read_run
from prefzoo.evals.boards.selection import select
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.rank_correlation import rank_correlation
from prefzoo.experiment.checkpoint_reader import CheckpointReader
from prefzoo.experiment.data import read_data
from prefzoo.recipe.load import load

SCORES = ("ches", "ches_normalised", "unembedding", "first_order")
UNCUT = 256  # tokens of a row, so that an answer has the end of its turn, as `prefzoo data` scores it
UNSEEN = "chosen_displacement"  # of the held-out pairs: the same answers to other questions
WAYS = ("lowered", "raised", "undecided")
SHOWN = 3  # tokens that gained most, over all seeds
Numbers = dict[str, Any]


def moved_in(folder: Path, recipe_file: Path, reader: CheckpointReader) -> dict[str, MovedMass]:
    """Return what every training of a run on one pair moved at the answer's first token, by the training's name.

    Args:
        folder: the run's, with its checkpoints.
        recipe_file: the recipe that it ran, for the model; the pair is the one in the run's own recipe.
        reader: of its checkpoints.

    Raises:
        UserError: a checkpoint is not there any more.
    """
    run = read_run(folder)
    model, tokenizer, pair = _loaded(run, recipe_file)
    before = first_token_probs(model, [pair.prompt])[0]
    moved = {}
    for name in run.finals:
        checkpoint = folder / name / "checkpoint"
        if not checkpoint.is_dir():
            raise UserError(f"{checkpoint}: is not there, so nothing can be measured; --fresh trains it again")
        after = first_token_probs(reader.read(checkpoint), [pair.prompt])[0]
        moved[name] = moved_mass(before, after, pair.chosen[0], pair.rejected[0], tokenizer)
    return moved


def displacement(folder: Path, recipe_file: Path) -> Numbers:
    """Return of each variant what its seeds moved on average, and which tokens gained most."""
    run, moved = read_run(folder), moved_in(folder, recipe_file, _reader())
    unseen = {e.files.name: e.value(UNSEEN) for e in select([folder])}
    rows = []
    for variant in run.recipe["variants"]:
        own = [moved[name] for name, arm in run.finals.items() if arm == variant]
        sides = {side: intervals.mean(np.array([change(m, side) for m in own])) for side in ("chosen", "rejected")}
        spread = intervals.mean(np.array([unseen[n] for n, arm in run.finals.items() if arm == variant]))
        gains: Counter[str] = Counter()
        for m in own:
            gains.update({t.text: (t.after - t.before) / len(own) for t in m.gained})
        rows.append({
            "variant": variant, "seeds": len(own), "chosen_change": sides["chosen"].value,
            "chosen_low": sides["chosen"].low, "chosen_high": sides["chosen"].high,
            "rejected_change": sides["rejected"].value,
            "chosen_before": own[0].chosen.before,
            "chosen_after": float(np.mean([m.chosen.after for m in own])),
            "unseen_change": spread.value, "unseen_low": spread.low, "unseen_high": spread.high,
            "fell_in": sum(change(m, "chosen") < 0 for m in own),
            "gained": [{"token": token, "by": by} for token, by in gains.most_common(SHOWN)],
        })  # fmt: skip
    trainings = {name: asdict(one) for name, one in moved.items()}
    groups = {f"chosen_{way}": _ways(rows, "chosen", way) for way in WAYS}
    groups |= {f"unseen_{way}": _ways(rows, "unseen", way) for way in WAYS}
    return {"variants": sorted(rows, key=lambda row: float(row["chosen_change"])), **groups, "trainings": trainings}


def _ways(rows: Sequence[Numbers], of: str, way: str) -> str:
    """Return the names of the variants that changed a log-prob so, by the interval over seeds."""
    signs = {r["variant"]: WAYS[1] if r[f"{of}_low"] > 0 else WAYS[0] if r[f"{of}_high"] < 0 else WAYS[2] for r in rows}
    return ", ".join(name for name, sign in signs.items() if sign == way) or "none"


def change(moved: MovedMass, side: str) -> float:
    """Return the change of an answer's log-prob in nats, at its first token."""
    token = getattr(moved, side)
    return math.log(token.after) - math.log(token.before)


def predicted(folder: Path, recipe_file: Path) -> Numbers:
    """Return how scores of each pair before training correlate with its displacement after, over the pairs.

    Args:
        folder: holds a run for each pair, as `displacement_pairs.yaml` makes them.
        recipe_file: that recipe.
    """
    rows: list[Numbers] = []
    reader = _reader()
    for at in _runs(folder):
        run = read_run(at)
        scores = _scores(run, recipe_file)
        moved = moved_in(at, recipe_file, reader)
        for variant in run.recipe["variants"]:
            own = [change(moved[n], "chosen") for n, arm in run.finals.items() if arm == variant]
            rows.append({"pair": at.name, "variant": variant, "chosen_change": float(np.mean(own)), **scores})
    correlations, fell = [], []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own_rows = [row for row in rows if row["variant"] == variant]
        fall = -np.array([row["chosen_change"] for row in own_rows])
        fell.append({
            "variant": variant, "pairs": len(fall), "fell": int((fall > 0).sum()), "least": float(-fall.max()),
            "expected_to_fall": sum(row["first_order"] > 0 for row in own_rows),
        })  # fmt: skip
        for score in SCORES:
            rho = rank_correlation(np.array([row[score] for row in own_rows]), fall)
            correlations.append({
                "variant": variant, "score": score, "rho": rho.value, "low": rho.low, "high": rho.high, "pairs": rho.n,
            })  # fmt: skip
    return {"correlations": correlations, "fell": fell, "pairs": rows}


def _runs(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.glob("*") if (path / "recipe.resolved.yaml").is_file())


def _reader() -> CheckpointReader:
    return CheckpointReader(lambda path: models.load(str(path.resolve()), Path())[0])


def _scores(run: RunFiles, recipe_file: Path) -> dict[str, float]:
    """Return CHES of a run's pair, and what its first tokens' unembeddings W tell.

    The hidden state h before an answer of one token is that of its prompt, the same for both. What CHES tells of
    such a pair is in the state after the token, which predicts the end of the turn. `unembedding` is the same score of
    W. A small step of h along W(chosen) - W(rejected) changes the chosen token's log-prob by their product with
    W(chosen) less the mean W under the model; `first_order` is the negative of that change.
    """
    model, _, pair = _loaded(run, recipe_file, UNCUT)
    ches = ches_of(model, [pair], choose_layout(model, [pair]))
    head = model.get_output_embeddings().weight.detach().float()
    ours, step = head[pair.chosen[0]], head[pair.chosen[0]] - head[pair.rejected[0]]
    mean = first_token_probs(model, [pair.prompt])[0].to(head.device) @ head
    values = (ches.scores[0], ches.normalised[0], -float(ours @ step), -float((ours - mean) @ step))
    return dict(zip(SCORES, values, strict=True))


def _loaded(run: RunFiles, recipe_file: Path, max_length: int | None = None) -> tuple[Any, Any, TokenPair]:
    """Return the base, its tokenizer, and the one pair that a run trained on; cut as there unless a length is given."""
    data = run.recipe["data"]
    recipe = load(
        recipe_file, [f"data.train={data['train']}", f"data.max_length={max_length or data['max_length']}"]
    )  # fmt: skip
    model, tokenizer = _base(recipe.model, recipe.folder)
    pairs = only_pairs(read_data(recipe, tokenizer)["train"].tokens.examples, f"{run.name}: has single answers")
    if len(pairs) != 1:
        raise UserError(f"{run.name}: has {len(pairs)} pairs, where one is studied at a time")
    return model, tokenizer, pairs[0]


@cache
def _base(spec: str, folder: Path) -> tuple[Any, Any]:
    """Return the base and its tokenizer, loaded once for all pairs."""
    return models.load(spec, folder)
