"""Tokenise a data set once, in chunks that are cached as Arrow files under a hash of their rows and settings.

A killed run resumes after the last chunk that it wrote. If rows change, only their chunks are tokenised again. The
chunks of a large data set are tokenised on several cores.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import chain, groupby
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
from prefzoo.runtime.workers import Workers, usable_cores

CHUNK = 5_000  # rows per chunk
ALONE = 2  # most chunks that one process tokenises alone, as starting others would take longer
HELD = 50_000  # most examples that are loaded into memory; those of a larger data set stay in their files


@dataclass(frozen=True)
class Tokeniser:
    """The settings that determine the token ids of a row.

    Attributes:
        tokenizer: a transformers tokenizer.
        max_length, too_long, reading: as for `tokenise`.
    """

    tokenizer: Any
    max_length: int
    too_long: TooLong
    reading: Reading

    @property
    def key(self) -> str:
        """Hash of the settings, of the code of this package, and of the versions of its dependencies."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        versions = [version_of(name) for name in ("transformers", "tokenizers", "jinja2")]
        special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
        template = json.dumps(tokenizer.chat_template, default=str)
        reading = json.dumps(asdict(self.reading), sort_keys=True, default=str)
        return key_of([text, template, special, self.max_length, self.too_long, reading, versions, _code()])

    def chunk(self, examples: Sequence[Example], first: int) -> Chunk:
        """Tokenise the examples of a chunk, and count their tokens by role.

        Args:
            examples: the examples, in order.
            first: index of the chunk's first row in the data set.

        Returns:
            The chunk.
        """
        chunk = Chunk()
        for position, example in enumerate(examples):
            try:
                tokens = encode_row(self.tokenizer, example, self.reading, chunk.counts)
                if tokens is not None:
                    chunk.measure(len(tokens))
                    tokens = fit_row(tokens, self.max_length, self.too_long, chunk.counts)
                if tokens is not None:
                    roles = roles_of(example, tokens, self.tokenizer, self.reading)
            except UserError as e:  # `roles_of` can fail on the prompt's turns
                chunk.faults += [(position, line) for line in e.lines]
                continue
            if tokens is not None:
                chunk.kept.append(replace(tokens, row=tokens.row - first))
                chunk.roles.update(chain.from_iterable(roles))
        return chunk


def tokenise_once(
    data: Normalised, tokeniser: Tokeniser, spec: str, faults: Faults, report: Report | None = None
) -> Tokenised[TokenExample]:
    """Tokenise a data set, using the cached chunks of earlier runs.

    Args:
        data: the data set.
        tokeniser: the tokenizer and its settings.
        spec: name of the data set, for messages.
        faults: collects the rows that the template refuses.
        report: called with (examples done, all examples, "") after each chunk.

    Returns:
        The same as `tokenise`, and the number of tokens by role.

    Raises:
        UserError: see `tokenise`.
    """
    check_variables(tokeniser.tokenizer, tokeniser.reading.variables, "data.chat_template_kwargs")
    whole, files = Chunk(), []
    done = 0
    for first, size, path, about in _files(data, tokeniser):
        files.append((path, first))
        whole.counts += about.counts
        whole.roles += about.roles
        for length in filter(None, (about.shortest, about.longest)):
            whole.measure(length)
        for position, line in about.faults:
            example = data.examples[done + position]
            faults.add(data.place(spec, example.row), line, asdict(example))
        done += size
        if report:
            report(done, len(data.examples), "")
    faults.settle()
    kept = Stored(files)
    check_kept(len(kept), whole.counts, (whole.shortest, whole.longest), tokeniser.max_length, spec)
    return Tokenised(kept if len(kept) > HELD else list(kept), whole.counts, dict(whole.roles))


def _files(data: Normalised, tokeniser: Tokeniser) -> Iterator[tuple[int, int, Path, Chunk]]:
    """Yield (first row, number of examples, file, chunk without its examples) for each chunk, in order.

    Chunks that are not cached are tokenised first, several at a time if the data set is large.
    """
    folder, settings = cache_dir("tokens"), tokeniser.key
    waiting: deque[tuple[int, int, Path | Future[Path]]] = deque()
    count = usable_cores() if len(data.examples) > ALONE * CHUNK else 1
    with Workers(_Write(tokeniser, folder), count) as workers:
        for first, examples in _chunks(data):
            key = _key(settings, examples, first)
            place = find_chunk(folder, key) or workers.submit((key, examples, first))
            waiting.append((first, len(examples), place))
            while waiting and (len(waiting) > workers.count or workers.count == 1):
                yield _done(*waiting.popleft())
        while waiting:
            yield _done(*waiting.popleft())


def _done(first: int, size: int, place: Path | Future[Path]) -> tuple[int, int, Path, Chunk]:
    path = place.result() if isinstance(place, Future) else place
    return first, size, path, read_about(path)


@dataclass(frozen=True)
class _Write:
    """A function from (key, examples, first row) of a chunk to the file that it writes. Workers run it."""

    tokeniser: Tokeniser
    folder: Path

    def __call__(self, given: tuple[str, Sequence[Example], int]) -> Path:
        key, examples, first = given
        return write_chunk(self.folder, key, self.tokeniser.chunk(examples, first))


def _chunks(data: Normalised) -> Iterator[tuple[int, list[Example]]]:
    """Yield (first row, examples) for each chunk.

    Each source is cut at multiples of `CHUNK` rows, so leaving rows out or adding sources moves no row to another
    chunk.
    """
    examples: Sequence[Example] = data.examples
    for first, chunk in groupby(examples, lambda example: _first_of_chunk(data.origins, example.row)):
        yield first, list(chunk)


def _first_of_chunk(origins: Origins | None, row: int) -> int:
    source = 0 if origins is None else origins.parts[origins.number(row)].first
    return source + (row - source) // CHUNK * CHUNK


def _key(settings: str, examples: Sequence[Example], first: int) -> str:
    digest = hashlib.sha256(settings.encode())
    for example in examples:
        content = {**vars(example), "row": example.row - first}
        digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


@cache
def _code() -> str:
    """Return a hash of the modules in this folder, as an edit may change the tokens."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
