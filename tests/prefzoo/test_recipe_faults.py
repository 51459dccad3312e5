"""What a wrong recipe is told: one line for each fault, with place, value and cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefzoo import losses
from prefzoo.cli import main
from prefzoo.errors import UserError
from prefzoo.recipe.load import load

MINIMAL = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl}\nvariants: {dpo: }\n"
PLUGIN = """
from prefzoo.losses import Positive, loss

@loss(paper="mine")
def recipe_plugin(policy, *, slope: Positive = 1.0):
    return -slope * policy.margin
"""


def complaints(path: Path, *overrides: str) -> list[str]:
    """What load says, without the folder in front of the file's name."""
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    assert all("\n" not in line for line in caught.value.lines)
    return [line.replace(f"{path.parent}/", "") for line in caught.value.lines]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "r.yaml: is empty; a recipe needs name, model, data and variants"),
        ("# nothing\n", "r.yaml: is empty; a recipe needs name, model, data and variants"),
        ("- name: x\n", "r.yaml:1: a recipe is a mapping, and this is a list; write `name: ...`"),
        ("\nhello\n", "r.yaml:2: a recipe is a mapping, and this is the value 'hello'; write `name: ...`"),
        ("name: x\nmodel: [a\ndata: 1\n", "r.yaml:3: not valid YAML: "),
        ("name: x\n\tmodel: y\n", "r.yaml:2: not valid YAML: "),
        ("name: x\nmodel: \x01\n", "r.yaml:2: not valid YAML: character 1 is not allowed; remove it"),
        ("a: &a {b: *a}\n", "r.yaml:1: nested too deeply, or an alias (*) inside its own anchor (&); write it out"),
        (b"name: x\nmodel: \xff\n", "r.yaml: byte 15 (0xff) is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_recipe(write: Any, text: str | bytes, says: str) -> None:
    (line,) = complaints(write(text))
    assert line.startswith(says)


def test_no_file(write: Any, tmp_path: Path) -> None:
    write(MINIMAL)
    assert complaints(tmp_path / "rr.yaml") == ["rr.yaml: no such file; did you mean 'r.yaml'?"]
    assert complaints(tmp_path / "q" / "zzz") == ["zzz: no such file; give the path of a recipe (YAML)"]
    assert complaints(tmp_path / "q" / "quickstrat") == ["quickstrat: no such file; did you mean 'quickstart'?"]
    assert complaints(tmp_path)[0].endswith("is a folder; give the path of a recipe in it")
    assert "cannot be read" in complaints(tmp_path / ("x" * 300))[0]


REFERENCE = (
    "name a model by `reference:`, or leave it out for the untrained `model`; "
    "`prefzoo losses` lists losses that need no reference"
)
FIELDS = (
    "name, seed, seeds, model, reference, trust_remote_code, data, train, variants, rounds, evals, keep, "
    "price_per_hour, sweep"
)
SOME = (
    "there are train, eval, format, columns, on_bad_row, drop, flip_labels, max_length, too_long, score, pairs, "
    "chat_template_kwargs"
)


@pytest.mark.parametrize(
    ("fifth", "says"),
    [
        ("name: twice", "name: given twice, first at line 1; keep one"),
        ("sed: 3", "sed: no such field; did you mean 'seed'?"),
        (
            "zzz: 3",
            f"zzz: no such field; there are {FIELDS}",
        ),
        (
            "folder: x",
            f"folder: no such field; there are {FIELDS}",
        ),
        ("? [a]\n: b", "a key must be plain text, not a list or a mapping; write `key: value`"),
        ("seed: -1", "seed: must be at least 0 (is -1)"),
        ("seed: 4294967296", "seed: must be less than 4294967296 (is 4294967296)"),
        (f"seed: {'9' * 5000}", "seed: a number of 5000 digits is too long; shorten it"),
        ("seed: !!int abc", "seed: cannot read 'abc' as tag:yaml.org,2002:int; leave out the tag"),
        ("seed: !secret 1", "seed: cannot read '1' as !secret; leave out the tag"),
        ("reference: none", f"reference: must be a model (is 'none'); {REFERENCE}"),
        ("train: {reference_free: true}", f"train.reference_free: no such field; {REFERENCE}"),
        ("train: 3", "train: must be a mapping of fields (is 3)"),
        ("train: {batch: 2.5}", "train.batch: must be a whole number (is 2.5)"),
        ("train: {batch: true}", "train.batch: must be a whole number (is true)"),
        ("train: {batch: '8'}", "train.batch: must be a whole number (is '8'); write it without quotes: 8"),
        ("train: {batch: 1_0}", "train.batch: must be a whole number (is '1_0'); write it without quotes: 10"),
        ("train: {batch: }", "train.batch: must be a whole number (is null); leave the field out for its default"),
        ("train: {batch: 0}", "train.batch: must be greater than 0 (is 0)"),
        ("train: {batch: [8]}", "train.batch: must be a whole number (is a list)"),
        ("train: {micro_batch: 3}", "train.micro_batch: must divide batch 8 (is 3); try 1"),
        ("train: {batch: 9, micro_batch: 6}", "train.micro_batch: must divide batch 9 (is 6); try 3"),
        ("train: {epochs: .inf}", "train.epochs: must be a finite number (is inf)"),
        ("train: {epochs: .nan}", "train.epochs: must be a finite number (is nan)"),
        ("train: {epochs: 1e999}", "train.epochs: must be a finite number (is inf)"),
        (
            "train: {learning_rate: '1e-5'}",
            "train.learning_rate: must be a number (is '1e-5'); write it without quotes: 1e-5",
        ),
        ("train: {learning_rate: fast}", "train.learning_rate: must be a number (is 'fast')"),
        ("train: {learning_rate: 0}", "train.learning_rate: must be greater than 0 (is 0)"),
        ("train: {learning_rat: 1}", "train.learning_rat: no such field; did you mean 'learning_rate'?"),
        ("train: {warmup: 1}", "train.warmup: must be less than 1 (is 1)"),
        ("train: {weight_decay: -0.1}", "train.weight_decay: must be at least 0 (is -0.1)"),
        (
            "train: {schedule: cosin}",
            "train.schedule: must be 'cosine', 'linear' or 'constant' (is 'cosin'); did you mean 'cosine'?",
        ),
        (
            "train: {sync_reference: {alpha: 0.5, bema: {}}}",
            "train.sync_reference.bema: does not use alpha (is 0.5); leave out alpha or bema",
        ),
        (
            "train: {sync_reference: {when: before, bema: {}}}",
            "train.sync_reference.bema: averages the weights after a step; leave out when or bema",
        ),
        ("train: {lora: {quantize: 8bit}}", "train.lora.quantize: must be '4bit' (is '8bit'); did you mean '4bit'?"),
        ("train: {lora: {rank: 0}}", "train.lora.rank: must be greater than 0 (is 0)"),
        ("train: {lora: {rnk: 8}}", "train.lora.rnk: no such field; did you mean 'rank'?"),
        ("train: {lora: {dropout: 1}}", "train.lora.dropout: must be less than 1 (is 1)"),
        (
            "train: {lora: {targets: []}}",
            "train.lora.targets: must be all-linear or a list of module names (is []); like [q_proj, v_proj]",
        ),
        ("train: {trackers: wandb}", "train.trackers: must be a list (is 'wandb'); write it as a list: [wandb]"),
        ("evals: {benchmarks: ['']}", "evals.benchmarks.0: must be non-empty text (is '')"),
        ("evals: {max_new_tokens: -4}", "evals.max_new_tokens: must be greater than 0 (is -4)"),
        ("evals: {judge: 3}", "evals.judge: must be text (is 3); put it in quotes: '3'"),
    ],
)
def test_a_wrong_field_is_told_with_place_value_and_cure(write: Any, fifth: str, says: str) -> None:
    assert complaints(write(MINIMAL + fifth)) == [f"r.yaml:5: {says}"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{}", "data.train: is missing; add `train: pairs.jsonl`"),
        ("", "data.train: is missing; add `train: pairs.jsonl`"),
        ("{train: ''}", "data.train: must be non-empty text (is '')"),
        ("{train: x, max_length: 7}", "data.max_length: must be at least 8 (is 7)"),
        ("{train: x, too_long: crop}", "data.too_long: must be 'drop' or 'cut' (is 'crop'); did you mean 'drop'?"),
        ("{train: x, columns: {promt: q}}", "data.columns.promt: no such field; did you mean 'prompt'?"),
        ("{train: x, columns: {prompt: 3}}", "data.columns.prompt: must be text (is 3); put it in quotes: '3'"),
        ("{train: x, columns: [a]}", "data.columns: must be a mapping, `key: value` (is a list)"),
        ("{train: x, zzz: 1}", f"data.zzz: no such field; {SOME}"),
    ],
)
def test_wrong_data(write: Any, data: str, says: str) -> None:
    assert complaints(write(MINIMAL.replace("{train: pairs.jsonl}", data))) == [f"r.yaml:3: {says}"]


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("name", "name: is missing; add `name: my-run`"),
        ("model", "model: is missing; add `model: org/name (a hub id, a folder or a .gguf file)`"),
        ("data", "data: is missing; add `data: {train: pairs.jsonl}`"),
        (
            "variants",
            "variants: is missing or empty; name at least one, like `variants: {dpo: {beta: 0.1}}`",
        ),
    ],
)
def test_a_required_field_is_missing(write: Any, field: str, says: str) -> None:
    kept = [line for line in MINIMAL.splitlines() if not line.startswith(field)]
    assert complaints(write("\n".join(kept))) == [f"r.yaml:1: {says}"]


