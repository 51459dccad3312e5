"""`prefzoo pairs`: make preference data from a model and a judge."""

from __future__ import annotations

from typing import Any

import click

from prefzoo.cli.options import ENGINE, FILE, JUDGE, QUIET, TEMPLATE


@click.command("pairs")
@click.option("--model", required=True, help="Hub id, folder, .gguf file or package://module/file.gguf.")
@click.option("--prompts", required=True, help="instruct:train[:N], instruct:eval[:N], or a file of prompts.")
@JUDGE
@click.option("--n", type=click.IntRange(2), default=8, show_default=True, help="Answers sampled per prompt.")
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--length-ratio", type=click.FloatRange(1), help="Largest ratio of the longer answer's words to the shorter's."
)
@click.option("--least-score", type=float, help="Lowest score of the better answer.")
@click.option("--limit", type=click.IntRange(1), help="Write at most this many pairs.")
@click.option("--out", type=FILE, required=True, help="A .jsonl or .parquet file.")
@ENGINE
@TEMPLATE
@QUIET
def command(
    n: int, temperature: float, seed: int, max_new_tokens: int, chat_template_kwargs: dict[str, Any] | None,
    quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Make preference pairs from a model's own answers.

    Answers are sampled and judged, and the best is paired with the worst.

    A judge that scores answers is asked once for each; any other compares every two of a prompt's answers. Repeated,
    empty and unfinished answers are left out, and so are prompts whose answers tie; the card beside the file counts
    them. Under the verifier, --length-ratio is 1.4 and --least-score 0.7 unless given.
    """
    from prefzoo.evals.generation.pairs import Sampling
    from prefzoo.experiment.sampled_pairs import Wanted, write

    sampling = Sampling(n, temperature, seed, max_new_tokens)
    write(Wanted(sampling=sampling, variables=chat_template_kwargs or {}, **options), quiet=quiet)
