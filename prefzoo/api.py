"""The Python API: three functions. Heavy modules are imported when one of them is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from prefzoo.evals.boards.comparison import RunComparison
    from prefzoo.evals.boards.run_files import RunFiles
    from prefzoo.types import Answers, LogProbs, Mismatched, Scores, TokenKL


class LossFunction(Protocol):
    """A loss as a function, as `loss` returns it."""

    def __call__(
        self, policy: LogProbs | Answers, reference: LogProbs | Answers | None = None, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> Tensor:  # fmt: skip
        """Return (B,) losses of pairs, or one for each single answer if the loss is unpaired.

        Args:
            policy: log-probs under the policy.
            reference: log-probs of the same rows under the reference.
            scores: scores of the answers in the data.
            kl: KL from the reference, summed over each answer's tokens.
            mismatched: log-probs of prompts with other rows' answers.
            state: what the last step returned, for a loss with a state.
        """


def run(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    fresh: bool = False,
    retry_failed: bool = False,
    save_every: float = 300,
    replace: bool = False,
    quiet: bool = False,
) -> RunFiles:
    """Train every variant of a recipe, evaluate all of them and the base, as `prefzoo run` does.

    Call it again, for example in a notebook, to reuse finished results and to resume interrupted trainings.

    Args:
        recipe: a file, the name of a packaged recipe like "quickstart", or a recipe's fields as plain values, whose
            relative paths start at the working directory.
        overrides: dotted fields and their values, like `{"train.learning_rate": 1e-5}`.
        results: the folder in which the run's folder is made.
        fresh: train everything again.
        retry_failed: train failed variants again with the same settings.
        save_every: seconds between two checkpoints of a training.
        replace: overwrite earlier results of other settings, which are archived otherwise.
        quiet: print nothing, neither progress nor results.

    Returns:
        The results of the run: `.long`, a pandas DataFrame with a row per variant and metric, and `.variants`; a failed
            one has a `.failure`.

    Raises:
        UserError: the recipe, its data or its model is wrong; a line for each fault.
    """
    from prefzoo.runtime.threads import limit_spinning

    limit_spinning()  # before what follows imports torch
    import json

    from prefzoo.errors import UserError
    from prefzoo.evals.boards.run_files import read_run
    from prefzoo.experiment import pipeline
    from prefzoo.experiment.request import Options, Request
    from prefzoo.recipe.yaml import dump as dump_plain
    from prefzoo.runtime.paths import recipe_path

    def start(file: Path) -> RunFiles:
        request = Request(str(file), tuple(sets), str(results), save_every, replace)
        return read_run(pipeline.run(request, Options(fresh, retry_failed, quiet, silent=quiet)).folder)

    if not isinstance(recipe, str | Path | Mapping):
        raise UserError(
            f"prefzoo.run takes a recipe, the path of a file or a mapping of its fields, not {type(recipe).__name__}"
        )
    sets = [f"{field}={json.dumps(value)}" for field, value in (overrides or {}).items()]
    if isinstance(recipe, Mapping):
        with NamedTemporaryFile("w", prefix=".recipe-", suffix=".yaml", dir=Path.cwd(), encoding="utf-8") as file:
            file.write(dump_plain(dict(recipe)))
            file.flush()
            return start(Path(file.name))
    return start(recipe_path(Path(recipe)))


def loss(name: str, *, modifiers: Sequence[Any] = (), **params: Any) -> LossFunction:
    """Return a loss as a function of log-probs: `loss("cdpo", beta=0.05)(policy, reference)`.

    Args:
        name: one of `prefzoo losses`, a sum like "dpo + 0.2*sft" (whose knobs are mappings under its terms' names), or
            your own, `my_losses.py:mine`.
        modifiers: modifiers of the loss, as a recipe lists them: `["humanline", {"dr": {"beta": 1.0}}]`.
        params: its knobs; the others keep their defaults.

    Returns:
        A function `(policy, reference=None, *, scores=None, kl=None, mismatched=None, state=None)`. It takes the
        dataclasses of `prefzoo.types` (`prefzoo.LogProbs` mostly: sums of log-probs in nats, and token counts, of B
        pairs) and gives (B,) values, one per pair, or one per answer for an unpaired loss; no mean is taken, and
        gradients flow. It raises ValueError if an input that the loss needs is missing or of another type.

    Raises:
        UserError: there is no such loss or knob, or a value is out of bounds.
    """
    from prefzoo import losses
    from prefzoo.errors import UserError
    from prefzoo.recipe.knobs import knobs_of
    from prefzoo.recipe.modifiers import as_entries

    if not isinstance(name, str):
        raise UserError("prefzoo.loss takes a loss's name; your own loss needs no decorator", losses.TEMPLATE)
    plain, faults = losses.get(name), _Faults()
    listed = as_entries(modifiers if isinstance(modifiers, str) else list(modifiers))
    knobs = knobs_of(faults, (), plain, params, listed, None)
    if knobs is None:
        raise UserError(f"loss {name}: {line}" for line in faults.lines)
    entry = losses.as_listed(plain, knobs)

    def call(
        policy: LogProbs | Answers, reference: LogProbs | Answers | None = None, *,
        scores: Scores | None = None, kl: TokenKL | None = None, mismatched: Mismatched | None = None,
        state: Any = None,
    ) -> Tensor:  # fmt: skip
        return entry.each(policy, reference, knobs, scores=scores, kl=kl, mismatched=mismatched, state=state)

    call.__name__, call.__doc__ = entry.name, entry.doc
    return call


class _Faults:
    """The faults of knobs, a line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def fault(self, keys: tuple[str, ...], message: str, hint: str = "") -> None:
        self.lines.append(f"{'.'.join(keys)}: {message}")


def compare(
    *runs: str | Path | RunFiles,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    sort: str | None = None,
    unranked: bool = False,
    equivalence: float | None = None,
    by_seed: bool = False,
) -> RunComparison:
    """Compare runs or variants side by side, as `prefzoo compare` does; the tables are pandas DataFrames.

    Args:
        runs: what `run` returned, folders of runs, or folders of single variants (`results/mine/dpo`).
        baseline: the variant from which paired differences are taken.
        metrics: which ones; all unless given.
        sort: the metric to sort by.
        unranked: also show variants that cannot be ranked together.
        equivalence: points within which two variants count as equal; as the runs' recipes say unless given.
        by_seed: give each seed of a variant a row of its own, instead of one row to all of them.

    Returns:
        The comparison: `.table` of the numbers with their intervals, `.differences` from the baseline, `.recipes` and
        `.costs`, each a pandas DataFrame.

    Raises:
        UserError: a folder is not a run's, or measurements cannot be compared (and `unranked` is false).
    """
    from prefzoo.errors import UserError
    from prefzoo.evals.boards import comparison
    from prefzoo.evals.boards.run_files import RunFiles

    paths = [one.folder if isinstance(one, RunFiles) else one for one in runs]
    for path in paths:
        if not isinstance(path, str | Path):
            raise UserError(f"prefzoo.compare takes runs or paths of folders, not {type(path).__name__}")
    folders = [Path(p) for p in paths]
    return comparison.compare(folders, baseline, metrics, sort, unranked, equivalence, by_seed=by_seed)
