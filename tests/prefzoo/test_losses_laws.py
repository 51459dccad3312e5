"""Laws that hold for every registered loss."""

from __future__ import annotations

import pytest
import torch

from prefzoo import losses
from prefzoo.losses import Loss
from prefzoo.types import LogProbs

ALL = pytest.mark.parametrize("found", list(losses.all_losses()), ids=lambda found: found.name)


def random_logprobs(seed: int, pairs: int = 6, dtype: torch.dtype = torch.float64) -> LogProbs:
    gen = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (2, pairs), generator=gen)
    means = -0.2 - 3 * torch.rand(2, pairs, generator=gen, dtype=torch.float64)
    sums = (means * lengths).to(dtype)
    return LogProbs(sums[0], sums[1], lengths[0], lengths[1])


def each(found: Loss, policy: LogProbs, reference: LogProbs) -> torch.Tensor:
    return found.each(policy, reference if found.needs_reference else None, found.Params())


@ALL
def test_one_value_per_pair_and_pairs_do_not_see_each_other(found: Loss) -> None:
    policy, reference = random_logprobs(0), random_logprobs(1)
    whole = each(found, policy, reference)
    assert whole.shape == (6,)
    alone = [each(found, take(policy, [i]), take(reference, [i])) for i in range(6)]
    torch.testing.assert_close(whole, torch.cat(alone))


def take(logprobs: LogProbs, rows: list[int]) -> LogProbs:
    return LogProbs(
        logprobs.chosen[rows], logprobs.rejected[rows], logprobs.chosen_len[rows], logprobs.rejected_len[rows]
    )


@ALL
def test_gradients_match_finite_differences(found: Loss) -> None:
    base, reference = random_logprobs(2), random_logprobs(3)

    def scalar(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return each(found, LogProbs(chosen, rejected, base.chosen_len, base.rejected_len), reference)

    inputs = (base.chosen.clone().requires_grad_(), base.rejected.clone().requires_grad_())
    assert torch.autograd.gradcheck(scalar, inputs)


@ALL
@pytest.mark.parametrize("gap", [-1e4, -200.0, 200.0, 1e4])
def test_finite_value_and_gradient_at_wide_gaps(found: Loss, gap: float) -> None:
    lengths = torch.tensor([10])
    low, high = torch.tensor([-abs(gap) - 1.0]), torch.tensor([-1.0])
    chosen, rejected = (high, low) if gap > 0 else (low, high)
    policy = LogProbs(chosen.requires_grad_(), rejected.requires_grad_(), lengths, lengths)
    reference = LogProbs(torch.tensor([-5.0]), torch.tensor([-5.0]), lengths, lengths)
    value = each(found, policy, reference).sum()
    value.backward()
    grads = [t.grad for t in (policy.chosen, policy.rejected) if t.grad is not None]
    assert grads and value.isfinite() and all(g.isfinite().all() for g in grads)


@ALL
def test_pushes_the_chosen_answer_up_from_the_reference(found: Loss) -> None:
    start = random_logprobs(4)
    chosen, rejected = start.chosen.clone().requires_grad_(), start.rejected.clone().requires_grad_()
    each(found, LogProbs(chosen, rejected, start.chosen_len, start.rejected_len), start).sum().backward()
    assert chosen.grad is not None and (chosen.grad < 0).all()
    assert rejected.grad is None or (rejected.grad >= 0).all()


def test_orpo_is_finite_beside_certainty() -> None:
    """log(1 - e^x) has no finite value at x = 0, and naive forms give inf or NaN gradients just below it."""
    for mean in (-1e-12, -1e-8, 0.0):
        chosen = torch.tensor([mean * 4], requires_grad=True)
        policy = LogProbs(chosen, torch.tensor([-8.0]), torch.tensor([4]), torch.tensor([4]))
        found = losses.get("orpo")
        found.each(policy, None, found.Params()).sum().backward()
        assert chosen.grad is not None and chosen.grad.isfinite().all()


def test_ipo_and_ipo_mean_differ_by_length_only() -> None:
    lengths = torch.ones(6, dtype=torch.int64)
    policy, reference = (LogProbs(p.chosen, p.rejected, lengths, lengths) for p in map(random_logprobs, (5, 6)))
    one, other = losses.get("ipo"), losses.get("ipo_mean")
    params = one.Params(tau=0.2), other.Params(tau=0.2)
    torch.testing.assert_close(one.each(policy, reference, params[0]), other.each(policy, reference, params[1]))
