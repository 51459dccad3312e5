"""Facts that take a check long to find, each cached under a hash of all that it depends on. Needs no torch.

Four of them: `model` (its size and shape), `data` (audits, lengths of rows, what they share with the test split),
`fit` (how rows of the data are laid out for the model), and `machine`. So a check after a change of settings, such as a
learning rate or a loss's knob, loads neither model nor data; and a change drops only the facts that depend on it.
`runtime.rates` caches how long work takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from rich.console import Console

from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenExample, TokenPair
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.experiment import search, unchanged
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.model_checks import number_of_experts
from prefzoo.experiment.request import Request
from prefzoo.recipe.data_paths import paths_of
from prefzoo.recipe.load import Recipe
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.devices import is_alone
from prefzoo.runtime.lazy_torch import torch
from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.rates import Rates
from prefzoo.runtime.run_folders import write_json
from prefzoo.training.loss_inputs import Contents, contents_of
from prefzoo.training.memory_model import SIZES

# what the names of a tokenizer's files begin with, in a model's folder
OF_TOKENIZER = ("tokenizer", "chat_template", "vocab", "merges", "special_tokens", "added_tokens", "sentencepiece")
HASHES = ("training_rows", "validation_rows", "held_out_rows", "scores")
MOST = 1_000_000  # rows of a data set whose lengths are cached


class Unknown(Exception):  # noqa: N818 - no error: the check is then done from the beginning
    """A needed fact is not cached."""


class RowSizes(NamedTuple):
    """The lengths of a row in tokens, and its scores: all that a plan reads of an example.

    Attributes:
        row: index of the row in its data set, from 0.
        prompt, first, second: tokens of the prompt and of both answers; 0 for a missing second one.
        scored_tokens: of both answers.
        scores: the data's scores of both answers; None where it has none.
    """

    row: int
    prompt: int
    first: int
    second: int
    scored_tokens: int
    scores: Sequence[float] | None = None

    @property
    def answer_tokens(self) -> int:
        """Number of tokens of all answers."""
        return self.first + self.second

    @property
    def total_tokens(self) -> int:
        """Number of tokens of the prompt, counted once, and of all answers."""
        return self.prompt + self.answer_tokens

    @property
    def block_lengths(self) -> tuple[int, int, int]:
        """Numbers of tokens of the prompt, the first answer and the second."""
        return self.prompt, self.first, self.second


@dataclass(frozen=True)
class KnownModel:
    """A model that is not loaded: only its sizes.

    Attributes:
        config: the fields of its configuration that its shape is made of.
        size: how many parameters it has.
        modules: names of its modules.
    """

    config: Any
    size: int
    modules: list[str]


@dataclass(frozen=True)
class KnownExperiment(Experiment):
    """An experiment from cached facts: nothing is loaded, and rows are `RowSizes`.

    Attributes:
        threads: how many threads torch computes with.
        hashes: of the rows, by the attributes that return them.
    """

    threads: int = 1
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.__dict__.update(self.hashes)  # as if they had been computed

    @property
    def rates(self) -> Rates:
        """How long the work of this model takes on this machine."""
        return Rates(self.weights, self.threads)


def keys_of(request: Request, recipe: Recipe, environment: str) -> dict[str, str] | None:
    """Return the key of each fact of a recipe; call it before anything is read.

    Args:
        request: which run.
        recipe: of the request.
        environment: hash of the environment variables that matter.

    Returns:
        The keys; None where facts are not cached: with rounds, references of their own, weighted pairs, on a GPU or in
        several processes, and for a model or data set of the hub without a local copy.
    """
    trains = [variant.train for variant in recipe.variants.values()]
    own = {variant.reference or recipe.model for variant in recipe.variants.values()} != {recipe.model}
    choices = {".".join(axis.path) for variant in recipe.variants.values() for axis in variant.axes}
    if recipe.rounds is not None or own or "reference" in choices or any(t.pair_weights for t in trains):
        return None
    named = [path for value in (recipe.data.train, recipe.data.eval) for path in paths_of(value)]
    validation = search.validation_set(recipe)
    named += [validation] if validation else []
    data = [_stamps(path, "datasets", recipe.folder) for path in named]
    model = _stamps(recipe.model, "models", recipe.folder)
    if not is_alone() or model is None or None in data:
        return None
    around = unchanged.surroundings()
    hardware, rest = around.pop("hardware"), [around, environment]
    tokenizer = {path: value for path, value in model.items() if _is_of_tokenizer(path)}
    weights = {path: value for path, value in model.items() if path not in tokenizer}
    reading = {
        "data": recipe.data.model_dump(mode="json"), "rows": data, "tokenizer": tokenizer or weights,
        "prompts": [recipe.evals.prompts, _stamps(recipe.evals.prompts or "", "datasets", recipe.folder)],
        "choosing": [bool(choices), search.settings_of(recipe).validation],
    }  # fmt: skip
    keys = {
        "machine": key_of([hardware, rest]),
        "model": key_of([recipe.model, weights, recipe.trust_remote_code, rest]),
        "data": key_of([recipe.model, reading, rest]),
    }
    return keys | {"fit": key_of([*keys.values()])}


def _stamps(text: str, kind: str, folder: Path) -> unchanged.Stamps | None:
    """Return size and date of the files that a text names; None for one of the hub without a local copy."""
    files = list(unchanged.files_of(text, folder))
    version = None if files else unchanged.hub_version(text, kind)
    files += [version] if version is not None else []
    return unchanged.stamps(files) if files else None


def _is_of_tokenizer(path: str) -> bool:
    return Path(path).name.startswith(OF_TOKENIZER)


def write_facts(keys: Mapping[str, str], experiment: Experiment, overlap: Sequence[str]) -> None:
    """Cache what a check found.

    Args:
        keys: as `keys_of` returned them before the check.
        experiment: read and loaded.
        overlap: the warnings of what training data and test split share.
    """
    config, rows = experiment.base.config, (experiment.pairs, experiment.validation, experiment.held_out)
    if number_of_experts(config) or max(map(len, rows)) > MOST:
        return
    chosen = search.settings_of(experiment.recipe).validation
    held_back: Sequence[TokenExample] = [] if isinstance(chosen, str) else experiment.validation
    read = [contents_of(part) for part in (experiment.pairs, held_back)]
    contents = Contents(
        any(one.single for one in read),
        min((one.scoreless for one in read if one.scoreless), default=0),
        min((one.rankless for one in read if one.rankless), default=0),
    )
    train, validation, held_out = (list(map(_sizes, part)) for part in rows)
    facts = {
        "machine": {"threads": torch.get_num_threads()},
        "model": {
            "size": experiment.base.size, "modules": experiment.base.modules, "weights": experiment.weights,
            "config": {name: getattr(config, name) for name in SIZES if hasattr(config, name)},
        },
        "data": {
            "audits": experiment.audits, "contents": asdict(contents), "overlap": list(overlap), "train": train,
            "validation": validation, "held_out": held_out, "vocabulary": experiment.vocabulary,
            "hashes": {name: getattr(experiment, name) for name in HASHES},
        },
        "fit": {"layout": experiment.layout},
    }  # fmt: skip
    for kind, values in facts.items():
        write_json(_file(kind, keys[kind]), values)


def read_facts(keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the facts of a recipe by their kind; None where one is not cached.

    Args:
        keys: as `keys_of` returned them.
    """
    try:
        return {kind: json.loads(_file(kind, key).read_text(encoding="utf-8")) for kind, key in keys.items()}
    except (OSError, ValueError):
        return None