@pytest.mark.parametrize(
    ("name", "near"), [("My Run!", "my-run"), ("../up", "up"), ("''", "my-run"), ("a" * 65, "a" * 64), ("été", "t")]
)
def test_a_name_that_is_no_folder(write: Any, name: str, near: str) -> None:
    (line,) = complaints(write(MINIMAL.replace("tiny", name)))
    assert line.startswith("r.yaml:1: name: not a name for a folder (") and line.endswith(f"; like {near!r}")


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (
            "dpoo: ",
            "dpoo: no such loss: 'dpoo'; did you mean 'dpo'? (a variant without `loss:` is named after its loss)",
        ),
        ("x: {loss: dpoo}", "x.loss: no such loss: 'dpoo'; did you mean 'dpo'?"),
        ("x: {loss: 3}", "x.loss: must be text (is 3); `prefzoo losses` lists all"),
        (
            "x: {loss: ':f'}",
            "x.loss: loss ':f': no file or module before the colon; write it like my_losses.py:my_loss",
        ),
        ("dpo: {bta: 1}", "dpo.bta: no such parameter of dpo, which has beta; did you mean 'beta'?"),
        ("cdpo: {zzz: 1}", "cdpo.zzz: no such parameter of cdpo, which has beta, flip_rate; remove it"),
        ("sft: {beta: 1}", "sft.beta: no such parameter of sft, which has none; remove it"),
        ("dpo: {steps: 1}", "dpo.steps: no such parameter of dpo; it belongs under the variant's `train:`"),
        ("dpo: {beta: 0}", "dpo.beta: must be greater than 0 (is 0); its default is 0.1"),
        ("ipo: {tau: -0.1}", "ipo.tau: must be greater than 0 (is -0.1); its default is 0.01"),
        (
            "x: {loss: dpo + ipo, ipo: {tau: 0}}",
            "x.ipo.tau: must be greater than 0 (is 0); its default is 0.01",
        ),
        ("dpo: {reference: null}", f"dpo.reference: must be a model (is null); {REFERENCE}"),
        ("dpo: {reference: 3}", f"dpo.reference: must be a model (is 3); {REFERENCE}"),
        ("dpo: {ref_model: x}", f"dpo.ref_model: no such parameter of dpo; {REFERENCE}"),
        (
            "simpo: {reference: x}",
            "simpo.reference: has no effect, because simpo reads no reference; leave it out",
        ),
        (
            "dpo: {reference: x, train: {sync_reference: {}}}",
            "dpo.reference: the reference x does not move, and train.sync_reference moves one that starts from the "
            "model; leave out one of them",
        ),
        ("dpo: {beta: .nan}", "dpo.beta: must be a finite number (is nan); its default is 0.1"),
        ("dpo: {beta: '1e-1'}", "dpo.beta: must be a number (is '1e-1'); write it without quotes: 1e-1"),
        ("cdpo: {flip_rate: 0.5}", "cdpo.flip_rate: must be less than 0.5 (is 0.5); its default is 0.1"),
        ("dpo: {train: {stepz: 1}}", "dpo.train.stepz: no such field; did you mean 'steps'?"),
        ("dpo: {train: {batch: 0}}", "dpo.train.batch: must be greater than 0 (is 0)"),
        ("dpo: {train: 3}", "dpo.train: must be a mapping (is 3); like `{learning_rate: 1e-5}`"),
        (
            "dpo: {train: {trackers: [a]}}",
            "dpo.train.trackers: trackers follow the whole run; set train.trackers at the top",
        ),
        ("dpo: [1]", "dpo: must be a mapping (is a list); like `{beta: 0.1}`, or nothing for defaults"),
        (
            "base: {loss: dpo}",
            "base: 'base' is the untrained model; choose another name, and name the loss by `loss:`",
        ),
        (
            "A b: {loss: dpo}",
            "A b: not a name for a folder ('A b'): a-z, 0-9, _ . - only, at most 64; like 'a-b'",
        ),
        ("dpo: , dpo: ", "dpo: given twice, first at line 4; keep one"),
    ],
)
def test_a_wrong_variant(write: Any, variant: str, says: str) -> None:
    assert complaints(write(MINIMAL.replace("dpo: ", variant))) == [f"r.yaml:4: variants.{says}"]


