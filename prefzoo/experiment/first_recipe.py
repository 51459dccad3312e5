"""Write a first recipe for a model and a data set: read the data, choose losses that fit it, and comment each line."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefzoo import losses
from prefzoo.data.examples import Example, LabelledAnswer, Pair, Text
from prefzoo.data.reading import DataSource, read_source
from prefzoo.data.schemas import Normalised
from prefzoo.recipe.load import SLUG
from prefzoo.runtime.maths import plain

PAIRED = ("dpo", "simpo", "ipo")
SINGLE = ("kto", "bco", "apo_zero_unpaired")
WITH_SCORES = "margin_dpo"
CHARACTERS = 3  # in a token, at least, of English and of code
SHORTEST, LONGEST = 256, 4096  # tokens of `data.max_length`
BATCH, LEAST_BATCH, FEW_STEPS = 32, 2, 16


@dataclass(frozen=True)
class RecipeInputs:
    """The inputs of a first recipe.

    Attributes:
        out: The recipe's file.
        model: A folder, a GGUF file or a hub id.
        train: Preference data: a file or a hub id.
        held_out: Pairs that the training never sees; None without any.
        columns: The name that a format has for a column -> the data's.
    """

    out: Path
    model: str
    train: str
    held_out: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadData:
    """The data of a first recipe, as it was read.

    Attributes:
        data: The training data, less the rows that cannot be used.
        left_out: How many those are, by reason; empty without any.
    """

    data: Normalised
    left_out: str


def write_recipe(inputs: RecipeInputs) -> tuple[str, ReadData]:
    """Read the data, and return the text of a recipe that fits it.

    Args:
        inputs: Model, data and the recipe's file, which is not written here. Paths start at the current folder.

    Returns:
        The recipe's text, and the training data as it was read.

    Raises:
        UserError: The data cannot be read.
    """
    sets = [
        read_source(DataSource(path, inputs.columns, on_bad_row="drop"), Path.cwd())
        for path in (inputs.train, inputs.held_out)
        if path is not None
    ]
    reasons = sum((faults.counts() for _, faults in sets), Counter[str]())
    left_out = ", ".join(
        f"{count:,} row{'s' * (count > 1)} ({reason.removeprefix('dropped: ')})" for reason, count in reasons.items()
    )
    read = ReadData(sets[0][0], left_out)
    return "\n".join(_lines(inputs, read)) + "\n", read


def _lines(inputs: RecipeInputs, read: ReadData) -> Iterator[str]:
    data = read.data
    unit = "labelled answers" if isinstance(data.examples[0], LabelledAnswer) else "pairs"
    yield f"# Shows what this would do, and how long it takes:  prefzoo check {inputs.out}"
    yield f"# Trains, evaluates and ranks all variants:         prefzoo run {inputs.out}"
    yield f"name: {_name(inputs.out)}"
    yield "seed: 0"
    yield f"model: {_text(inputs.model, inputs.out)}"
    yield "data:"
    yield f"  # {len(data.examples):,} {unit}: {data.words}"
    yield f"  # `prefzoo data {inputs.out}` shows which tokens are scored"
    yield f"  train: {_text(inputs.train, inputs.out)}"
    if inputs.held_out is not None:
        yield f"  eval: {_text(inputs.held_out, inputs.out)}"
    else:
        yield "  # eval: held_out.jsonl  # pairs that the training never sees, to measure the accuracy on them"
    if inputs.columns:
        yield f"  columns: {json.dumps(dict(inputs.columns), ensure_ascii=False)}  # a format's name: the data's"
    if read.left_out:
        yield f"  on_bad_row: drop  # {read.left_out}; the default is an error"
    yield f"  max_length: {_max_length(data.examples)}  # tokens; longer rows are left out, and counted"
    yield "train:"
    yield f"  batch: {_batch(len(data.examples))}  # {unit} per optimiser step, whatever the number of devices"
    yield "  epochs: 1"
    yield "  learning_rate: 1e-6  # for all weights; an adapter takes about ten times as much"
    yield "  # lora: {rank: 16}  # trains an adapter, in less memory"
    yield "variants:  # `prefzoo losses` lists all, `prefzoo losses --guide` those for your situation"
    yield from (_variant(name) for name in _losses(data.examples))
    yield "evals:"
    yield "  prompts: instruct:eval:100  # built in, with checks; or a file of yours with a column prompt, and a judge"
    yield "  judge: verifier  # or my_judge.py:better, a reward model, a language model, a server"
    yield "  # benchmarks: [knowledge, perplexity]  # shows what the training cost"


def _name(out: Path) -> str:
    """Return the file's name as a valid name of a run."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", out.stem.lower()).strip("-._")
    return name if re.fullmatch(SLUG, name) else "first"


def _text(value: str, out: Path) -> str:
    """Return a value for YAML; a path of the current folder becomes one that starts at the recipe's folder."""
    path = Path(value).expanduser()
    if path.exists() and not path.is_absolute():
        value = Path(os.path.relpath(path, out.parent)).as_posix()
        value = value if "/" in value or path.is_file() else f"./{value}"
    return value if value.replace("/", "").replace(".", "").replace("-", "").isalnum() else json.dumps(value)


def _max_length(examples: Sequence[Example]) -> int:
    """Return a power of two that holds nearly all rows, estimated from their characters."""
    sizes = sorted(_characters(one) for one in examples)
    tokens = sizes[int(0.99 * (len(sizes) - 1))] / CHARACTERS
    length = SHORTEST
    while length < min(tokens, LONGEST):
        length *= 2
    return length


def _characters(one: Example) -> int:
    answers = (one.chosen, one.rejected) if isinstance(one, Pair) else (one.completion,)
    return _size(one.prompt) + max(_size(answer) for answer in answers)


def _size(text: Text) -> int:
    return len(text) if isinstance(text, str) else sum(len(str(message.get("content") or "")) for message in text)


def _batch(rows: int) -> int:
    """Return the batch size, smaller if the data would give few steps."""
    batch = BATCH
    while batch > LEAST_BATCH and rows < batch * FEW_STEPS:
        batch //= 2
    return batch


def _losses(examples: Sequence[Example]) -> tuple[str, ...]:
    if isinstance(examples[0], LabelledAnswer):
        return SINGLE
    scored = all(isinstance(one, Pair) and one.scores is not None for one in examples)
    return (*PAIRED, WITH_SCORES) if scored else PAIRED


def _variant(name: str) -> str:
    loss = losses.get(name)
    knobs = ", ".join(f"{knob}: {field.default}" for knob, field in loss.Params.model_fields.items())
    return f"  {name}: {{{knobs}}}  # {plain(loss.doc.partition(chr(10))[0])}"
