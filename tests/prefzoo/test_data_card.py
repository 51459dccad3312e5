"""Where rows come from: hashes of files, folders and packages, commits of the hub's data sets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from prefzoo.data.origin import Origin, origin_of
from prefzoo.data.sources import Address
from prefzoo.experiment.data_card import card_lines

ROW = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
HASH = hashlib.sha256(ROW).hexdigest()


def test_a_file_has_its_hash_and_size(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(ROW)
    assert origin_of(Address("d.jsonl"), tmp_path) == Origin("file", "d.jsonl", HASH, len(ROW))


def test_a_folder_has_a_hash_over_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_bytes(ROW)
    origin = origin_of(Address("data", split="test"), tmp_path)
    whole = hashlib.sha256(f"a.jsonl {HASH}\nb.jsonl {HASH}\n".encode()).hexdigest()
    assert origin == Origin("folder", "data", whole, 2 * len(ROW), "test")


def test_a_package_file_has_a_hash_too(tmp_path: Path) -> None:
    origin = origin_of(Address("package://prefzoo/data/packaged/instruct_eval.jsonl"), tmp_path)
    assert origin.kind == "package" and origin.sha256 is not None and len(origin.sha256) == 64


def test_a_hub_data_set_has_the_commit_that_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "datasets--org--pairs" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc123")
    assert origin_of(Address("org/pairs:train_prefs"), tmp_path) == Origin(
        "hub", "org/pairs:train_prefs", split="train_prefs", revision="abc123"
    )
    assert origin_of(Address("org/pairs", revision="v2"), tmp_path).revision == "v2"


def test_a_model_card_quotes_sources_without_folders_reasons_and_roles() -> None:
    file = {"kind": "file", "spec": "/home/me/b.jsonl", "sha256": HASH, "revision": None, "format": "explicit prompt"}
    hub = {"kind": "hub", "spec": "org/pairs", "sha256": None, "revision": "abc123", "format": "orca"}
    train = {
        "sources": [{**file, "rows": 1200, "kept": 1100, "share": 0.25}, {**hub, "rows": 9, "kept": 9}],
        "left_out": {"too long": 100}, "changed": {}, "tokens": {"assistant": 4000, "user": 9, "template": 3},
    }  # fmt: skip
    assert card_lines({"sets": {"train": train}}) == [
        f"b.jsonl (explicit prompt, sha256 {HASH[:12]}): 1,100 of 1,200 rows, 25% of an epoch",
        "org/pairs (orca, revision abc123): 9 of 9 rows",
        "left out: too long (100)",
        "tokens by role: 4,000 scored, 9 user, 3 template",
    ]
    assert card_lines({"sets": {"train": {**train, "sources": [], "left_out": {}, "tokens": None}}}) == []
