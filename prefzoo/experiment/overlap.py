"""Find rows that training data and held-out data share, and rows that contradict others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prefzoo.data.audits.findings import example_words, findings_of
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.tokens import TokenExample
from prefzoo.data.views import joined
from prefzoo.errors import UserError
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import validation_set

Prompt = tuple[int, ...]
Content = tuple[Prompt, ...]
CURE = "remove them from one of the two, or leave such training rows out by data.drop: [leaks]"
SHOWN = ("swapped", "disputed", "circle", "conflicts")  # findings that are worth a warning by themselves


def check_overlap(experiment: Experiment) -> list[str]:
    """Count the prompts that training shares with the held-out pairs, the validation set, and `evals.prompts`.

    Args:
        experiment: read and loaded.

    Returns:
        A warning for each that shares any.

    Raises:
        UserError: the held-out pairs are the training data.
    """
    data, evals = experiment.recipe.data, experiment.recipe.evals
    chosen_by = validation_set(experiment.recipe)
    training: Sequence[TokenExample] = joined([experiment.pairs, experiment.validation])
    warnings: list[str] = []
    if experiment.held_out:
        if _same_content(training, experiment.held_out):
            raise UserError(
                f"data.eval: {data.eval_spec} has the same pairs as data.train, {data.train_spec}; a model cannot "
                "be tested on its training data; name other pairs, or leave out data.eval"
            )
        prompts = [tuple(pair.prompt) for pair in experiment.held_out]
        warnings += _shared(training, prompts, f"data.eval: {data.eval_spec}", "pairs", "preference accuracy")
        warnings += _nearly(experiment, training, prompts, data.eval_spec)
    if chosen_by:
        prompts = [tuple(pair.prompt) for pair in experiment.validation]
        warnings += _shared(experiment.pairs, prompts, f"sweep.validation: {chosen_by}", "pairs", "choices of settings")
        warnings += _nearly(experiment, experiment.pairs, prompts, chosen_by)
    if experiment.prompts:
        asked = [
            tuple(encode_prompt(experiment.tokenizer, row.prompt, data.chat_template_kwargs))
            for row in experiment.prompts
        ]
        warnings += _shared(training, asked, f"evals.prompts: {evals.prompts}", "prompts", "win rates")
        warnings += _nearly(experiment, training, asked, str(evals.prompts))
    return warnings


def contradictions(experiment: Experiment) -> list[str]:
    """Return a warning for each data set with rows that contradict each other or their scores and are not dropped."""
    drop = experiment.recipe.data.drop
    return [
        f"data.{use}: {one.count} of the {values['rows']} rows of {values['spec']}: {one.words} "
        f"({example_words(one)}); data.drop: [{one.drop}] leaves them out"
        for use, values in experiment.audits.items()
        for one in findings_of(values)
        if one.name in SHOWN and one.drop not in drop
    ]


def _nearly(experiment: Experiment, training: Sequence[TokenExample], prompts: list[Prompt], spec: str) -> list[str]:
    """Warn if more training rows are nearly the same as test rows than share a prompt with them."""
    if "leaks" in experiment.recipe.data.drop:
        return []
    tested = set(prompts)
    equal = sum(tuple(example.prompt) in tested for example in training)
    return [
        f"data.train: {_rows_are(one.count - equal, more=bool(equal))} nearly the same as rows of {spec} "
        f"({example_words(one)}), and numbers on those show what was memorised; {CURE}"
        for one in findings_of(experiment.audits["train"])
        if one.name == "leaks" and one.against == spec and one.count > equal
    ]


def _rows_are(count: int, *, more: bool) -> str:
    word = " more" if more else ""
    return f"1 row{word} is" if count == 1 else f"{count:,} rows{word} are"


def _same_content(training: Iterable[TokenExample], held_out: Sequence[TokenExample]) -> bool:
    """Return whether both have the same rows; the training data may be larger than memory."""
    tested, seen = {_content(example) for example in held_out}, set[Content]()
    for example in training:
        content = _content(example)
        if content not in tested:
            return False
        seen.add(content)
    return seen == tested


def _content(example: TokenExample) -> Content:
    return (tuple(example.prompt), *(tuple(answer) for answer in example.answers))


def _shared(
    training: Iterable[TokenExample], prompts: list[Prompt], name: str, unit: str, number: str
) -> list[str]:  # fmt: skip
    """Warn if some prompts are also in the training data.

    Args:
        training: the training data.
        prompts: token ids of each prompt that is tested with.
        name: of their data set, with its place in the recipe.
        unit: what its rows are.
        number: what is measured on them.
    """
    asked = set(prompts)
    trained = {prompt for example in training if (prompt := tuple(example.prompt)) in asked}
    both = [i for i, prompt in enumerate(prompts, 1) if prompt in trained]
    if not both:
        return []
    return [
        f"{name}: {len(both)} of {len(prompts)} {unit} have a prompt of the training data (the first is number "
        f"{both[0]}), and {number} on them show what was memorised; {CURE}"
    ]