def test_variants_as_a_list(write: Any) -> None:
    (line,) = complaints(write(MINIMAL.replace("{dpo: }", "[dpo, ipo]")))
    assert line == "r.yaml:4: variants: must be a mapping of names; like `variants: {dpo: {beta: 0.1}, ipo: null}`"


def test_a_plugin_that_is_not_there_or_broken(write: Any, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(PLUGIN.replace("slope: Positive", "slope: 'Nowhere'").replace("in(", "in_odd("))
    path = write(MINIMAL.replace("{dpo: }", "\n  a: {loss: 'absent.py:mine'}\n  b: {loss: 'odd.py:recipe_plugin_odd'}"))
    missing, odd = complaints(path)
    assert missing == (
        "r.yaml:5: variants.a.loss: loss 'absent.py:mine': no such file: absent.py; the path is relative to the recipe"
    )
    assert odd.startswith("r.yaml:6: variants.b.loss: loss 'odd.py:recipe_plugin_odd': ")


def test_two_plugins_of_one_name_are_told_apart(write: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.py").write_text(PLUGIN.replace("recipe_plugin", "recipe_twin"))
    path = write(MINIMAL.replace("{dpo: }", "\n  x: {loss: 'a/my.py:recipe_twin'}\n  y: {loss: 'b/my.py:recipe_twin'}"))
    assert complaints(path) == [
        "r.yaml:6: variants.y.loss: loss 'recipe_twin' of b/my.py is taken by a/my.py; rename one of the functions"
    ]


def test_a_fault_of_the_common_settings_is_told_once_and_of_the_mixture_where_it_arises(write: Any) -> None:
    common = MINIMAL.replace("{dpo: }", "{dpo: , ipo: }")
    assert complaints(write(common + "train: {batch: 0}")) == ["r.yaml:5: train.batch: must be greater than 0 (is 0)"]
    mixed = common.replace("ipo: ", "ipo: {train: {batch: 6}}") + "train: {micro_batch: 4}"
    (line,) = complaints(write(mixed))
    assert line == "r.yaml:4: variants.ipo.train.micro_batch: must divide batch 6 (is 4); try 2"


def test_all_faults_at_once_by_line_overrides_last(write: Any) -> None:
    path = write("name: X\nmodel: m\ndata: {trian: x}\ntrain:\n  batch: 0\nvariants:\n  dpoo:\n")
    places = [line.split(": ")[:2] for line in complaints(path, "seed=-1")]
    assert places == [
        ["r.yaml:1", "name"],
        ["r.yaml:3", "data.train"],
        ["r.yaml:3", "data.trian"],
        ["r.yaml:5", "train.batch"],
        ["r.yaml:7", "variants.dpoo"],
        ["--set seed=-1", "seed"],
    ]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("foo", "needs the form field=value; like `--set train.batch=16`"),
        ("=3", "needs the form field=value; like `--set train.batch=16`"),
        ("a..b=3", "needs the form field=value; like `--set train.batch=16`"),
        ("trian.batch=3", "trian: no such field; did you mean 'train'?"),
        ("train.batc=3", "train.batc: no such field; did you mean 'batch'?"),
        ("train.batch.x=3", "train.batch: must be a whole number (is a mapping)"),
        ("train.batch=many", "train.batch: must be a whole number (is 'many')"),
        ("train.batch=", "train.batch: must be a whole number (is null); leave the field out for its default"),
        ("train={batch: 1, batch: 2}", "train.batch: given twice, first at line 1; keep one"),
        ("variants.dp.beta=3", "variants.dp: no such variant; did you mean 'dpo'?"),
        ("variants.zzz.beta=3", "variants.zzz: no such variant; there are dpo"),
        ("variants.dpo.bet=3", "variants.dpo.bet: no such parameter of dpo, which has beta; did you mean 'beta'?"),
        ("variants={}", "variants: is missing or empty; name at least one, like `variants: {dpo: {beta: 0.1}}`"),
    ],
)
def test_a_wrong_override(write: Any, override: str, says: str) -> None:
    assert complaints(write(MINIMAL), override) == [f"--set {override}: {says}"]


