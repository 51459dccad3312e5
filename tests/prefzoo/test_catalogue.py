"""The catalogue: everything in it, in three formats, and nothing that a browser would take for markup or fetch."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pytest
import torch

from prefzoo import losses
from prefzoo.cli import main
from prefzoo.cli.catalogue import FORMATS, LEGEND, UNCITED, catalogue
from prefzoo.losses import Loss
from prefzoo.types import LogProbs

ALL = list(losses.all_losses())


def evil(policy: LogProbs) -> torch.Tensor:
    """<script>alert(1)</script> & more."""
    return policy.margin


@pytest.mark.parametrize("form", FORMATS)
def test_every_loss_is_in_it(form: str) -> None:
    text = catalogue(ALL, form)
    assert all(re.search(rf"\W{found.name}\W", text) for found in ALL)
    assert "\\log\\sigma" in text.replace("\\\\", "\\")


def test_json_says_what_the_registry_says() -> None:
    found = {one["name"]: one for one in json.loads(catalogue(ALL, "json"))}
    assert set(found) == set(losses.names())
    hinge = found["hinge"]
    assert hinge["knobs"] == [{"name": "beta", "bounds": "> 0", "default": 0.05, "grid": [0.05, 0.1]}]
    assert hinge["formula"] == r"L = \max(0, 1 - \beta h), \quad h = (c - r) - (c_0 - r_0)"
    assert found["kto"]["needs"]["mismatched"] == "Mismatched" and found["bco"]["state"] == "RunningMean"


def test_markdown_marks_the_provisional_ones() -> None:
    text = catalogue(ALL, "md")
    assert (
        "### `chi_po` (provisional)" in text
        and "### `simper`\n" in text
        and "### `dpo`\n" in text
        and text.startswith("# 63 preference losses")
    )


def test_what_was_not_read_is_said_and_not_made_up() -> None:
    for name, cited, tuned in (("sampo", "10957, Eq. 10", "| beta | 0.1 | > 0 | 0.1, 0.5 |"), ("r_dpo", UNCITED, "")):
        text = catalogue([losses.get(name)], "md")
        assert cited in text and tuned in text and LEGEND in text
    assert "| beta | 0.1 | > 0 | - |" in catalogue([losses.get("dpo_ref_free")], "md")
    assert html.escape(LEGEND) in catalogue(ALL, "html")
    assert all(re.search(r"Eq\. \d|Section \d|authors' (code|README)|^$", found.equation) for found in ALL)


def test_html_is_escaped_and_fetches_nothing() -> None:
    text = catalogue([Loss(evil, "<b>bold</b>", traps=("a < b",)), *ALL], "html")
    assert "<script" not in text and "&lt;script&gt;" in text and "<b>" not in text and "a &lt; b" in text
    links = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(value for name, value in attrs if name in ("src", "href"))
            assert tag not in ("script", "link", "img", "iframe")

    Reader().feed(text)
    assert links and all(str(link).startswith("#") for link in links)


def test_the_command_writes_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["prefzoo", "losses", "ipo", "--format", "json"])
    main()
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["ipo"]
