"""What goes wrong on real machines, done for real: no memory, no room on the disk, broken files, two runs at once."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from called import prefzoo
from first_fast import first_fast
from test_resume import kill, run, same
from test_train import job
from transformers import LlamaConfig, LlamaForCausalLM

from prefzoo.data.tokens import TokenPair
from prefzoo.engine import model_copies, reference_logprobs
from prefzoo.errors import UserError
from prefzoo.evals.generation import generate
from prefzoo.runtime import paths, run_folders
from prefzoo.runtime.cache import cached
from prefzoo.runtime.memory import is_out_of_memory, retry_with_smaller_batches
from prefzoo.training.oom_retry import memory_notes
from prefzoo.types import LogProbs


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe of one variant, in which to call `prefzoo run`."""
    text = (run_folder / "r.yaml").read_text().split("variants:")[0].replace("steps: 25", "steps: 4")
    evals = 'evals: {prompts: "instruct:eval:3", max_new_tokens: 4}\n'
    (run_folder / "r.yaml").write_text(f"{text}variants: {{dpo: null}}\n{evals}")
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    return run_folder


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write more: EFBIG, as a full disk's ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def flip(path: Path, at: int = -2) -> None:
    """One bit, as disks do."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# no room


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tiny_model: Any, tmp_path: Path) -> None:
    this, limit = job(tiny_model), contextlib.ExitStack()
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    with limit, pytest.raises(UserError, match=r"resume/step-00000003: cannot be written, the file is too large; free"):
        run(tiny_model, this, tmp_path, until=3, stop=lambda: limit.enter_context(files_of_at_most(50_000)))
    assert [p.name[:13] for p in (tmp_path / "resume").iterdir()] == ["step-00000002"]  # and nothing half written
    last = run(tiny_model, this, tmp_path)
    assert last["said"] == ["resuming after step 2 of 6"]
    same(whole, last)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs rights that this user lacks; the file size limit above stands in for it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk(tiny_model: Any, tmp_path: Path, small_disk: Path) -> None:
    this = job(tiny_model)
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    ballast = small_disk / "ballast"

    def fill() -> None:
        left = shutil.disk_usage(small_disk).free
        ballast.write_bytes(b"x" * (left - 50_000))

    with pytest.raises(UserError, match=r"step-00000003: cannot be written, the disk is full; free some space and run"):
        run(tiny_model, this, small_disk / "run", until=3, stop=fill)
    assert [p.name[:13] for p in (small_disk / "run" / "resume").iterdir()] == ["step-00000002"]
    ballast.unlink()
    same(whole, run(tiny_model, this, small_disk / "run"))


@pytest.mark.slow
def test_the_command_says_so_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(50_000):
        assert prefzoo(monkeypatch, "run", "r.yaml", "--save-every", "0") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.endswith("; free some space and run the same command to resume\n")
    assert printed.count("\n") == 1 and not [*place.rglob("*.partial")]
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0


@pytest.mark.parametrize("number", paths.DISK_FULL)
def test_room_that_ends_anywhere_else_is_one_line_too(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr("prefzoo.cli.losses.show_losses", full)
    assert prefzoo(monkeypatch, "losses") == 2
    expected = f"error: {paths.DISK_FULL[number]} (some/file); free some space and run the same command to resume\n"
    assert capsys.readouterr().err == expected


# broken files


def test_broken_reference_log_probs_are_computed_again(tmp_path: Path) -> None:
    path, lines = tmp_path / "kept.safetensors", []
    values = LogProbs(*(torch.tensor([1.0, 2.0]) for _ in fields(LogProbs)))
    reference_logprobs.write_cached(path, values)
    assert torch.equal(reference_logprobs.read_cached(path, LogProbs).chosen, values.chosen)  # type: ignore[union-attr]
    flip(path)  # in a number, which safetensors itself does not notice
    assert reference_logprobs.read_cached(path, LogProbs, lines.append) is None
    assert lines == [f"{path}: damaged (its checksum is wrong); computed again"]


def test_broken_cached_values_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path))
    assert cached("answers", {"of": "x"}, lambda: ["first"]) == ["first"]
    assert cached("answers", {"of": "x"}, lambda: ["second"]) == ["first"]
    (path,) = (tmp_path / "evals").iterdir()
    path.write_text(path.read_text().replace("first", "fi1st"))  # JSON still, and so unnoticed without a checksum
    assert cached("answers", {"of": "x"}, lambda: ["second"]) == ["second"]
    message = f"{path}: an entry is damaged (its checksum is wrong); created again\n"
    assert capsys.readouterr().out == message
    assert cached("answers", {"of": "x"}, lambda: ["third"]) == ["second"] and capsys.readouterr().out == ""
    path.write_text(path.read_text()[:-9])  # a line that was cut short by a kill
    assert cached("answers", {"of": "x"}, lambda: ["third"]) == ["third"] and capsys.readouterr().out == ""


@pytest.mark.slow
def test_broken_results_of_a_run_are_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    dpo = place / "results" / "tiny" / "dpo"
    weights, log = (dpo / "checkpoint" / "model.safetensors").read_bytes(), (dpo / "metrics.jsonl").read_bytes()
    evals = (dpo / "evals.json").read_text()
    for file in (place / "cache" / "reference").iterdir():
        flip(file)
    flip(dpo / "checkpoint" / "model.safetensors")
    capsys.readouterr()
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    printed = " ".join(capsys.readouterr().out.split())  # the console wraps lines
    assert "dpo/checkpoint: damaged (its checksum is wrong); dpo is trained again" in printed
    assert "computed again" in printed
    assert (dpo / "checkpoint" / "model.safetensors").read_bytes() == weights
    assert (dpo / "metrics.jsonl").read_bytes() == log
    changed = json.loads(evals)
    changed["margins"][0] += 1
    (dpo / "evals.json").write_text(json.dumps(changed))
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    printed = capsys.readouterr().out
    assert "dpo: already trained" in printed
    assert "evals.json: damaged (its checksum is wrong); measured again" in printed
    assert (dpo / "evals.json").read_text() == evals


def test_a_broken_conversion_of_a_gguf_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    model_copies.write_content_hash(tmp_path / "model")
    assert model_copies.matches_content_hash(tmp_path / "model")
    flip(tmp_path / "model" / "model.safetensors")
    assert not model_copies.matches_content_hash(tmp_path / "model")


# two at once

HOLD = """
import sys, time
from pathlib import Path
from prefzoo.runtime.locking import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_second_run_in_a_folder_refuses_until_the_first_is_gone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("results") / "tiny"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        for _ in range(2):  # being refused changes nothing
            assert prefzoo(monkeypatch, "run", "r.yaml") == 2
            printed = capsys.readouterr().err
            assert printed.startswith(
                f"error: {folder}: process {first.pid} on {socket.gethostname()} has been running"
            )
            assert printed.endswith("; wait for it or end it, or give another --results\n") and printed.count("\n") == 1
        assert prefzoo(monkeypatch, "run", "r.yaml", "--results", "elsewhere") == 0
        first.kill()  # nothing of its own cleans up
    assert (folder / ".lock.json").exists()
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    assert not (folder / ".lock.json").exists()


