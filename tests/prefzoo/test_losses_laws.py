"""Laws that hold for every registered loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor
from zoo_inputs import World, padded, random_world, vocab, wide_world

from prefzoo import losses
from prefzoo.losses import Loss
from prefzoo.types import Mismatched, TokenKL

ALL = pytest.mark.parametrize("loss", list(losses.all_losses()), ids=lambda loss: loss.name)
NOT_DOWNHILL = {"discopop": "its authors' function lowers the margin at first: see its docstring"}


def pairs_of(values: Tensor, loss: Loss) -> Tensor:
    """(B, 1 or 2): the values that belong to each pair."""
    return values.reshape(2, -1).T if loss.unpaired else values[:, None]


@ALL
def test_one_value_per_row(loss: Loss) -> None:
    world = random_world(0)
    values = world.each(loss)
    assert values.shape == (12 if loss.unpaired else 6,) and values.dtype == torch.float64


@ALL
def test_pairs_see_each_other_only_as_declared(loss: Loss) -> None:
    world = random_world(0)
    whole = pairs_of(world.each(loss), loss)
    other = random_world(11)
    changed = World(*(swap_first(getattr(world, f), getattr(other, f)) for f in World.__dataclass_fields__))
    after = pairs_of(changed.each(loss), loss)
    if loss.couples:
        assert ((whole - after).abs() > 1e-9).any(1).sum() > 1
    else:
        assert not torch.allclose(whole[0], after[0])
        torch.testing.assert_close(whole[1:], after[1:], rtol=1e-12, atol=1e-12)
        alone = [pairs_of(world.take([i]).each(loss), loss) for i in range(6)]
        torch.testing.assert_close(whole, torch.cat(alone))


def swap_first(one: object, other: object) -> object:
    merged = {}
    for name in type(one).__dataclass_fields__:  # type: ignore[attr-defined]
        keep, new = getattr(one, name), getattr(other, name)
        merged[name] = torch.cat((new[:1], keep[1:]))
    return type(one)(**merged)


@ALL
def test_the_order_of_pairs_does_not_matter(loss: Loss) -> None:
    world = random_world(2)
    torch.testing.assert_close(world.each(loss).mean(), world.take([3, 0, 5, 1, 4, 2]).each(loss).mean())


@ALL
def test_the_same_inputs_give_the_same_values(loss: Loss) -> None:
    world = random_world(3)
    one, then = world.each_with_state(loss)
    again, once_more = world.each_with_state(loss)
    assert torch.equal(one, again) and (loss.state_type is None) == (then is None)
    assert then is None or (type(then) is loss.state_type and then == once_more)


class Held:
    """`Tensor.detach` that gives, in every later run, what it gave in the first: then finite differences see a
    stopped gradient as the constant that it stands for."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.original = torch.Tensor.detach

    def run(self, call: Callable[[], Tensor]) -> Tensor:
        first, given = not self.seen, iter(list(self.seen))

        def detach(tensor: Tensor) -> Tensor:
            if not first:
                return next(given)
            self.seen.append(self.original(tensor).clone())
            return self.seen[-1]

        with mock.patch.object(torch.Tensor, "detach", detach):
            return call()


@ALL
def test_gradients_match_finite_differences(loss: Loss) -> None:
    """Through every token of the policy and through the KLs."""
    world, held = random_world(4, pairs=3), Held()
    p = world.policy
    inputs = p.chosen_tokens, p.rejected_tokens, world.kl.chosen, world.kl.rejected
    leaves = tuple(t.clone().requires_grad_() for t in inputs)
    weights = torch.tensor([1.0, -0.7, 0.4] * (2 if loss.unpaired else 1), dtype=torch.float64)

    def value(chosen: Tensor, rejected: Tensor, *kl: Tensor) -> Tensor:
        moved = world.with_tokens(chosen * (p.chosen_tokens != 0), rejected * (p.rejected_tokens != 0))
        return held.run(lambda: replace(moved, kl=TokenKL(*kl)).each(loss)) @ weights

    value(*leaves).backward()
    assert any(leaf.grad is not None and leaf.grad.any() for leaf in leaves)
    assert torch.autograd.gradcheck(value, leaves, fast_mode=True)
    assert all(leaf.grad is None or leaf.grad.any() for leaf in leaves[2:]) or not loss.needs_kl


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_finite_value_and_gradient_at_wide_gaps(loss: Loss, dtype: torch.dtype) -> None:
    cases = [(*sums, *reference) for sums in POLICY_SUMS for reference in REFERENCE_SUMS]
    for batch in [[case] * 2 for case in cases] if loss.couples else [cases]:
        world = wide_world(batch, dtype)
        nats = torch.zeros(len(batch), requires_grad=True), torch.zeros(len(batch), requires_grad=True)
        _, state = world.moved(*nats).each_with_state(loss)  # what a state took in must not spoil the next step
        values = world.moved(*nats).each(loss, state=state)
        values.sum().backward()
        grads = [t.grad for t in nats if t.grad is not None]
        assert grads and values.isfinite().all() and all(g.isfinite().all() for g in grads), batch[0]
        assert all(g.norm().isfinite() for g in grads), batch[0]  # the squares too, which clipping sums up


LOW, HIGH = -10001.0, -1.0
POLICY_SUMS = [(LOW, HIGH), (HIGH, LOW), (LOW, LOW), (HIGH, HIGH), (-201.0, HIGH), (HIGH, -201.0)]
REFERENCE_SUMS = [(-5.0, -5.0), (LOW, HIGH), (HIGH, LOW), (LOW, LOW)]


