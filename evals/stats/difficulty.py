"""The difficulty of each instruction, for length control, read from a file or estimated from the compared models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from prefzoo.errors import UserError
from prefzoo.evals.stats.intervals import Values

NAMES = ("instruction_difficulty", "difficulty")
GAMED = ("preference", "std_delta_len")
RIDGE = 1.0  # precision of the standard normal prior on each difficulty
LOOSE = 0.01  # precision of a weak prior that keeps the strength of a model that always wins or loses finite
ROUNDS, LONGEST_STEP, CLOSE = 200, 1.0, 1e-6  # of Newton's method: most steps, longest step, smallest step


@dataclass(frozen=True)
class Gamed:
    """A gamed baseline (the baseline's model told to be verbose or concise) compared with the baseline.

    Attributes:
        name: the gamed baseline's name.
        preference: (n,) preferences in [0, 1]; NaN where missing.
        length: (n,) tanh of the standardised difference in length; NaN where missing.
    """

    name: str
    preference: Values
    length: Values


def from_pool(lengths: Values, won: Values) -> Values:
    r"""Estimate the difficulty of each prompt from the models that answered it.

    This is the joint fit of Dubois 2024 (arXiv:2404.04475), in which a prompt is equally difficult for every model:
    $$ \mathrm{logit}\, p_{mi} = w_m t_{mi} + b_m + x_i, \quad x_i \sim N(0, 1) $$
    Newton's method alternates between the parameters w, b of all models for fixed x, and all x for fixed models.

    Args:
        lengths: (models, n) length terms t, each the tanh of a standardised difference in length.
        won: (models, n) preferences p in [0, 1]; NaN where missing.

    Returns:
        (n,) difficulties x_i, with mean 0; a higher value is an easier win over the baseline.
    """
    models, n = won.shape
    _, x = _joint_fit(lengths, won, np.zeros((models, 2)), np.zeros(n))
    return np.asarray(x - x.mean())


def _joint_fit(lengths: Values, won: Values, beta: Values, x: Values) -> tuple[Values, Values]:
    """Run the joint fit from the start values `beta` and `x`; return (models, 2) w and b, and (n,) x."""
    seen = np.isfinite(won)
    target = np.where(seen, won, 0.0)
    for _ in range(ROUNDS):
        rest, weight = _expected(lengths, beta, x, seen, target)
        both = lengths * weight
        slope = np.stack([(lengths * rest).sum(1), rest.sum(1)], -1) - LOOSE * beta
        squares = [(both * lengths).sum(1), both.sum(1), both.sum(1), weight.sum(1)]
        curve = np.stack(squares, -1).reshape(-1, 2, 2) + LOOSE * np.eye(2)
        step = np.linalg.solve(curve, slope[..., None])[..., 0].clip(-LONGEST_STEP, LONGEST_STEP)
        beta = beta + step
        rest, weight = _expected(lengths, beta, x, seen, target)
        move = ((rest.sum(0) - RIDGE * x) / (weight.sum(0) + RIDGE)).clip(-LONGEST_STEP, LONGEST_STEP)
        x = x + move
        if max(np.abs(step).max(), np.abs(move).max()) < CLOSE:
            break
    return beta, x


def _expected(lengths: Values, beta: Values, x: Values, seen: np.ndarray, target: Values) -> tuple[Values, Values]:
    """Return each preference minus its expectation p, and the derivative p (1 - p); both 0 where one is missing."""
    p = expit(beta[:, :1] * lengths + beta[:, 1:] + x)
    return np.where(seen, target - p, 0.0), np.where(seen, p * (1 - p), 0.0)


def from_others(lengths: Values, won: Values) -> Values:
    """Estimate difficulties for each model from all other models, so that its own luck on a prompt does not count.

    Args:
        lengths: (models, n) length terms, each the tanh of a standardised difference in length.
        won: (models, n) preferences in [0, 1]; NaN where missing.

    Returns:
        (models, n) difficulties.
    """
    beta, x = _joint_fit(lengths, won, np.zeros((len(won), 2)), np.zeros(won.shape[1]))  # a start for the fits below
    others = [np.delete(np.arange(len(won)), m) for m in range(len(won))]
    fits = [_joint_fit(lengths[rest], won[rest], beta[rest], x)[1] for rest in others]
    return np.stack([one - one.mean() for one in fits])


def read_difficulties(path: Path, order: Sequence[str]) -> pd.Series:
    """Read the difficulty of each instruction from a CSV or JSON table.

    Args:
        path: a table with a column `instruction_difficulty` or `difficulty`, and `instruction` or `index` (a position
            in `order`).
        order: the instructions that `index` refers to.

    Returns:
        The difficulty of each instruction, with the instruction's text as index.

    Raises:
        UserError: the table cannot be read, or lacks the columns.
    """
    frame = _table(path)
    name = next((n for n in NAMES if n in frame), None)
    if name is None:
        raise UserError(f"{path}: no column {' or '.join(NAMES)}; it has {', '.join(map(str, frame.columns))}")
    keyed = _keyed(frame, path, order)
    unlike = keyed.groupby("instruction")[name].nunique()
    if (unlike > 1).any():
        text = str(unlike.index[(unlike > 1).to_numpy()][0])
        raise UserError(f"{path}: instruction {text[:60]!r} has {int(unlike.max())} difficulties; keep one")
    return keyed.drop_duplicates("instruction").set_index("instruction")[name].astype(float)


def read_gamed(path: Path, order: Sequence[str], instructions: Sequence[str]) -> list[Gamed]:
    """Read gamed baselines from a CSV or JSON table.

    Args:
        path: a table with `model`, `preference` (0 to 1), `std_delta_len`, and `instruction` or `index`.
        order: the instructions that `index` refers to.
        instructions: the n instructions of the result.

    Returns:
        The gamed baselines, with values in the order of `instructions`.

    Raises:
        UserError: the table cannot be read, or lacks the columns.
    """
    frame = _table(path)
    absent = [name for name in ("model", *GAMED) if name not in frame]
    if absent:
        raise UserError(f"{path}: no column {', '.join(absent)}; gamed baselines need model, {', '.join(GAMED)}")
    baselines = []
    for name, part in _keyed(frame, path, order).groupby("model", sort=False):
        rows = part.drop_duplicates("instruction").set_index("instruction").reindex(list(instructions))
        preference = rows["preference"].to_numpy(dtype=float)
        baselines.append(Gamed(str(name), preference, np.tanh(rows["std_delta_len"].to_numpy(dtype=float))))
    return baselines


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_json(path) if path.suffix == ".json" else pd.read_csv(path)
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({str(e).splitlines()[0]}); give a csv or json table") from None


def _keyed(frame: pd.DataFrame, path: Path, order: Sequence[str]) -> pd.DataFrame:
    """Return the table with a column `instruction`, if necessary looked up in `order` by its column of positions."""
    if "instruction" in frame:
        return frame
    place = next((name for name in ("index", "Unnamed: 0") if name in frame), None)
    if place is None:
        raise UserError(f"{path}: no column instruction or index; say which instruction each row is about")
    highest, rows = int(frame[place].max()), len(order)
    if highest >= rows or frame[place].min() < 0:
        raise UserError(
            f"{path}: refers to instructions up to number {highest}, but there are {rows}; "
            "name the file of these instructions by --order FILE"
        )
    return frame.assign(instruction=[order[int(i)] for i in frame[place]])
