"""Write a model card beside every checkpoint, in the hub's format: the model, its training and its results."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefzoo.losses import AnyLoss, Loss, Modifier
from prefzoo.recipe.data_paths import paths_of
from prefzoo.runtime.run_folders import ADAPTER, RunResult, write_text

HERE = "path/to/this/folder"  # stands in the card where its own place is meant
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})", re.IGNORECASE)
MARKS = re.compile(r"([\\`*_\[\]|~#$])")
SYMBOLS = (
    "c, r: the policy's log-probs of the chosen and the rejected answer, summed over tokens; c_0, r_0: the "
    "reference's; |w|, |l|: the answers' token counts; h = (c - r) - (c_0 - r_0)."
)
HEADS = ("metric", "value", "the base's", "n", "measured on", "by")


@dataclass(frozen=True)
class About:
    """The facts for a card.

    Attributes:
        recipe: the resolved one, as plain values.
        folder: the recipe's folder: a path that exists there is not a hub id.
        results: metric, value with interval, the base's, n, what it was measured on, and by whom; as text.
        data: lines on the training data.
        verdict: the verdict of the run's leaderboard on all variants.
    """

    result: RunResult
    loss: AnyLoss
    recipe: Mapping[str, Any]
    folder: Path
    results: Sequence[Sequence[str]] = ()
    data: Sequence[str] = ()
    verdict: str = ""


def hub_id(spec: str, folder: Path) -> str | None:
    """Return the spec, without a split after a colon, if it is a hub id and not the name of a file or folder."""
    name = spec.partition(":")[0]
    return name if HUB_ID.fullmatch(name) and not (folder / spec).exists() and "//" not in spec else None


def write(about: About, checkpoint: Path) -> None:
    """Write `README.md` into the checkpoint's folder."""
    write_text(checkpoint / "README.md", card(about, adapter=(checkpoint / ADAPTER).is_file()))


def card(about: About, *, adapter: bool) -> str:
    """Return the card's text: YAML front matter, then Markdown. Text from recipes and data is no markup in it."""
    from huggingface_hub import ModelCard, ModelCardData

    base = hub_id(about.recipe["model"], about.folder)
    data = [hub_id(path, about.folder) for path in paths_of(about.recipe["data"]["train"])]
    papers = ARXIV.findall(about.loss.paper)
    front = ModelCardData(
        base_model=base,
        datasets=[name for name in data if name] or None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["prefzoo", "preference-optimization", *_names(about.loss), *(["lora"] if adapter else [])]
        + [f"arxiv:{paper}" for paper in papers],
    )
    parts = [_head(about, adapter=adapter), _loading(adapter=adapter), _loss(about), _training(about)]
    parts += [_results(about), _made(about)]
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"))


def safe(text: Any) -> str:
    """Return text that Markdown and HTML show unchanged, on one line."""
    return MARKS.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def _names(loss: AnyLoss) -> list[str]:
    return [term.name for _, term in loss.terms] + [one.name for one in loss.modifiers]


def _shown(spec: str, folder: Path) -> str:
    """Return a link to a hub id; of a path, only the last part: the rest is private to its author."""
    kind = hub_id(spec, folder)
    return f"`{spec}`" if kind else safe(spec if "://" in spec else Path(spec).name)


def _head(about: About, *, adapter: bool) -> str:
    model = _shown(about.recipe["model"], about.folder)
    kind = "A LoRA adapter for" if adapter else "A fine-tuned version of"
    data = ", ".join(_shown(path, about.folder) for path in paths_of(about.recipe["data"]["train"]))
    return (
        f"# {safe(about.result.variant)}\n\n{kind} {model}, trained on preferences ({data}) with the loss "
        f"{safe(about.loss.name)} by prefzoo, as one of the variants of the recipe {safe(about.recipe['name'])}.\n\n"
        "The license is not set: the base model's and the data's decide; write it into the front matter before sharing."
    )


def _loading(*, adapter: bool) -> str:
    package, kind = ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    imports = f"from transformers import {kind}, AutoTokenizer"
    if adapter:
        imports = f"from {package} import {kind}\nfrom transformers import AutoTokenizer"
    code = f'{imports}\n\nmodel = {kind}.from_pretrained("{HERE}")\ntokenizer = AutoTokenizer.from_pretrained("{HERE}")'
    return f"## Loading\n\n```python\n{code}\n```\n\nIf the base has a chat template, it is in the tokenizer."


