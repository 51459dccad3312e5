"""AlpacaEval's own win rate, judged by any Python callable. The only module that imports alpaca_eval.

alpaca-eval 0.6.6 sets the root logger to INFO and reads a `.env` file when imported, and its annotators write caches
beside its own code unless told otherwise. Here every path is given, and its global changes are undone.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from prefzoo.errors import UserError

# (instruction, output_1, output_2) -> 1 first wins .. 1.5 tie .. 2 second wins
JudgeFunction = Callable[[str, str, str], float]
Outputs = Sequence[dict[str, Any]]  # rows of model_outputs.json: instruction, output, and any others


def win_rate_by_alpaca(
    outputs: Outputs, reference_outputs: Outputs, judge_fn: JudgeFunction, name: str, folder: Path
) -> pd.DataFrame:
    """Compute a win rate by alpaca-eval, and write `model_outputs.json` and `annotations.json`.

    Identical outputs score 1.5 without a call of the judge. Which output the judge sees first is drawn per
    instruction, with a fixed seed, as alpaca-eval does.

    Args:
        outputs: the model's, over distinct instructions.
        reference_outputs: the baseline's, over the same instructions.
        judge_fn: compares two outputs.
        name: of the model.
        folder: where the files are written.

    Returns:
        One row of AlpacaEval's leaderboard (index `name`): win_rate in percent, standard_error, n_total, avg_length, …

    Raises:
        UserError: the two sets are not over the same, distinct instructions, or a preference is outside [1, 2]
            (alpaca-eval itself would drop such rows silently).
    """
    _check_coverage(outputs, reference_outputs)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**row, "generator": name} for row in outputs]
    pd.DataFrame(rows).to_json(folder / "model_outputs.json", orient="records", indent=2, force_ascii=False)
    with _global_state_restored():
        import alpaca_eval

        board, annotations = alpaca_eval.evaluate(
            model_outputs=rows, reference_outputs=list(reference_outputs), name=name,
            Annotator=_annotator(_checked(judge_fn, name)), annotators_config="python", caching_path=None,
            fn_metric="get_winrate", sort_by="win_rate",  # the default metric needs a download
            precomputed_leaderboard=None, is_cache_leaderboard=False, output_path=None,
            is_return_instead_of_print=True,
        )  # fmt: skip
    written = pd.DataFrame(annotations)
    written.to_json(folder / "annotations.json", orient="records", indent=2, force_ascii=False)
    return pd.DataFrame(board)


def _check_coverage(outputs: Outputs, reference_outputs: Outputs) -> None:
    """alpaca-eval joins by instruction: a missing one is dropped and a repeated one multiplied, both silently."""
    ours, theirs = ([str(row["instruction"]) for row in rows] for rows in (outputs, reference_outputs))
    counts = f"{len(ours)} rows, {len(theirs)} in the reference"
    faults = [
        f"{which}: {counts}: instruction {text[:60]!r} occurs {instructions.count(text)} times; keep one"
        for which, instructions in (("outputs", ours), ("reference_outputs", theirs))
        for text in dict.fromkeys(instructions)
        if instructions.count(text) > 1
    ]
    for which, missing in (("outputs", set(theirs) - set(ours)), ("reference_outputs", set(ours) - set(theirs))):
        faults += [
            f"{which}: {counts}: no answer to instruction {text[:60]!r}; generate it first" for text in sorted(missing)
        ]
    if not ours:
        faults.append("outputs: empty; there is nothing to judge")
    if faults:
        raise UserError(faults)


def _checked(judge_fn: JudgeFunction, name: str) -> Callable[[list[dict[str, str]]], list[float]]:
    def judge_all(prompts: list[dict[str, str]]) -> list[float]:
        verdicts = [float(judge_fn(p["instruction"], p["output_1"], p["output_2"])) for p in prompts]
        wrong = [(p, v) for p, v in zip(prompts, verdicts, strict=True) if math.isnan(v) or not 1 <= v <= 2]  # noqa: PLR2004 - alpaca-eval's coding
        if wrong:
            raise UserError(
                f"judge of {name}: instruction {p['instruction'][:60]!r}: preference {v} is outside [1, 2]; "
                "return 1 (first), 2 (second) or a number between"
                for p, v in wrong
            )
        return verdicts

    return judge_all


def _annotator(judge_all: Callable[[list[dict[str, str]]], list[float]]) -> type:
    """Return an annotator that calls a Python function: alpaca-eval has no hook for one, but takes a class."""
    from alpaca_eval.annotators import PairwiseAnnotator, SinglePairwiseAnnotator

    def complete(prompts: list[dict[str, str]], **_: Any) -> dict[str, list[float]]:
        free = [0.0] * len(prompts)
        return {"completions": judge_all(prompts), "price_per_example": free, "time_per_example": free}

    class AskPython(SinglePairwiseAnnotator):  # type: ignore[misc]
        def _get_prompt_template(self, prompt_template: str) -> str:
            return prompt_template

        def _make_prompts(self, df_to_annotate: pd.DataFrame, *_: Any, **__: Any) -> tuple[Any, pd.DataFrame]:
            return df_to_annotate[["instruction", "output_1", "output_2"]].to_dict("records"), df_to_annotate

    class Annotator(PairwiseAnnotator):  # type: ignore[misc]
        def _initialize_annotators_config(self, annotators_config: str) -> Path:
            return Path(annotators_config)

        def _initialize_annotators(self, **_: Any) -> dict[str, Any]:
            annotator = AskPython(
                prompt_template="", fn_completions=complete, fn_completion_parser=lambda verdict: [verdict],
                seed=self.seed, annotation_column=self.annotation_key, completion_column=self.completion_key,
            )  # fmt: skip
            return {"python": annotator}

    return Annotator


@contextmanager
def _global_state_restored() -> Iterator[None]:
    """Undo the global changes of importing and running alpaca-eval; silence its warnings and log lines."""
    import sklearn

    root, environment, config = logging.getLogger(), dict(os.environ), sklearn.get_config()
    level, handlers, disabled = root.level, list(root.handlers), logging.root.manager.disable
    environment_user = "USER" in os.environ or "LOGNAME" in os.environ
    try:
        if not environment_user:  # it calls getpass.getuser(), which fails for a container's nameless uid
            os.environ["LOGNAME"] = "user"
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
        os.environ.clear()
        os.environ.update(environment)
        sklearn.set_config(**config)
