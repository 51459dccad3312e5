"""README and docs: links lead somewhere, recipes load, commands and Python run, and what is listed is what there is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from called import prefzoo

from prefzoo.evals.metrics.registry import Metrics
from prefzoo.recipe.load import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
LONGEST = 150  # lines of the README
# Commands that other tests run.
ELSEWHERE = ("accelerate launch", "prefzoo run recipe.yaml --on ray", "prefzoo pairs", "make", "pip install")
BASE = """\
name: mine
model: ./my-model
data: {train: pairs.jsonl, eval: held_out.jsonl}
train: {batch: 2, steps: 1, precision: fp32}
variants: {dpo: {}, ipo: {}}
evals: {prompts: "instruct:eval:2", max_new_tokens: 2, kl: 0}
"""


def blocks(page: Path, kind: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language == kind]


def commands(page: Path) -> list[str]:
    lines = [line.partition("    #")[0].strip() for text in blocks(page, "sh") for line in text.splitlines()]
    return [line for line in lines if line]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_the_readme_is_short_and_every_page_is_listed() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= LONGEST
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f": {page.name}\n" in navigation
        assert page.stem == "index" or f"docs/{page.name})" in readme
    assert len(LINK.findall(index)) > len(PAGES) / 2


def test_every_metric_is_defined() -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    for metric in Metrics().in_order(list(_built_in())):
        assert f"| `{metric}` |" in text, metric


def _built_in() -> Iterator[str]:
    for path in (ROOT / "evals" / "metrics" / "builtin").glob("*.py"):
        yield from re.findall(r'Metric\(\s*"(\w+)"', path.read_text(encoding="utf-8"))


def test_the_tree_names_every_folder() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The tree")[2]
    named = set(re.findall(r"^ *(\w+)/(?: |$)", tree, re.MULTILINE))
    tops = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name.isidentifier()} - {"runs", "build", "dist"}
    packages = {p.name for top in ("prefzoo", "evals") for p in (ROOT / top).iterdir() if (p / "__init__.py").is_file()}
    assert named == {name for name in tops | packages if not name.startswith("__")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the pages' recipes name."""
    rows = [{"prompt": f"Say {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in range(8)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "pairs.jsonl").write_text(text)
    (tmp_path / "held_out.jsonl").write_text(text.replace("Say", "Tell"))
    (tmp_path / "recipe.yaml").write_text(BASE)
    (tmp_path / "trl.yaml").write_text("model_name_or_path: ./my-model\ndataset_name: pairs.jsonl\nbeta: 0.1\n")
    (tmp_path / "quickstart").write_text(BASE.replace("mine", "quickstart", 1))
    for page in (ROOT / "docs" / "extending.md", ROOT / "docs" / "judges.md"):
        for text in blocks(page, "python"):
            if text.startswith("# my_"):  # the file's name
                (tmp_path / text.split()[1]).write_text(text)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.stem)
def test_recipes_load(page: Path, folder: Path) -> None:
    for text in blocks(page, "yaml"):
        own: dict[str, Any] = yaml.safe_load(text)
        whole = {**yaml.safe_load(BASE), **own}
        (folder / "page.yaml").write_text(text if "name" in own else yaml.safe_dump(whole))
        assert load(folder / "page.yaml").variants


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_of_other_tools_name_what_there_is(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
        elif words[0] == "accelerate":
            assert (ROOT / words[words.index("--config_file") + 1]).is_file(), line
        elif words[0] == "pip":
            assert words[-1] in ("prefzoo", *project["optional-dependencies"]["demo"]), line
        else:
            assert words[0] == "prefzoo", line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and room for the run of `recipe.yaml` that the pages' commands read."""
    return tmp_path_factory.mktemp("docs")


@pytest.fixture
def place(
    folder: Path, finished: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> Path:  # fmt: skip
    """The same, with the model and a finished run."""
    tiny_model.save_pretrained(folder / "my-model")
    tiny_tokenizer.save_pretrained(folder / "my-model")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREFZOO_CACHE", str(finished / "cache"))
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", lambda self: None)
    if not (finished / "results").exists():
        assert prefzoo(monkeypatch, "run", "recipe.yaml", "--results", str(finished / "results")) == 0
    shutil.copytree(finished / "results", folder / "results")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_run(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in commands(page):
        if not line.startswith(ELSEWHERE):
            code = prefzoo(monkeypatch, *shlex.split(line)[1:])
            out = capsys.readouterr()
            assert code == 0, f"{line}\n{out.out}\n{out.err}"


@pytest.mark.slow
def test_python_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks(ROOT / "docs" / "python.md", "python")
    assert len(examples) > 1
    for text in examples:
        exec(compile(text, "python.md", "exec"), {})
        assert capsys.readouterr().out