def _loss(about: About) -> str:
    loss = about.loss
    parts = ["## Loss"]
    for weight, term in loss.terms:
        parts += _formula(f"{weight:g} times {safe(term.name)}: " if len(loss.terms) > 1 else "", term)
    for one in loss.modifiers:
        parts += _formula(f"Modified by {safe(one.name)}: ", one)
    return "\n\n".join([*parts, safe(SYMBOLS)])


def _formula(head: str, one: Loss | Modifier) -> list[str]:
    """Return what a loss or modifier does, its formula and its citation."""
    formula = re.search(r"\$\$(.*?)\$\$", one.doc, re.DOTALL)
    parts = [head + _prose(one.doc[: formula.start()] if formula else one.doc).rstrip()]
    parts += [f"$$ {' '.join(formula.group(1).split())} $$"] if formula else []
    cited = safe(one.paper) + (f", {safe(one.equation)}" if one.equation else "")
    links = " ".join(f"[arXiv:{i}](https://arxiv.org/abs/{i})" for i in dict.fromkeys(ARXIV.findall(one.paper)))
    parts += [f"Citation: {cited}" + (f" ({links})" if links else "")] if one.paper else []
    return parts + ([f"Provisional: {safe(one.provisional)}"] if one.provisional else [])


def _prose(text: str) -> str:
    """Return a docstring's words, with formulas between dollars in the hub's spelling."""
    parts = re.split(r"\$([^$]+)\$", text)
    return "".join(rf"\\({' '.join(part.split())}\\)" if i % 2 else _keep(part) for i, part in enumerate(parts))


def _keep(text: str) -> str:
    """Return `safe` text with the blanks at both ends, which join it to a formula."""
    start, end = (" " if text[at : at + 1 or None].isspace() else "" for at in (0, -1))
    return f"{start}{safe(text)}{end}" if text.strip() else text[:1]


def _training(about: About) -> str:
    result = about.result
    rows = [(f"{k}", v) for k, v in _flat({**result.params, "seed": result.seed, **result.train}) if v is not None]
    rows += [("max_length", about.recipe["data"]["max_length"])]
    parts = ["## Training", _table(("setting", "value"), rows)]
    if about.data:
        parts += ["Training data:", "\n".join(f"- {safe(line)}" for line in about.data)]
    return "\n\n".join(parts)


def _results(about: About) -> str:
    if not about.results:
        return ""
    note = "95% intervals over prompts or pairs. They hold only for this seed and these prompts."
    verdict = f"All variants of the run: {safe(about.verdict)}" if about.verdict else ""
    return "\n\n".join(part for part in ("## Results", _table(HEADS, about.results), note, verdict) if part)


def _made(about: About) -> str:
    costs, environment = about.result.costs, about.result.environment
    hardware = environment.get("hardware", {})
    device = hardware.get("gpu") or f"{hardware.get('processor')} ({hardware.get('cores')} cores)"
    versions = ", ".join(f"{k} {v}" for k, v in environment.get("versions", {}).items())
    lines = [f"Hardware: {device}, {environment.get('processes', 1)} process(es)"]
    lines += [f"Training took {costs['seconds']:.0f} s"] if "seconds" in costs else []
    lines += [f"Energy of training: {costs['joules']:,.0f} J"] if "joules" in costs else []
    lines += [f"Peak memory: {costs['peak_memory_bytes'] / 2**30:.1f} GiB"] if "peak_memory_bytes" in costs else []
    lines += [f"Finished: {environment['finished']}"] if environment.get("finished") else []
    lines += [f"Commit of prefzoo: {environment['commit']}"] if environment.get("commit") else []
    lines += [f"Versions: {versions}"] if versions else []
    return "## Made with\n\n" + "\n".join(f"- {safe(line)}" for line in lines)


def _flat(value: Mapping[str, Any], under: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for k, v in value.items():
        if isinstance(v, list) and v and all(isinstance(one, dict) for one in v):  # modifiers, in their order
            flat += [row for one in v for row in _flat(one, f"{under}{k}.")]
            continue
        flat += _flat(v, f"{under}{k}.") if isinstance(v, dict) else [(f"{under}{k}", v)]
    return flat


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(safe(cell) for cell in row) + " |" for row in rows])