def known_experiment(
    request: Request, recipe: Recipe, facts: Mapping[str, Any], prompts: list[PromptRow], console: Console
) -> KnownExperiment:
    """Build an experiment from facts.

    Args:
        request: which run.
        recipe: of the request.
        facts: as `read_facts` returned them.
        prompts: of `evals.prompts`.
        console: where progress goes.

    Returns:
        The experiment, of which nothing can be trained or measured.
    """
    model, data = facts["model"], facts["data"]
    base: Any = KnownModel(SimpleNamespace(**model["config"]), model["size"], model["modules"])
    pairs, validation, held_out = (list(_known(data[use])) for use in ("train", "validation", "held_out"))
    return KnownExperiment(
        recipe, request.folder(recipe.name), console, {t.name: t for t in search.expand(recipe)}, None, base,
        model["weights"], data["vocabulary"], pairs, cast("Sequence[TokenPair]", validation),
        cast("Sequence[TokenPair]", held_out), prompts, cast("Layout", facts["fit"]["layout"]), data["audits"], {},
        request.save_every, {}, {}, threads=facts["machine"]["threads"],
        hashes=data["hashes"],
    )  # fmt: skip


def _known(rows: Iterable[Sequence[Any]]) -> Iterator[TokenExample]:
    for row in rows:
        yield cast("TokenExample", RowSizes(*row))


def _sizes(example: TokenExample) -> RowSizes:
    scores = example.scores if isinstance(example, TokenPair) else None
    return RowSizes(example.row, *example.block_lengths, example.scored_tokens, scores)


def _file(kind: str, key: str) -> Path:
    return cache_dir("facts") / f"{kind}-{key}.json"
