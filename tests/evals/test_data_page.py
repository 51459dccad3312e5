"""The audit of data as a page: whole, escaped, fetching nothing, with each token's role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo as called
from test_report_page import HOSTILE, outline

from prefzoo.data.audit import AuditedData, read_and_audit
from prefzoo.data.reading import DataSource
from prefzoo.data.tokenising import Reading
from prefzoo.evals.report.data_page import MOST, PAIRS, page

ALL = Reading()


def read(folder: Path, tokenizer: Any, rows: list[Any]) -> AuditedData:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_and_audit(DataSource("d.jsonl"), folder, tokenizer, 99999, "drop")


def message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def test_every_token_is_shown_with_its_role(tiny_tokenizer: Any, tmp_path: Path) -> None:
    answer = [message("assistant", "one"), message("user", "more"), message("assistant", "two")]
    rows = [{"prompt": [message("system", "s"), message("user", "q")], "chosen": answer, "rejected": []}]
    rows[0]["rejected"] = [message("assistant", "no")]
    html = page("name", {"train": read(tmp_path, tiny_tokenizer, rows)}, tiny_tokenizer, ALL)
    for style, text in (
        ("system", "s"), ("user", "q"), ("scored", "one&lt;|im_end|&gt;"), ("user", "more"),
        ("scored", "two&lt;|im_end|&gt;"), ("scored", "no&lt;|im_end|&gt;"),
    ):  # fmt: skip
        assert f'<span class="role {style}"' in html and f">{text}</span>" in html, text


def test_numbers_findings_and_ten_rows_from_all_over_the_data(tiny_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "good one", "rejected": "bad"} for i in range(39)]
    rows.append({"prompt": "p0", "chosen": "bad", "rejected": "good one"})
    shown = outline(page("my data", {"train": read(tmp_path, tiny_tokenizer, rows)}, tiny_tokenizer, ALL))
    first, second = " ".join(shown.texts["train"].split()), " ".join(shown.texts["train-rows"].split())
    assert "another row has the same pair the other way round2rows 1 and 40" in first
    assert "data.drop: [contradictions]" in first and "Tokens by role" in first and "Latin script" in first
    assert [n for n in range(1, 41) if f"Row {n} " in second] == [1 + 4 * i for i in range(PAIRS)]


def test_single_answers_and_long_ones(tiny_tokenizer: Any, tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "completion": "x" * 2 * MOST, "label": True},
        {"prompt": "p", "completion": "y", "label": False},
    ]
    html = page("n", {"train": read(tmp_path, tiny_tokenizer, rows)}, tiny_tokenizer, ALL)
    shown = " ".join(outline(html).texts["train-rows"].split())
    assert (
        f"… {MOST + 1} more tokens" in shown and "undesirable, 2 of 2 tokens scored" in shown and "chosen" not in shown
    )


def test_no_text_of_the_data_is_markup_and_nothing_is_fetched(tiny_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": HOSTILE, "chosen": f"a{HOSTILE}", "rejected": "b", "other": HOSTILE}]
    data = read(tmp_path, tiny_tokenizer, rows)
    html = page(HOSTILE, {"train": data}, tiny_tokenizer, ALL)
    assert not {"script", "img"} & {*outline(html).tags} and "{{ 7 * 7 }}" in html
    assert not [a for a in outline(html).addresses if not a.startswith(("#", "data:,"))]
    assert not [a for a in outline(html).attributes if a.startswith("on")]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("r.yaml", "--html", "--json"), "leave out --json"),
        (("--html", "r.yaml"), "write RECIPE before --html"),
        (("r.yaml", "--html", "x.yaml"), "must end with .html"),
    ],
)
def test_an_option_that_would_be_ignored_or_overwrite_a_recipe_is_refused(
    words: tuple[str, ...], fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "data", *words) == 2 and fault in " ".join(capsys.readouterr().err.split())
