"""Run alpaca-eval's code without its side effects. Only this module imports alpaca-eval.

On import, alpaca-eval 0.6.6 sets the root logger to INFO and reads a `.env` file. It draws progress bars, and by
default its annotators write caches into its own package. This module undoes its global changes.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from prefzoo.errors import did_you_mean
from prefzoo.evals.judges.position_swap import FIRST, SECOND
from prefzoo.evals.judges.protocol import TIE

SHOWN = 40  # most characters of an unreadable reply in a message
ROWS = "completions_all"  # the key of the complete choices in a decoder's result
Key = tuple[str, frozenset[str]]  # an instruction and its two answers, in any order


def known_names() -> dict[str, list[str]]:
    """Return the names that a configuration may use: `fields`, `parsers` and `processors`."""
    with alpaca_eval_imported():
        from alpaca_eval import completion_parsers, processors
        from alpaca_eval.annotators import SinglePairwiseAnnotator
        from alpaca_eval.annotators.base import SingleAnnotator

    given = ("self", "args", "kwargs", "seed", "base_dir", "annotation_column", "completion_column")
    signatures = [inspect.signature(c.__init__).parameters for c in (SinglePairwiseAnnotator, SingleAnnotator)]
    return {
        "fields": [k for parameters in signatures for k in parameters if k not in given],
        "parsers": [name for name in vars(completion_parsers) if name.endswith("_parser")],
        "processors": list(processors.__all__),
    }


def parser_fault(name: str, options: Mapping[str, Any]) -> str:
    """Return what is wrong with the options of a reply parser; empty if they are valid.

    Args:
        name: the parser, one of `known_names()["parsers"]`.
        options: the `completion_parser_kwargs` for it.
    """
    with alpaca_eval_imported():
        from alpaca_eval import completion_parsers

    takes = dict(inspect.signature(getattr(completion_parsers, name)).parameters)
    takes = {key: one for key, one in takes.items() if key not in ("completion", "_depth")}
    for key, value in options.items():
        if key not in takes:
            there = f"there are {', '.join(takes)}" if takes else "there are none"
            return f"{key}: {name} has no such option{did_you_mean(str(key), list(takes)) or '; ' + there}"
        try:
            TypeAdapter(takes[key].annotation).validate_python(value, strict=True)
        except ValidationError:
            return f"{key}: must be {inspect.formatannotation(takes[key].annotation)} (is {value!r}); correct it"
    absent = next((key for key, one in takes.items() if one.default is one.empty and key not in options), None)
    return f"{absent}: is missing, and {name} needs it; add it" if absent else ""


def annotate(
    name: str, configs: Mapping[str, dict[str, Any]], rows: Sequence[dict[str, str]], complete: Callable[..., Any],
    missing: dict[Key, str],
) -> tuple[list[float | None], list[bool]]:  # fmt: skip
    """Annotate rows with alpaca-eval's code and without its cache.

    Args:
        name: the name of the configuration.
        configs: the arguments of each annotator, by name.
        rows: rows with `instruction`, `output_1` and `output_2`.
        complete: called with the annotator, its prompts and the decoder's options; returns for each prompt the server's
            choice, or the reason for a missing one.
        missing: a dictionary that this function fills with the reasons for missing choices, by row.

    Returns:
        The preference of each row (None where it is missing), and whether each row's second answer was shown first.
    """
    with alpaca_eval_imported():
        pool = _pool(name, configs, complete, missing)
        annotated = pool(copy.deepcopy(list(rows))) if rows else []
        switched = _switched(pool, rows)
    values = {(r["instruction"], r["output_1"], r["output_2"]): r["preference"] for r in annotated}
    return [_number(values.get((row["instruction"], row["output_1"], row["output_2"]))) for row in rows], switched


def complete_one(prompt: str, options: Mapping[str, Any], connection: Mapping[str, Any]) -> dict[str, Any]:
    """Complete one prompt with alpaca-eval's `openai_completions`.

    Args:
        prompt: the prompt.
        options: the decoder's options from the configuration.
        connection: the decoder's options for the server's address and key.

    Returns:
        The server's choice, as a mapping.
    """
    from alpaca_eval.decoders.openai import openai_completions

    completed = openai_completions([prompt], num_procs=1, **copy.deepcopy(dict(options)), **connection)
    choice: dict[str, Any] = completed[ROWS][0]
    return choice


def row_key(row: Mapping[str, Any]) -> Key:
    """Return a row's instruction and its set of answers, which do not depend on the order of the answers."""
    return row["instruction"], frozenset((row["output_1"], row["output_2"]))