# no memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory."), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_what_torch_says_on_this_machine() -> None:
    with pytest.raises(RuntimeError) as e:
        torch.empty(2**56, dtype=torch.uint8)
    assert is_out_of_memory(e.value)


def test_what_does_not_fit_is_done_in_halves_and_in_order() -> None:
    tried: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        tried.append(len(items))
        if len(items) > 3:
            torch.empty(2**56, dtype=torch.uint8)
        return [10 * i for i in items]

    assert retry_with_smaller_batches(work, range(11)) == [10 * i for i in range(11)]
    assert tried == [11, 5, 2, 3, 6, 3, 3]
    with pytest.raises(RuntimeError):  # one alone does not fit either
        retry_with_smaller_batches(lambda items: [torch.empty(2**56, dtype=torch.uint8)], [1, 2])
    with pytest.raises(ValueError, match="another"):
        retry_with_smaller_batches(lambda items: (_ for _ in ()).throw(ValueError("another")), [1, 2])


def test_the_reference_and_answers_take_less_at_a_time_where_memory_is_short(
    tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [TokenPair([1, 2, i], [3, 4], [5, i], i) for i in range(7)]
    prompts = [[1, 2, i] for i in range(7)]
    options: dict[str, Any] = {"max_new_tokens": 3, "n": 2, "temperature": 1.0}
    expected = reference_logprobs.logprobs(tiny_model, pairs, "shared", bf16=False)
    drawn = generate.sample_tokens(tiny_model, tiny_tokenizer, prompts, **options)
    sizes: list[int] = []

    def short(count: int) -> None:
        sizes.append(count)
        if count > 3:
            torch.empty(2**56, dtype=torch.uint8)

    real_score, real_generate = reference_logprobs.score, tiny_model.generate

    def score(model: Any, batch: Any, kind: Any) -> Any:
        short(len(batch))
        return real_score(model, batch, kind)

    def asked(**words: Any) -> Any:
        short(len(words["input_ids"]))
        return real_generate(**words)

    monkeypatch.setattr(reference_logprobs, "score", score)
    monkeypatch.setattr(tiny_model, "generate", asked)
    scored = reference_logprobs.logprobs(tiny_model, pairs, "shared", bf16=False)
    torch.testing.assert_close(scored.chosen, expected.chosen)
    torch.testing.assert_close(scored.rejected, expected.rejected)
    assert sizes == [7, 3, 4, 2, 2]
    assert generate.sample_tokens(tiny_model, tiny_tokenizer, prompts, **options) == drawn and max(sizes) == 14


def short_of(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on more pairs at a time than these ask the real allocator for what it does not have."""
    from prefzoo.training import step

    collate = step.collate

    def hungry(some: Any, *args: Any, **more: Any) -> Any:
        if len(some) > pairs:
            torch.empty(2**56, dtype=torch.uint8)
        return collate(some, *args, **more)

    monkeypatch.setattr(step, "collate", hungry)


@pytest.mark.parametrize("name", first_fast(["dpo", "bco_pair_shift", "kto", "beta_dpo"]))
def test_halved_passes_are_the_same_step(
    name: str, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = job(tiny_model, name)
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    short_of(1, monkeypatch)
    halved = run(tiny_model, this, tmp_path / "halved", every=1e9)
    assert halved["said"][0].startswith(
        f"{name}: out of memory at step 1 with {this.train.batch} pairs at a time; continues"
    )
    for one, two in zip(whole["log"].splitlines(), halved["log"].splitlines(), strict=True):
        assert json.loads(two) == pytest.approx(json.loads(one), rel=1e-4, abs=1e-5)


def test_a_training_goes_on_with_the_passes_that_fit(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = job(tiny_model)
    short_of(2, monkeypatch)
    whole = run(tiny_model, this, tmp_path / "whole", every=1e9)
    run(tiny_model, this, tmp_path / "parts", until=4, stop=kill)
    last = run(tiny_model, this, tmp_path / "parts")
    assert last["said"] == ["resuming after step 3 of 6"]  # and no try that must fail
    same(whole, last)


def test_one_pair_that_does_not_fit_is_one_line(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of(0, monkeypatch)
    with pytest.raises(
        UserError, match=r"^dpo: out of memory at step 1 with one pair at a time, of at most \d+ tokens; l"
    ):
        run(tiny_model, job(tiny_model), tmp_path, every=1e9)


def test_other_errors_are_not_tried_again(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("prefzoo.training.step.collate", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run(tiny_model, job(tiny_model), tmp_path, every=1e9)


@pytest.mark.slow
def test_a_run_under_a_real_limit_of_memory_says_so_in_its_files(place: Path, tiny_model: Any) -> None:
    wide = {**tiny_model.config.to_dict(), "intermediate_size": 8192}  # activations that outweigh all else
    LlamaForCausalLM(LlamaConfig(**wide)).save_pretrained(place / "model")
    rows = [{"prompt": f"Say {i}", "chosen": f"{i}" * 150, "rejected": f"no {i}" * 40} for i in range(8)]
    (place / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("little_memory.py"))],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = place / "results" / "tiny"
    assert "dpo: out of memory at step 1 with 8 pairs at a time; continues with " in done.stdout.replace("\n", " ")
    result = run_folders.read_result(folder / "dpo")
    assert result is not None and result.costs["memory_halvings"] >= 1 and result.train["batch"] == 8
    assert memory_notes({"dpo": result.costs}) in (folder / "leaderboard.md").read_text()


def test_no_note_where_memory_was_enough() -> None:
    assert memory_notes({"dpo": {"memory_halvings": 0.0}, "ipo": {}}) == ""
    assert (
        memory_notes({"dpo": {"memory_halvings": 2.0}})
        .strip()
        .startswith("- dpo: out of memory in training; passes were ha")
    )
