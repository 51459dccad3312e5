"""Describe a run's data: sources with hashes or revisions, rows that were left out and why, tokens by role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefzoo.data.origin import origin_of
from prefzoo.data.reading import DataSource, Mixture
from prefzoo.engine.reference_logprobs import rows_key
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.data import source_of
from prefzoo.version import __version__

FILE = "data_card.json"
HOW = ("score", "chat_template_kwargs", "max_length", "too_long", "on_bad_row", "drop", "pairs", "flip_labels")
LEFT_OUT = ("dropped: ", "skipped: ")
SHOWN = 12  # characters of a hash
NAMES = {"assistant": "scored", "assistant, not scored": "the assistant's that are not scored", "template": "template"}


def data_card(experiment: Experiment) -> dict[str, Any]:
    """Describe the data of a run.

    Args:
        experiment: read and loaded.

    Returns:
        Plain values for `data_card.json`: `reading`, all that decides how rows become tokens; and by its use (`train`,
        `validation`, `eval`) of each data set `sources`, `rows`, `kept`, `left_out` and `changed` (numbers of rows by
        reason), `tokens` by role, `findings`, `languages`, and `token_ids`, a hash of the rows as they
        are scored. Where a share of the training data is held back to choose settings by, `trained_on` is the rest.
    """
    recipe, data = experiment.recipe, experiment.recipe.data
    named = {"train": data.train, "eval": data.eval}
    hashes = {"train": experiment.training_rows, "eval": rows_key(experiment.held_out)}
    sets = {
        use: {
            **_described(audit, _sources(source_of(recipe, named[use] or ""), audit, recipe.folder)),
            "token_ids": hashes[use],
        }
        for use, audit in experiment.audits.items()
    }
    if experiment.validation:
        sets["validation"] = {"kept": len(experiment.validation), "token_ids": experiment.validation_rows}
        sets["train"]["trained_on"] = len(experiment.pairs)
    return {
        "prefzoo": __version__,
        "model": recipe.model,
        "tokenizer": experiment.vocabulary,
        "reading": {name: getattr(data, name) for name in HOW},
        "sets": sets,
    }


def card_lines(card: Mapping[str, Any]) -> list[str]:
    """Return a model card's lines on the training data; of a path, only the last part."""
    train = card["sets"]["train"]
    lines = [_source_line(one) for one in train["sources"]]
    lines += [_counts_line("left out", train["left_out"]), _counts_line("changed", train["changed"])]
    if train["tokens"]:
        counts = [f"{n:,} {NAMES.get(role, role)}" for role, n in train["tokens"].items()]
        lines.append(f"tokens by role: {', '.join(counts)}")
    return [line for line in lines if line]


def _sources(source: DataSource | Mixture, audit: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return for each source its origin, its format, and how much of it training sees."""
    sources: Sequence[DataSource] = source.sources if isinstance(source, Mixture) else (source,)
    alone = {name: audit[name] for name in ("schema", "rows", "kept")}
    counts = audit.get("sources") or [alone]
    return [
        {
            **asdict(origin_of(one.address, folder)), "name": one.name, "format": counted["schema"],
            "columns": dict(one.columns), "rows": counted["rows"], "kept": counted["kept"],
            **{name: counted[name] for name in ("weight", "share", "drawn") if counted.get(name) is not None},
        }
        for one, counted in zip(sources, counts, strict=True)
    ]  # fmt: skip


def _described(audit: Mapping[str, Any], sources: list[dict[str, Any]]) -> dict[str, Any]:
    counts = audit["counts"]
    left_out = {why: n for why, n in counts.items() if why.startswith(LEFT_OUT)}
    return {
        "sources": sources, "rows": audit["rows"], "kept": audit["kept"],
        "left_out": {why.partition(": ")[2]: n for why, n in left_out.items()},
        "changed": {why: n for why, n in counts.items() if why not in left_out},
        "tokens": audit["roles"], "languages": audit["languages"],
        "findings": [{name: one[name] for name in ("name", "count", "against")} for one in audit["findings"]],
    }  # fmt: skip


def _source_line(source: Mapping[str, Any]) -> str:
    spec = source["spec"] if source["kind"] == "hub" else source["spec"].rstrip("/").rpartition("/")[2]
    known = f", sha256 {source['sha256'][:SHOWN]}" if source["sha256"] else ""
    known += f", revision {source['revision']}" if source["revision"] else ""
    share = f", {source['share']:.0%} of an epoch" if "share" in source else ""
    return f"{spec} ({source['format']}{known}): {source['kept']:,} of {source['rows']:,} rows{share}"


def _counts_line(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: {', '.join(f'{why} ({n:,})' for why, n in counts.items())}" if counts else ""
