from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prefzoo.data.audit import audit
from prefzoo.data.audit_view import render
from prefzoo.data.reading import DataSource

# a digit is one token, EOS one more; BOS + "x" is a prompt of 2
ROWS = [
    {"prompt": "x", "chosen": "123", "rejected": "4", "score_chosen": 1.0, "score_rejected": 1.0},
    {"prompt": "x", "chosen": "123", "rejected": "4", "score_chosen": 1.0, "score_rejected": 0.5},
    {"prompt": "x", "chosen": "1", "rejected": "22", "score_chosen": 1.0, "score_rejected": 0.0},
    {"prompt": "y", "chosen": "1", "rejected": "2", "score_chosen": 1.0, "score_rejected": 0.0},
    {"prompt": "z", "chosen": "123456789", "rejected": "2"},
]


def write(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return "d.jsonl"


def test_counts_by_hand(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    audited = audit(DataSource(write(tmp_path, ROWS)), tmp_path, tiny_plain_tokenizer, 8, "drop")
    assert audited.schema == "explicit prompt, plain strings"
    assert (audited.rows, audited.kept, audited.counts) == (5, 4, {"dropped: too long": 1})
    # kept, with EOS: chosen 4 4 2 2 (mean 12 / 4 = 3), rejected 2 2 3 2 (mean 9 / 4 = 2.25)
    assert (audited.chosen.mean, audited.chosen.median, audited.chosen.p95, audited.chosen.longest) == (3, 3, 4, 4)
    assert (audited.rejected.mean, audited.rejected.median, audited.rejected.p95, audited.rejected.longest) == (
        2.25,
        2,
        3,
        3,
    )
    assert (audited.chosen_longer, audited.rejected_longer) == (0.5, 0.25)  # rows 1, 2 and row 3 of four
    assert (audited.duplicates, audited.repeated_prompts, audited.ties) == (1, 2, 1)


def test_p95_is_the_nearest_rank(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "x", "chosen": "1" * n, "rejected": "2"} for n in range(1, 21)]
    audited = audit(DataSource(write(tmp_path, rows)), tmp_path, tiny_plain_tokenizer, 99, "drop")
    assert audited.chosen.p95 == 19 + 1  # the 19th of 20 (0.95 * 20), with its EOS


def test_example_is_the_first_kept_pair_with_its_parts(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    audited = audit(DataSource(write(tmp_path, ROWS[4:] + ROWS[:1])), tmp_path, tiny_plain_tokenizer, 8, "drop")
    text = {part: "".join(t for p, t in audited.example if p == part) for part in ("prompt", "chosen", "rejected")}
    assert text == {"prompt": "<s>x\n", "chosen": "123<|im_end|>\n", "rejected": "4<|im_end|>\n"}


def shown(audited: Any, *, colour: bool) -> str:
    out = io.StringIO()
    system = "standard" if colour else None
    render(audited, Console(file=out, width=120, force_terminal=colour, color_system=system, no_color=not colour))
    return out.getvalue()


def test_rendering_says_it_all_and_reads_no_markup(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "[bold]x[/red]", "chosen": "[/]", "rejected": "[blue]"}, {**ROWS[4], "prompt": "[bold]x[/red]"}]
    audited = audit(DataSource(write(tmp_path, rows)), tmp_path, tiny_plain_tokenizer, 26, "drop")
    text = shown(audited, colour=False)
    assert "<s>[bold]x[/red]" in text and "[/]<|im_end|>" in text and "[blue]<|im_end|>" in text
    assert "d.jsonl: explicit prompt, plain strings, 2 rows, 2 used" in text
    assert "ties (equal scores): no scores in the rows" in text and "nothing dropped" in text


def test_dropped_rows_are_said_and_scored_tokens_coloured(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    audited = audit(DataSource(write(tmp_path, ROWS)), tmp_path, tiny_plain_tokenizer, 8, "drop")
    assert "1 dropped: too long" in shown(audited, colour=False)
    assert "duplicates: 1 · rows with a prompt seen before: 2" in shown(audited, colour=False)
    assert "\x1b[32m" in shown(audited, colour=True) and "\x1b[31m" in shown(audited, colour=True)  # green, red


SINGLE = [
    {"prompt": "x", "completion": "12", "label": False},
    {"prompt": "x", "completion": "123", "label": True},
    {"prompt": "x", "completion": "12", "label": False},
    {"prompt": "y", "completion": "1", "label": True},
    {"prompt": "y", "completion": "1234", "label": False},
]


def test_single_answers_are_counted_by_label(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    audited = audit(DataSource(write(tmp_path, SINGLE)), tmp_path, tiny_plain_tokenizer, 99, "drop")
    assert audited.single and audited.schema == "single labelled answers, plain strings"
    # with EOS: desirable 4 2, undesirable 3 3 5
    assert (audited.chosen.n, audited.chosen.mean, audited.chosen.longest) == (2, 3, 4)
    assert (audited.rejected.n, audited.rejected.median, audited.rejected.longest) == (3, 3, 5)
    assert (audited.duplicates, audited.repeated_prompts) == (1, 3)
    assert "".join(token for _, token in audited.example) == "<s>x\n123<|im_end|>\n<s>x\n12<|im_end|>\n"
    text = shown(audited, colour=False)
    assert "5 rows, 5 used (2 desirable, 3 undesirable)" in text and "first answer of each label: prompt" in text
    rows = [line.replace("│", " ").split() for line in text.splitlines() if "desirable " in line and "│" in line]
    assert rows == [["desirable", "3.0", "3", "4", "4", "2"], ["undesirable", "3.7", "3", "5", "5", "3"]]
    assert not {"chosen", "rejected", "ties"} & set(text.replace(":", " ").split())


@pytest.mark.parametrize(("label", "word"), [(True, "desirable"), (False, "undesirable")])
def test_single_answers_of_one_label_only(label: bool, word: str, tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    rows = [row for row in SINGLE if row["label"] is label]
    text = shown(audit(DataSource(write(tmp_path, rows)), tmp_path, tiny_plain_tokenizer, 99, "drop"), colour=False)
    assert f"every answer is {word}: there is nothing to compare it with" in text


@pytest.mark.parametrize("column", ["good", "chosen"])
def test_columns_reach_the_reader(column: str, tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "x", column: "1", "rejected": "2"}]
    assert (
        audit(DataSource(write(tmp_path, rows), {"chosen": column}), tmp_path, tiny_plain_tokenizer, 9, "drop").kept
        == 1
    )