def _switched(pool: Any, rows: Sequence[dict[str, str]]) -> list[bool]:
    """Return for each row whether alpaca-eval shows its second answer first."""
    import pandas as pd

    for processor in next(iter(pool.annotators.values())).processors:
        if rows and type(processor).__name__ == "RandomSwitchTwoColumnsProcessor":
            shown = processor.preprocess(pd.DataFrame(list(rows)))["output_1"].tolist()
            return [first == row["output_2"] for first, row in zip(shown, rows, strict=True)]
    return [False] * len(rows)


def _pool(
    name: str, configs: Mapping[str, dict[str, Any]], complete: Callable[..., Any], missing: dict[Key, str]
) -> Any:
    """Return alpaca-eval's annotator, set up to complete its prompts with `complete`."""
    from alpaca_eval.annotators import PairwiseAnnotator, SinglePairwiseAnnotator

    class Single(SinglePairwiseAnnotator):  # type: ignore[misc]
        rows_of: dict[str, list[Key]]

        def _get_prompt_template(self, prompt_template: str) -> str:
            return prompt_template

        def _make_prompts(self, df_to_annotate: Any, *args: Any, **kwargs: Any) -> tuple[list[str], Any]:
            prompts, rows = super()._make_prompts(df_to_annotate, *args, **kwargs)
            self.rows_of = {}
            for i, row in enumerate(rows.to_dict("records")):
                self.rows_of.setdefault(prompts[i // self.batch_size], []).append(row_key(row))
            return prompts, rows

        def _parse_completions(self, completions: Any) -> tuple[list[Any], list[Any]]:
            values, raw = super()._parse_completions(completions)
            return [on_scale(value) for value in values], raw

        def fault_of(self, choice: dict[str, Any]) -> str:
            completion = choice if self.completion_key == ROWS else choice["text"]
            values, _ = self._parse_completions([completion])
            if all(value is not None for value in values):
                return ""
            return f"unknown verdict {str(choice['text']).strip()[:SHOWN]!r}"

    class Pool(PairwiseAnnotator):  # type: ignore[misc]
        def _initialize_annotators_config(self, annotators_config: str) -> Path:
            return Path(annotators_config)

        def _initialize_annotators(self, **_: Any) -> dict[str, Any]:
            singles = {
                key: Single(
                    seed=self.seed, annotation_column=self.annotation_key, completion_column=self.completion_key,
                    **copy.deepcopy(config),
                )
                for key, config in configs.items()
            }  # fmt: skip
            for single in singles.values():
                single.fn_completions = partial(_completed, complete, single, missing)
            return singles

    return Pool(annotators_config=name, caching_path=None)


def _completed(
    complete: Callable[..., Any], single: Any, missing: dict[Key, str], *, prompts: Sequence[str], **options: Any
) -> dict[str, list[Any]]:
    """Complete prompts, and return what alpaca-eval's decoders return; prices and times are zero."""
    choices = complete(single, prompts, options)
    for prompt, choice in zip(prompts, choices, strict=True):
        if isinstance(choice, str):
            missing |= dict.fromkeys(single.rows_of[prompt], choice)
    read = [choice if isinstance(choice, dict) else {"text": ""} for choice in choices]
    free = [0.0] * len(prompts)
    texts = [choice["text"] for choice in read]
    return {"completions": texts, ROWS: read, "price_per_example": free, "time_per_example": free}


def on_scale(value: Any) -> float | None:
    """Convert a parsed value to a preference in [1, 2]; 0 is a tie in some parsers, and other values give None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    number = TIE if number == 0 else number
    return number if FIRST <= number <= SECOND else None


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


@contextmanager
def alpaca_eval_imported() -> Iterator[None]:
    """Undo the global changes of importing and running alpaca-eval; silence its warnings, log lines and bars."""
    import sklearn

    root, environment, config = logging.getLogger(), dict(os.environ), sklearn.get_config()
    level, handlers, disabled = root.level, list(root.handlers), logging.root.manager.disable
    environment_user = "USER" in os.environ or "LOGNAME" in os.environ
    try:
        if not environment_user:  # alpaca-eval calls getpass.getuser(), which fails in a container without a user name
            os.environ["LOGNAME"] = "user"
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _without_bars():
                yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
        os.environ.clear()
        os.environ.update(environment)
        sklearn.set_config(**config)


@contextmanager
def _without_bars() -> Iterator[None]:
    from alpaca_eval import utils
    from alpaca_eval.decoders import openai as decoder

    before = {module: module.tqdm for module in (utils, decoder)}

    def plain(rows: Any, *_: Any, **__: Any) -> Any:
        return rows

    try:
        for module, tqdm in before.items():
            module.tqdm = plain if callable(tqdm) else SimpleNamespace(tqdm=plain)
        yield
    finally:
        for module, tqdm in before.items():
            module.tqdm = tqdm
