"""Accelerate profiles are opened by `check` and `run` before anything is started by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.recipe.sections import Train
from prefzoo.training.profiles import check_profile, profile_warnings

PROFILES = Path(__file__).parents[2] / "recipes" / "accelerate"
DDP = "distributed_type: MULTI_GPU\nnum_processes: 2\n"


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "multi_node"])
def test_the_shipped_profiles_are_accepted(name: str) -> None:
    check_profile(PROFILES / f"{name}.yaml", {"dpo": Train(batch=16)})
    assert any("GPUs are here" in line for line in profile_warnings(PROFILES / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("- 1\n", "is not a mapping of settings"),
        ("a: [\n", "is not YAML"),
        ("{}", "cannot be used (A `distributed_type` must be specified in the config file.)"),
        (DDP + "num_proceses: 2\n", "num_proceses: no such setting; did you mean 'num_processes'?"),
        ("distributed_type: MULTI\nnum_processes: 2\n", "'MULTI' is not a valid DistributedType"),
        ("distributed_type: MULTI_GPU\n", "num_processes is missing"),
        ("distributed_type: MULTI_GPU\nnum_processes: two\n", "num_processes: must be a whole number (is 'two')"),
        ("distributed_type: XLA\nnum_processes: 2\n", "distributed_type: DistributedType.XLA is not used here"),
        ("distributed_type: FSDP\nnum_processes: 2\nuse_cpu: true\n", "FSDP shards only over GPUs"),
        ("distributed_type: MULTI_GPU\nnum_processes: 3\n", "variants.dpo.train.batch: 8 pairs cannot be split evenly"),
    ],
)
def test_a_profile_that_no_training_can_start_under_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "profile.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as raised:
        check_profile(path, {"dpo": Train(batch=8)})
    assert any(told in line and "--launch" in line for line in raised.value.lines), raised.value.lines


def test_a_reference_that_follows_before_the_update_is_refused_under_deepspeed(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("distributed_type: DEEPSPEED\nnum_processes: 2\n")
    early = Train.model_validate({"batch": 8, "sync_reference": {"when": "before"}})
    with pytest.raises(UserError) as raised:
        check_profile(tmp_path / "p.yaml", {"human": early, "dpo": Train(batch=8)})
    told = [line for line in raised.value.lines if "sync_reference" in line]
    assert len(told) == 1 and told[0].startswith("variants.human.train.sync_reference.when: before is not possible")


def test_settings_without_an_effect_are_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "distributed_type: DEEPSPEED\nnum_processes: 1\nuse_cpu: true\nmixed_precision: bf16\n"
        "deepspeed_config: {gradient_accumulation_steps: 4}\n"
    )
    lines = profile_warnings(tmp_path / "p.yaml")
    assert [line.partition(": ")[2] for line in lines] == [
        "mixed_precision: bf16 has no effect; train.precision decides",
        "gradient_accumulation_steps: 4 has no effect; train.micro_batch decides",
    ]


def test_check_opens_the_profile_before_anything_is_loaded(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    (run_folder / "p.yaml").write_text(DDP.replace("2", "3"))
    assert prefzoo(monkeypatch, "check", "r.yaml", "--launch", "p.yaml") == 2
    told = capsys.readouterr().err
    assert "variants.dpo.train.batch: 4 pairs cannot be split evenly over 3 processes (--launch p.yaml)" in told
