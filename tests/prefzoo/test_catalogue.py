"""The catalogue: everything in it, in three formats, and nothing that a browser would take for markup or fetch."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner

from prefzoo import losses
from prefzoo.catalogue.guide import situations
from prefzoo.catalogue.pages import FORMATS, LEGEND, UNCITED, catalogue
from prefzoo.cli import cli, complete, main
from prefzoo.cli.losses import show_advice, show_losses
from prefzoo.errors import UserError
from prefzoo.losses import SITUATIONS, Loss, Modifier, Sum
from prefzoo.types import LogProbs

ALL = list(losses.all_losses())
WHOLE = [*ALL, *losses.all_modifiers()]


LISTED = re.compile(r"\[\{\w+: .*?\}\]", re.DOTALL)  # modifiers as a recipe lists them
SOURCE = re.compile(r"[\\`${}]")  # what LaTeX and Markdown have, and readers should not meet


def evil(policy: LogProbs) -> torch.Tensor:
    """<script>alert(1)</script> & more."""
    return policy.margin


@pytest.mark.parametrize("form", FORMATS)
def test_every_loss_is_in_it(form: str) -> None:
    text = catalogue(ALL, form)
    assert all(re.search(rf"\W{loss.name}\W", text) for loss in ALL)
    assert {"md": r"\log\sigma", "json": "log σ(βh)", "html": "<mi>σ</mi>"}[form] in text


def test_json_says_what_the_registry_says() -> None:
    models = {one["name"]: one for one in json.loads(catalogue(ALL, "json"))}
    assert set(models) == set(losses.names())
    hinge = models["hinge"]
    assert hinge["knobs"] == [{"name": "beta", "bounds": "> 0", "default": 0.05, "grid": [0.05, 0.1]}]
    assert hinge["formula"] == "L = max(0, 1 − βh),  h = (c − r) − (c₀ − r₀)"
    assert hinge["latex"] == r"L = \max(0, 1 - \beta h), \quad h = (c - r) - (c_0 - r_0)"
    assert models["kto"]["needs"]["mismatched"] == "Mismatched" and models["bco"]["state"] == "RunningMean"


def test_markdown_marks_the_provisional_ones() -> None:
    text = catalogue(ALL, "md")
    assert (
        "### `chi_po` (provisional)" in text
        and "### `simper`\n" in text
        and "### `dpo`\n" in text
        and text.startswith(f"# {len(ALL)} preference losses")
    )


def test_what_was_not_read_is_said_and_not_made_up() -> None:
    for name, cited, tuned in (("sampo", "10957, Eq. 10", "| beta | 0.1 | > 0 | 0.1, 0.5 |"), ("r_dpo", UNCITED, "")):
        text = catalogue([losses.get(name)], "md")
        assert cited in text and tuned in text and LEGEND in text
    assert "| beta | 0.1 | > 0 | - |" in catalogue([losses.get("dpo_ref_free")], "md")
    assert html.escape(LEGEND) in catalogue(ALL, "html")
    assert all(re.search(r"Eq\. \d|Section \d|authors' (code|README)|^$", loss.equation) for loss in ALL)


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


@pytest.mark.parametrize("form", FORMATS)
def test_modifiers_have_a_group_of_their_own(form: str) -> None:
    text = catalogue(WHOLE, form)
    assert all(re.search(rf"\W{one.name}\W", text) for one in losses.all_modifiers())
    if form == "json":
        models = {one["name"]: one for one in json.loads(text) if one["group"] == "modifiers"}
        assert models["dr"]["excludes"] == ["kl"] and models["dr"]["changes"] == "the values of a loss"
        assert models["humanline"]["needs"]["reference"] == "TokenLogProbs or TokenAnswers"
        return
    head = f"{len(ALL)} preference losses and {len(WHOLE) - len(ALL)} modifiers"
    assert head in text and "[{humanline: {}}, {dr: {beta: 1}}]" in text


@pytest.mark.parametrize("one", WHOLE, ids=lambda one: one.name)
def test_no_loss_shows_latex_or_backticks(one: Loss | Modifier, capsys: pytest.CaptureFixture[str]) -> None:
    show_losses(one.name)
    text = LISTED.sub("", capsys.readouterr().out)
    assert not SOURCE.search(text) and one.name in text and re.search("\n    [Lc]", text)
    plain = {key: value for key, value in json.loads(catalogue([one], "json"))[0].items() if key != "latex"}
    assert not SOURCE.search(
        json.dumps(list(plain.values()), ensure_ascii=False).replace("{", "").replace("}", "").replace('\\"', "")
    )
    page = LISTED.sub("", catalogue([one], "html").split("</style>")[1])
    assert not SOURCE.search(page)
    formulas = re.findall(r"<math.*?</math>", page)
    assert formulas
    for formula in formulas:
        ElementTree.fromstring(formula)
    for script in ("msub", "msup", "mfrac", "mover"):  # each takes exactly two parts
        assert all(len(part) == 2 for formula in formulas for part in ElementTree.fromstring(formula).iter(script))


def test_the_list_has_summaries_and_what_losses_need(capsys: pytest.CaptureFixture[str]) -> None:
    show_losses(None)
    text = capsys.readouterr().out
    assert not SOURCE.search(
        LISTED.sub("", text.replace("`prefzoo losses NAME`", "").replace("`prefzoo losses --guide`", ""))
    )
    words = " ".join(text.split())
    assert "simper Inverse perplexity of the rejected" in words
    assert "arXiv" not in words and re.search(r"kto .* single answers", words) and "Rafailov" not in words
    assert not [name for name in losses.names() if not re.search(rf"^ {name} ", text, re.MULTILINE)]


def test_completion_has_no_latex_either() -> None:
    assert not [summary for summary in complete.known_losses().values() if SOURCE.search(summary)]


def test_the_guide_recommends_what_is_there_and_fits() -> None:
    assert len(SITUATIONS) >= 10
    for one in SITUATIONS:
        for name, reason in one.picks:
            loss = losses.look_up(name)
            fits = isinstance(loss, Sum | Modifier) or one.fits is None or one.fits(loss)
            assert reason and fits, (one.title, name)
        assert not set(dict(one.picks)) & set(one.others(ALL))
    named = {name for one in SITUATIONS for name in dict(one.picks)}
    unpaired, scored = ({x.name for x in ALL if getattr(x, key)} for key in ("unpaired", "needs_scores"))
    assert unpaired <= named and {"dpo", "cdpo", "robust", "kto", "r_dpo", "simpo", "dpop", "wpo", "odpo"} <= named
    assert scored - named <= {name for one in SITUATIONS for name in one.others(ALL)}


def test_the_guide_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_advice(None, guide=True)
    text = capsys.readouterr().out
    assert not SOURCE.search(text)
    for one in SITUATIONS:
        assert " ".join(one.title.split()) in " ".join(text.split())
    assert text.count("source: ") == len(SITUATIONS) and "2403.00409" in text
    assert all(one["source"] for one in situations()) and "2404.05868" in text  # that of `npo + sft` is its terms'
    show_advice("kto", guide=True)
    about_kto = capsys.readouterr().out
    assert "Thumbs only" in about_kto and "Noisy labels" not in about_kto
    show_advice("aot", guide=True)
    assert "aot is in no list of the guide" in capsys.readouterr().out
    show_advice("odpo", guide=True, as_json=True)
    (scores,) = json.loads(capsys.readouterr().out)
    assert (
        scores["losses"][0]["name"] == "odpo"
        and scores["others"] == ["dpo_davidson", "rpo_fwd_kl", "uni_dpo"]
        and "2402.10571" in scores["source"]
    )
    with pytest.raises(UserError, match="did you mean 'dpo'"):
        show_advice("dpoo", guide=True)


def test_the_page_begins_with_the_guide_and_links_it_to_the_losses() -> None:
    page = catalogue(WHOLE, "html")
    for one in SITUATIONS:
        assert html.escape(one.title) in page
    anchors, links = set(re.findall(r"id='?([\w-]+)'?", page)), set(re.findall(r"href='#([\w-]+)'", page))
    assert links <= anchors and "guide" in links
    assert "Which loss to try" not in catalogue([losses.get("dpo")], "html")
    assert "## Which loss to try" in catalogue(ALL, "md")


@pytest.mark.slow
def test_listing_losses_reads_no_recipes_and_no_data() -> None:
    code = (
        "import sys; from prefzoo.cli.losses import show_losses; show_losses('dpo'); "
        "heavy = {'prefzoo.recipe.load', 'prefzoo.data.schemas', 'transformers', 'pandas', 'scipy'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_meanings_of_a_name_are_told_with_their_sources() -> None:
    tools = {"TRL", "LLaMA-Factory", "axolotl", "OpenRLHF", "NeMo-RL", "open-instruct", "ms-swift", "oxRL"}
    assert {one.tool for one in losses.PEERS} == tools and {one.ours for one in losses.PEERS} <= set(losses.names())
    assert all(re.match(r"[\w.-]+/[\w.-]+(#\d+$|: \w)", one.source) for one in losses.PEERS)
    result = CliRunner().invoke(cli, ["losses", "--traps"])
    assert result.exit_code == 0 and "sigmoid with label_smoothing trains dpo" in result.output
    assert all(one.source in result.output.replace("\n", "") for one in losses.PEERS if len(one.source) < 60)
    rows = json.loads(CliRunner().invoke(cli, ["losses", "ipo", "--traps", "--json"]).output)
    assert {(row["tool"], row["ours"]) for row in rows} == {
        ("TRL", "ipo_mean"), ("LLaMA-Factory", "dpo_norm"), ("OpenRLHF", "ipo"), ("ms-swift", "ipo_mean"),
        ("axolotl", "ipo_mean"),
    }  # fmt: skip
    assert "No other meaning of npo is known" in CliRunner().invoke(cli, ["losses", "npo", "--traps"]).output
    both = CliRunner().invoke(cli, ["losses", "--traps", "--guide"])
    assert isinstance(both.exception, UserError) and "print one at a time" in str(both.exception)
    for form in ("md", "html"):
        assert "huggingface/trl#3906" in catalogue(ALL, form) and "huggingface/trl#3906" not in catalogue(ALL[:1], form)