@ALL
def test_pushes_the_right_way_from_the_reference(loss: Loss) -> None:
    world = random_world(5).at_reference()
    nats = (
        torch.zeros(6, dtype=torch.float64, requires_grad=True),
        torch.zeros(6, dtype=torch.float64, requires_grad=True),
    )
    world.moved(*nats).each(loss).sum().backward()
    up, down = (torch.zeros(6) if t.grad is None else t.grad for t in nats)
    assert up.abs().sum() + down.abs().sum() > 0
    right = bool((up <= 1e-15).all() and (down >= -1e-15).all())
    assert right == (loss.name not in NOT_DOWNHILL)


@ALL
def test_one_step_against_the_gradient_lowers_the_loss(loss: Loss) -> None:
    world = random_world(6)
    nats = (
        torch.zeros(6, dtype=torch.float64, requires_grad=True),
        torch.zeros(6, dtype=torch.float64, requires_grad=True),
    )
    before = world.moved(*nats).each(loss).sum()
    before.backward()
    grads = [torch.zeros(6) if t.grad is None else t.grad for t in nats]
    size = 1e-6 / max(float(g.abs().max()) for g in grads)
    after = world.moved(*(-size * g for g in grads)).each(loss).sum()
    assert after < before


@ALL
def test_what_is_known_of_it_is_said(loss: Loss) -> None:
    lines = loss.doc.splitlines()
    assert lines[0].endswith((".", ";")) or lines[0].rstrip().endswith(".")
    assert lines[1] == "" and loss.doc.count("$$") == 2 and loss.paper
    assert ("Provisional" in loss.doc) == bool(loss.provisional)
    assert loss.group in losses.GROUPS and all(trap and not trap.endswith(".") for trap in loss.traps)


def test_two_steps_of_a_running_mean_are_one_of_both() -> None:
    """The shift of bco_pair_shift is a mean over all that was seen, however it was cut into steps."""
    loss, world = losses.get("bco_pair_shift"), random_world(7)
    _, first = world.take([0, 1]).each_with_state(loss)
    _, second = world.take([2, 3, 4, 5]).each_with_state(loss, state=first)
    _, whole = world.each_with_state(loss)
    torch.testing.assert_close(second.mean, whole.mean)
    assert second.count == whole.count == 12


def test_sampo_draws_by_seed_and_step_and_never_by_place() -> None:
    loss, world = losses.get("sampo"), random_world(8, pairs=20)
    first, state = world.each_with_state(loss)
    second, _ = world.each_with_state(loss, state=state)
    seeded = world.each(loss, loss.Params(seed=1))
    assert not torch.equal(first, second) and not torch.equal(first, seeded)
    torch.testing.assert_close(world.take([7, 3]).each(loss), first[[7, 3]], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_sampo_draws_every_token_alike() -> None:
    """Over many steps each of 6 tokens is among the 2 kept a third of the time, and exactly 2 are."""
    from prefzoo.losses.tokens import Draws, _scramble, sample_positions

    pair = vocab(padded([[-1.0] * 6]), padded([[-1.0] * 2]), torch.tensor([6]), torch.tensor([2]))
    keys = [_scramble(torch.tensor(step)) for step in range(3000)]
    kept = torch.cat([sample_positions(pair, pair.chosen_len, 6, key) for key in keys])
    assert (kept.sum(1) == 2).all()
    assert ((kept.double().mean(0) - 1 / 3).abs() < 0.04).all()  # 4 standard deviations are 0.034
    assert Draws.start().step == 0


def test_orpo_is_finite_beside_certainty() -> None:
    """log(1 - e^x) has no finite value at x = 0, and naive forms give inf or NaN gradients just below it."""
    for mean in (-1e-12, -1e-8, 0.0):
        for name in ("orpo", "orpo_align", "asft", "unlikelihood"):
            tokens = torch.full((1, 4), mean, requires_grad=True)
            policy = vocab(tokens, tokens, torch.tensor([4]), torch.tensor([4]))
            loss = losses.get(name)
            loss.each(policy, None, loss.Params()).sum().backward()
            assert tokens.grad is not None and tokens.grad.isfinite().all()


def test_at_equal_lengths_means_and_sums_agree() -> None:
    """One token each: ipo_mean is ipo, dpo_norm is dpo."""
    world = random_world(9, even=True)
    lengths = torch.ones(6, dtype=torch.int64)
    one = {"chosen_len": lengths, "rejected_len": lengths}
    world = replace(world, policy=replace(world.policy, **one), reference=replace(world.reference, **one))
    for mean, whole, knobs in (("ipo_mean", "ipo", {"tau": 0.2}), ("dpo_norm", "dpo", {"beta": 0.3})):
        loss, other = losses.get(mean), losses.get(whole)
        torch.testing.assert_close(world.each(loss, loss.Params(**knobs)), world.each(other, other.Params(**knobs)))


def test_the_kl_of_kto_carries_no_gradient_and_is_never_negative() -> None:
    world, loss = random_world(10), losses.get("kto")
    raised = world.mismatched.policy.clone().requires_grad_()
    nats = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    moved = replace(world.moved(nats, nats), mismatched=Mismatched(raised, world.mismatched.reference))
    moved.each(loss).sum().backward()
    assert raised.grad is None and nats.grad is not None
    zero = Mismatched(world.mismatched.policy, world.mismatched.policy)
    below = Mismatched(world.mismatched.policy - 50, world.mismatched.policy)
    torch.testing.assert_close(replace(world, mismatched=zero).each(loss), replace(world, mismatched=below).each(loss))