def test_an_override_that_is_no_yaml(write: Any) -> None:
    (line,) = complaints(write(MINIMAL), "train.steps=[")
    assert line.startswith("--set train.steps=[: train.steps: not valid YAML: ")


def test_the_template_of_a_loss_is_shown_once_below_all_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text("def mine(policy, slope): ...\n")
    (tmp_path / "r.yaml").write_text(
        "name: r\nmodel: m\ndata: {train: x}\nvariants:\n  a: {loss: own.py:mine}\n  b: {loss: own.py:mien}\n"
    )
    monkeypatch.setattr("sys.argv", ["prefzoo", "check", str(tmp_path / "r.yaml")])
    with pytest.raises(SystemExit):
        main()
    first, second, nothing, *template = capsys.readouterr().err.splitlines()
    assert "variants.a.loss" in first and "slope is not an input of a loss" in first
    assert "variants.b.loss" in second and "did you mean 'mine'?" in second
    assert not nothing and "\n".join(template) == losses.TEMPLATE


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("adamw_torch", "adamw"),
        ("adamw-hf", "adamw"),
        ("Adam", "adamw"),
        ("adamw_bnb_8bit", "adamw_8bit"),
        ("paged_adamw_8bits", "paged_adamw_8bit"),
    ],
)
def test_an_optimizer_of_another_library_is_called_by_its_name_here(write: Any, written: str, meant: str) -> None:
    (line,) = complaints(write(f"{MINIMAL}train: {{optimizer: {written}}}\n"))
    assert line.endswith(f"; did you mean {meant!r}?")
