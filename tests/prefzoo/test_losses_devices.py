"""Losses compute on the device of their inputs: tensors of their own, and states, are there too."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from prefzoo import losses, types
from prefzoo.training.checkpoint import on_device
from prefzoo.training.loss_call import _made_up_inputs

GPU = torch.device("cuda:0")
BUILT_FOR_CPUS = "not linked with support for cuda"  # such a torch cannot take a part of a tensor on a GPU


@pytest.mark.slow
@torch.no_grad()
def test_losses_and_their_states_stay_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's tensors without content, which know their device: operations on two devices raise."""
    monkeypatch.setattr(types, "PINNED", ())
    whole = []
    for name in losses.names():
        loss = losses.get(name)
        inputs, _ = _made_up_inputs(loss, 4)
        with FakeTensorMode(allow_non_fake_inputs=True):
            given, state = on_device(inputs, GPU), on_device(loss.start(), GPU)
            try:
                for _ in range(2):
                    values, state = given.call(loss, loss.Params(), state)
                    assert values.device == GPU, name
            except RuntimeError as e:
                if BUILT_FOR_CPUS not in str(e):
                    raise RuntimeError(name) from e
                continue
        whole.append(name)
    assert len(whole) > 0.9 * len(losses.names())
