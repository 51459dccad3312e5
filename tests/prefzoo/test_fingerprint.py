"""What identifies a model does not depend on where it lies: nodes of a cluster may have their caches elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import torch

from prefzoo.engine.models import fingerprint


def test_a_fingerprint_is_of_the_content(tiny_model: Any) -> None:
    moved = copy.deepcopy(tiny_model)
    moved.config._name_or_path = "/elsewhere/model"
    assert fingerprint(moved) == fingerprint(tiny_model)
    with torch.no_grad():
        next(moved.parameters()).view(-1)[0] += 1
    assert fingerprint(moved) != fingerprint(tiny_model)
    other = copy.deepcopy(tiny_model)
    other.config.rms_norm_eps *= 2
    assert fingerprint(other) != fingerprint(tiny_model)
