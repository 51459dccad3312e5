"""Two CPU processes give the trajectory and the weights of one: data parallel, sharded, and by `prefzoo run`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from two_processes import main, resume_alone

from prefzoo.errors import UserError
from prefzoo.runtime import distributed

HERE = Path(__file__).parent
CASES = [
    *("dpo:plain", "dpo:micro", "dpo:budget", "dpo:lora", "dpo:sync", "dpo:recompute", "dpo:tied", "dpo:stopped"),
    *("dpo:weighted", "dpo:bema", "dpo:adapter_bema", "tdpo2:adapter_bema"),
    *(
        "kto:plain",
        "kto:micro",
        "kto:budget",
        "aot:plain",
        "bco_pair_shift:plain",
        "tdpo2:plain",
        "tdpo2:sync",
        "wpo:plain",
        "dpo with humanline and dr:budget",
        "kto with humanline:plain",
        "ld_dpo + aot:budget",
    ),
]
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def launched(words: list[str], folder: Path, extra: dict[str, str]) -> None:
    common = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, **common, **extra},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def close(one: Path, two: Path) -> None:
    """Trajectories to 1e-4 of their size: sums in another order are all that differs, step upon step."""
    a, b = ([json.loads(line) for line in path.read_text().splitlines()] for path in (one, two))
    assert len(a) == len(b) >= 4
    for x, y in zip(a, b, strict=True):
        for metric in ("loss", "rewards/margins", "logps/chosen", "grad_norm", "learning_rate"):
            assert y[metric] == pytest.approx(x[metric], rel=1e-4, abs=1e-5), (two.name, metric)


@pytest.fixture
def folder(tiny_model: Any, tmp_path: Path) -> Path:
    """A model and pairs for two_processes.py."""
    tiny_model.save_pretrained(tmp_path / "model")
    gen = torch.Generator().manual_seed(5)
    sizes = torch.randint(2, 9, (12, 3), generator=gen).tolist()
    rows = [[torch.randint(2, 258, (n,), generator=gen).tolist() for n in row] for row in sizes]
    pairs = [{"prompt": p, "chosen": c, "rejected": r, "row": i} for i, (p, c, r) in enumerate(rows)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    return tmp_path


def in_two(folder: Path, cases: list[str], extra: dict[str, str]) -> None:
    torchrun = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    launched([*torchrun, str(HERE / "two_processes.py"), str(folder), *cases], folder, extra)


MOST = 5e-5  # AdamW moves a weight by up to 1e-3 a step, whatever its gradient: rounding shows where that is near 0


def same_as_one(folder: Path, case: str) -> None:
    main(folder, case)
    close(folder / f"{case}.one.jsonl", folder / f"{case}.0.jsonl")
    one, two = (load_file(*(folder / f"{case}.{who}").glob("*.safetensors")) for who in ("one", "0"))
    assert one.keys() == two.keys() and one
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=MOST)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{}, SHARDED], ids=["ddp", "fsdp2"])
def test_two_processes_are_as_one(extra: dict[str, str], folder: Path) -> None:
    in_two(folder, CASES, extra)
    assert (folder / "dpo:stopped.0.jsonl").read_bytes() == (folder / "dpo:plain.0.jsonl").read_bytes()
    resume_alone(folder, "dpo:stopped")
    close(folder / "dpo:plain.0.jsonl", folder / "dpo:stopped.alone.jsonl")
    shutil.rmtree(folder / "resume")
    for case in CASES:
        same_as_one(folder, case)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{}, SHARDED], ids=["ddp", "fsdp2"])
def test_frozen_weights_in_bf16_are_the_same_bits_in_two_processes(extra: dict[str, str], folder: Path) -> None:
    in_two(folder, ["dpo:lean", "dpo:fat"], extra)
    lean, fat = ((folder / f"dpo:{kind}.0.jsonl").read_bytes() for kind in ("lean", "fat"))
    assert lean == fat and len(lean.splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_is_as_one_process(stage: int, folder: Path) -> None:
    if find_spec("deepspeed") is None:  # it compiles a part of itself, so it is no dependency
        pytest.skip("needs deepspeed: pip install deepspeed")
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
    config = {"zero_optimization": zero, "gradient_accumulation_steps": 1, "train_micro_batch_size_per_gpu": "auto"}
    (folder / "zero.json").write_text(json.dumps(config))
    settings = {"CONFIG_FILE": str(folder / "zero.json"), "ZERO3_INIT": "false"}
    extra = {f"ACCELERATE_DEEPSPEED_{name}": value for name, value in settings.items()}
    extra |= {"ACCELERATE_USE_DEEPSPEED": "true", "DS_ACCELERATOR": "cpu", "ZERO_STAGE": str(stage)}
    cases = [case for case in CASES if not case.endswith("stopped")]
    in_two(folder, cases, extra)
    for case in cases:
        same_as_one(folder, case)


@pytest.mark.slow
def test_a_run_in_two_processes(run_folder: Path) -> None:
    """`accelerate launch` with the profile that is shipped; one run's leaderboard and files, written once."""
    profile = HERE.parents[1] / "recipes" / "accelerate" / "ddp.yaml"
    words = ["prefzoo", "run", "r.yaml", "--set", "variants.low.train.lora.dropout=0", "--results"]
    launch_words = [
        "accelerate.commands.launch",
        "--config_file",
        str(profile),
        "--main_process_port",
        str(free_port()),
    ]
    launched([*launch_words, "-m", *words, "two"], run_folder, {"PREFZOO_CACHE": str(run_folder / "cache-two")})
    launched([*words, "one"], run_folder, {"PREFZOO_CACHE": str(run_folder / "cache-one")})
    one, two = run_folder / "one" / "tiny", run_folder / "two" / "tiny"
    assert {p.relative_to(one) for p in one.rglob("*")} == {p.relative_to(two) for p in two.rglob("*")}
    for name in ("dpo", "shift", "moving", "low"):
        close(one / name / "metrics.jsonl", two / name / "metrics.jsonl")
        answers = [json.loads((folder / name / "evals.json").read_text())["answers"] for folder in (one, two)]
        assert answers[0] == answers[1]
        values = json.loads((two / name / "result.json").read_text())["environment"]
        assert values["processes"] == 2


PROFILES = sorted((HERE.parents[1] / "recipes" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("profile", PROFILES, ids=[p.stem for p in PROFILES])
def test_a_profile_is_one_of_accelerates_and_explained(profile: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(profile))
    assert config.num_processes >= 2 and config.mixed_precision == "no"
    assert f"`{profile.name}`" in (HERE.parents[1] / "docs" / "scale.md").read_text()
    assert len(profile.read_text().splitlines()) <= 30


def test_processes_that_are_not_joined_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed.process_state()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="launched as 2 processes, but they are not joined; .*ACCELERATE_USE_CPU=true"):
        distributed.process_state()


def test_shards_need_gpus(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_train import job, run

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"shards models over GPUs only; launch with recipes/accelerate/ddp.yaml"):
        run(tiny_model, job(tiny_model), tmp_path)


def test_work_is_dealt_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    for count in (0, 1, 7, 8, 9, 30):
        for world in (1, 2, 3, 8):
            result: list[int] = []
            shares: list[int] = []
            for rank in range(world):
                state = SimpleNamespace(process_index=rank, num_processes=world)
                monkeypatch.setattr(distributed, "process_state", lambda state=state: state)
                first, end = distributed.shard_range(count)
                result += range(first, end)
                shares += distributed.shard(range(count))
            assert result == sorted(shares) == list(range(count))
