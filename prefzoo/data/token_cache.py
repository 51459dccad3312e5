"""Tokenise a data set once: chunk by chunk into Arrow files in the user's cache, found again by their content.

A killed run goes on after its last whole chunk; changed rows cost their own chunks alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from prefzoo.data.chat import check_variables
from prefzoo.data.examples import Example
from prefzoo.data.faults import Faults
from prefzoo.data.mixtures import Origins
from prefzoo.data.roles import roles_of
from prefzoo.data.schemas import Normalised
from prefzoo.data.stored import Chunk, Stored, find_chunk, read_about, write_chunk
from prefzoo.data.tokenising import Reading, check_kept, encode_row, fit_row
from prefzoo.data.tokens import TokenExample, Tokenised, TooLong
from prefzoo.errors import UserError
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.paths import cache_dir
from prefzoo.runtime.progress import Report
from prefzoo.runtime.versions import version_of

CHUNK = 5_000  # rows of a file
HELD = 50_000  # examples that are held in memory; those of a larger data set stay in their files


@dataclass(frozen=True)
class Tokeniser:
    """All that the token ids of a row depend on besides the row.

    Attributes:
        tokenizer: of transformers.
        max_length, too_long: as for `tokenise`.
        reading: which turns are scored, and what the chat template is given.
    """

    tokenizer: Any
    max_length: int
    too_long: TooLong
    reading: Reading

    @property
    def key(self) -> str:
        """Hash of everything, the code and the versions included."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        versions = [version_of(name) for name in ("transformers", "tokenizers", "jinja2")]
        special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
        template = json.dumps(tokenizer.chat_template, default=str)
        reading = json.dumps(asdict(self.reading), sort_keys=True, default=str)
        return key_of([text, template, special, self.max_length, self.too_long, reading, versions, _code()])

    def chunk(self, examples: Sequence[Example], first: int, report: Report | None = None) -> Chunk:
        """Tokenise some examples, and count their tokens by role.

        Args:
            examples: in order.
            first: row at which the chunk begins.
            report: called after each with (examples done, all, "").

        Returns:
            The chunk.
        """
        chunk = Chunk()
        for position, example in enumerate(examples):
            try:
                tokens = encode_row(self.tokenizer, example, self.reading, chunk.counts)
            except UserError as e:
                chunk.faults += [(position, line) for line in e.lines]
                continue
            if tokens is not None:
                chunk.measure(len(tokens))
                tokens = fit_row(tokens, self.max_length, self.too_long, chunk.counts)
            if tokens is not None:
                chunk.kept.append(replace(tokens, row=tokens.row - first))
                for roles in roles_of(example, tokens, self.tokenizer, self.reading):
                    chunk.roles.update(roles)
            if report:
                report(position + 1, len(examples), "")
        return chunk


def tokenise_once(
    data: Normalised, tokeniser: Tokeniser, spec: str, faults: Faults, report: Report | None = None
) -> Tokenised[TokenExample]:
    """Tokenise a data set, or read what an earlier run tokenised of it.

    Args:
        data: as it was read.
        tokeniser: how.
        spec: name of the data set, for messages.
        faults: takes the rows that the template refuses.
        report: called with (examples done, all examples, "").

    Returns:
        As `tokenise`, with the number of tokens by role.

    Raises:
        UserError: as `tokenise`.
    """
    check_variables(tokeniser.tokenizer, tokeniser.reading.variables, "data.chat_template_kwargs")
    folder, settings = cache_dir("tokens"), tokeniser.key
    whole, files = Chunk(), []
    done = 0
    for first, examples in _chunks(data):
        path, about = _chunk(folder, settings, tokeniser, examples, first)
        files.append((path, first))
        whole.counts += about.counts
        whole.roles += about.roles
        for length in filter(None, (about.shortest, about.longest)):
            whole.measure(length)
        for position, line in about.faults:
            example = examples[position]
            faults.add(data.place(spec, example.row), line, asdict(example))
        done += len(examples)
        if report:
            report(done, len(data.examples), "")
    faults.settle()
    kept = Stored(files)
    check_kept(len(kept), whole.counts, (whole.shortest, whole.longest), tokeniser.max_length, spec)
    return Tokenised(kept if len(kept) > HELD else list(kept), whole.counts, dict(whole.roles))


def _chunks(data: Normalised) -> Iterator[tuple[int, list[Example]]]:
    """Yield the first row and the examples of each chunk.

    A row of a source is in the same chunk whichever rows are left out, and whatever other sources there are.
    """
    examples: Sequence[Example] = data.examples
    for first, chunk in groupby(examples, lambda example: _first_of_chunk(data.origins, example.row)):
        yield first, list(chunk)


def _first_of_chunk(origins: Origins | None, row: int) -> int:
    source = 0 if origins is None else origins.parts[origins.number(row)].first
    return source + (row - source) // CHUNK * CHUNK


def _chunk(
    folder: Path, settings: str, tokeniser: Tokeniser, examples: Sequence[Example], first: int
) -> tuple[Path, Chunk]:
    """Return the file of a chunk, tokenised now unless it is there, and what is known of it."""
    key = _key(settings, examples, first)
    path = find_chunk(folder, key)
    if path is not None:
        return path, read_about(path)
    chunk = tokeniser.chunk(examples, first)
    return write_chunk(folder, key, chunk), chunk


def _key(settings: str, examples: Sequence[Example], first: int) -> str:
    digest = hashlib.sha256(settings.encode())
    for example in examples:
        content = {**vars(example), "row": example.row - first}
        digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


@cache
def _code() -> str:
    """Hash of the files of this package: an edited rule makes other tokens."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
