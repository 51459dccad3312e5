"""What is known to go wrong with these losses elsewhere, each with the number that tells right from wrong."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, log1p
from typing import Any

import pytest
import torch
from zoo_inputs import World, padded, random_world, vocab

from prefzoo import losses


def mean(name: str, world: Any, **knobs: Any) -> float:
    loss = losses.get(name)
    return float(world.each(loss, loss.Params(**knobs)).mean())


def test_robust_is_unbounded_below() -> None:
    """beta h = 60, flip rate 0.1: -0.1 * 60 / 0.8 = -7.5."""
    world = random_world(0).at_reference().moved(torch.full((6,), 60.0), torch.zeros(6))
    assert mean("robust", world, beta=1.0, flip_rate=0.1) == pytest.approx(-7.5)


def test_discopop_is_stable_and_starts_uphill() -> None:
    """x = -200: the value is 200 and its slope -1; at 0 the slope is +0.784 per unit of x, and uphill."""
    base, loss = random_world(0).at_reference(), losses.get("discopop")
    for x, value, slope in ((-200.0, 200.0, -1.0), (0.0, (log(2) + 1) / 2, 0.784)):
        nats = torch.full((6,), x, dtype=torch.float64, requires_grad=True)
        each = base.moved(nats, torch.zeros(6)).each(loss, loss.Params(beta=1.0, tau=0.05))
        each.sum().backward()
        assert nats.grad is not None
        assert each[0].item() == pytest.approx(value) and nats.grad[0].item() == pytest.approx(slope, abs=1e-3)


def test_forward_kl_is_finite_where_both_answers_fell() -> None:
    """TRL: inf - inf at 95 nats below the reference."""
    even = random_world(0, even=True).at_reference()
    assert mean("fdpo_forward_kl", fell(even)) == pytest.approx(log(2), rel=0.1)  # e^30 magnifies the last digits
    assert fell(even.to(torch.float32)).each(losses.get("fdpo_forward_kl")).isfinite().all()


def fell(world: World) -> World:
    return world.moved(torch.full((6,), -95.0), torch.full((6,), -95.0))


def test_the_two_length_desensitised_ones_differ_where_lengths_do() -> None:
    """At policy = reference the margin is 0 with both weighed, and nats away with the policy's alone."""
    world = random_world(0).at_reference()
    assert mean("ld_dpo", world) == pytest.approx(log(2))
    assert abs(mean("ld_dpo_policy", world) - log(2)) > 1e-2
    assert mean("ld_dpo_policy", world, alpha=1.0) == pytest.approx(log(2))


def test_length_regularisation_has_a_plus() -> None:
    """A chosen answer that is longer is pushed less: its loss is lower at the same margin."""
    world, loss = random_world(0), losses.get("r_dpo")
    longer = world.policy.chosen_len > world.policy.rejected_len
    less = world.each(loss, loss.Params(alpha=0.5)) < world.each(losses.get("dpo"))
    assert longer.any() and less[longer].all() and not less[~longer].any()


def test_sampo_is_log_2_at_the_reference() -> None:
    """The authors' code draws other tokens for the reference, and starts with noise."""
    assert mean("sampo", random_world(0).at_reference()) == pytest.approx(log(2), rel=1e-12)


def test_wpo_weights_are_clamped_and_carry_no_gradient() -> None:
    world, loss = random_world(0), losses.get("wpo")
    sharp = replace(world.policy, chosen_log_sum_sq=world.policy.chosen_log_sum_sq - 50)
    clamped = replace(world, policy=sharp)
    dpo = losses.get("dpo")
    torch.testing.assert_close(clamped.each(loss), clamped.each(dpo, dpo.Params(beta=0.01)))


def test_simpo_has_no_likelihood_term() -> None:
    """Only the margin counts: raising both answers by as much per token leaves it where it was."""
    world = random_world(0, even=True)
    up = world.moved(torch.full((6,), 7.0), torch.full((6,), 7.0))
    assert mean("simpo", up) == pytest.approx(mean("simpo", world))
    assert mean("cpo_simpo", up) == pytest.approx(mean("cpo_simpo", world) - 1)  # 7 nats over 7 tokens


def test_sppo_sums_the_squares() -> None:
    """At policy = reference, beta 0.001: two targets of 500 nats; the authors' code halves the sum."""
    assert mean("sppo_hard", random_world(0).at_reference(), beta=0.001) == pytest.approx(2 * 500**2)


def test_cal_dpo_has_no_beta_in_its_logistic_term() -> None:
    """Its weight at 0 leaves -log sigma(h), whatever beta."""
    world = random_world(0)
    assert mean("cal_dpo", world, weight=0.0) == pytest.approx(mean("dpo", world, beta=1.0))


def test_exo_takes_its_own_epsilon() -> None:
    """The authors' code has log(epsilon) = -10 in place of log(0.001) = -6.9: they differ where sigma(-x) counts."""
    world = random_world(0).at_reference()
    assert mean("exo_pair", world) == pytest.approx(-log(2) - 0.5 * (log(1e-3) + log1p(-1e-3)))
    assert mean("exo_pair", world, epsilon=exp(-10)) - mean("exo_pair", world) == pytest.approx(
        0.5 * (10 + log(1e-3)), rel=1e-3
    )


def test_alphapo_stays_finite_on_improbable_answers_and_is_simpo_at_zero() -> None:
    world = random_world(0).moved(torch.full((6,), -5000.0), torch.zeros(6))
    assert torch.isfinite(torch.tensor(mean("alphapo", world)))
    world = random_world(0)
    assert mean("alphapo", world, alpha=0.0, beta=2.0, gamma=1.0) == mean("simpo", world)
    assert mean("alphapo", world, alpha=1e-9, beta=2.0, gamma=1.0) == pytest.approx(mean("simpo", world))


def test_hinge_is_not_slic() -> None:
    """slic_hf knows no reference; beta of hinge is the reciprocal of its margin."""
    assert not losses.get("slic_hf").needs_reference and losses.get("hinge").needs_reference
    world = random_world(0).at_reference().moved(torch.full((6,), 20.0), torch.zeros(6))
    assert mean("hinge", world, beta=1 / 20) == pytest.approx(0.0, abs=1e-6)


def test_one_pair_of_aot_is_dpo_and_halves_differ_from_the_whole() -> None:
    world = random_world(1)
    for name in ("aot", "aot_unpaired"):
        alone = world.take([2])
        assert mean(name, alone, beta=0.1) == pytest.approx(mean("dpo", alone, beta=0.1))
        halves = (mean(name, world.take([0, 1, 2]), beta=0.1) + mean(name, world.take([3, 4, 5]), beta=0.1)) / 2
        assert mean(name, world, beta=0.1) != pytest.approx(halves, rel=1e-4)


def test_odpo_takes_ties_and_reversed_scores() -> None:
    world = random_world(0)
    tied = replace(world, scores=replace(world.scores, chosen=world.scores.rejected - 1))
    assert torch.isfinite(tied.each(losses.get("odpo"))).all()


def test_beta_dpo_drops_the_pairs_of_unusual_margin() -> None:
    """Six pairs, one far out, drop 0.2 (round(4.8) = 5 kept): the outlier's value is zero, the others count 6/5."""
    far = torch.tensor([0.0, 0, 0, 400, 0, 0])
    values = random_world(0).at_reference().moved(far, torch.zeros(6)).each(losses.get("beta_dpo"))
    assert values.tolist() == pytest.approx([1.2 * log(2)] * 3 + [0.0] + [1.2 * log(2)] * 2)


def test_answers_without_tokens_give_no_nan() -> None:
    """Means and masks of an answer of length 0: cleaning drops such rows, and a slip must not spread NaN."""
    empty = torch.zeros(1, 2)
    policy = vocab(empty, padded([[-1.0, -2.0]]).float(), torch.tensor([0]), torch.tensor([2]))
    for loss in losses.all_losses():
        if set(loss.needs) <= {"policy", "reference"} and not loss.unpaired:
            reference = policy if loss.needs_reference else None
            assert loss.each(policy, reference, loss.Params()).isfinite().all(), loss.name


def test_mallows_weighs_sure_prompts_more() -> None:
    world = random_world(0)
    sure = replace(
        world,
        reference=replace(
            world.reference,
            chosen_entropy=0.1 * world.reference.chosen_entropy,
            rejected_entropy=0.1 * world.reference.rejected_entropy,
        ),
    )
    up = world.policy.margin > world.reference.margin
    loss = losses.get("mallows_dpo")
    assert (sure.each(loss)[up] < world.each(loss)[up]).all()


def test_knobs_that_make_no_loss_are_refused() -> None:
    for name, knobs in (
        ("exo_pair", {"epsilon": 0.0}), ("robust", {"flip_rate": 0.5}), ("ipo", {"tau": -0.1}), ("dpo", {"beta": 0.0}),
        ("discopop", {"tau": 1.5}), ("fdpo_alpha", {"alpha": 0.0}), ("beta_dpo", {"drop": 1.0}), ("dpo", {"beta": "x"}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(knobs))):
            losses.get(name).Params(**knobs)


def test_unlearning_leaves_the_chosen_answer_alone_and_starts_as_gradient_ascent() -> None:
    """For beta to 0, npo is 2 ln 2 / beta + p_l: its slope per nat of the rejected answer is 1 at the reference."""
    base = random_world(0)
    for name, world in (("npo", base.at_reference()), ("simnpo", base)):
        loss = losses.get(name)
        nats = torch.zeros(6, dtype=torch.float64, requires_grad=True), torch.zeros(6, requires_grad=True)
        world.moved(nats[1], nats[0]).each(loss).sum().backward()
        assert nats[0].grad is not None and (nats[0].grad > 0).all()
        assert nats[1].grad is None or not nats[1].grad.any()
        assert name != "npo" or nats[0].grad.tolist() == pytest.approx([1.0] * 6)


def test_what_dpo_is_among_its_variants() -> None:
    world = random_world(0)
    for name, knobs in (("dpo_shift", {"shift": 1.0}), ("h_dpo", {"alpha": 1.0}), ("c2_dpo", {"weight": 0.0}),
                        ("focal_po", {"gamma": 0.0})):  # fmt: skip
        assert mean(name, world, beta=0.3, **knobs) == pytest.approx(mean("dpo", world, beta=0.3)), name


def test_both_answers_falling_alike_is_no_gain_where_displacement_is_meant_to_be_hindered() -> None:
    """Both fall by 9 nats: dpo sees no change; these get worse, and so does minor_dpo's chosen answer."""
    world = random_world(0).at_reference()
    fallen = world.moved(torch.full((6,), -9.0), torch.full((6,), -9.0))
    assert mean("dpo", fallen) == pytest.approx(mean("dpo", world))
    for name in ("dpo_shift", "bpo", "minor_dpo", "c2_dpo"):
        assert mean(name, fallen) > mean(name, world) + 1e-3, name


def test_focal_po_has_a_lower_value_far_on_the_wrong_side_but_pushes_the_right_way() -> None:
    """x = -60, gamma 1: sigma(x) * 60 is 0, and so is the slope; at x = -2 the slope is sigma(x) times dpo's."""
    base = random_world(0).at_reference()
    assert mean("focal_po", base.moved(torch.full((6,), -60.0), torch.zeros(6)), beta=1.0, gamma=1.0) < 1e-9
    slopes = {}
    for name, knobs in (("dpo", {}), ("focal_po", {"gamma": 1.0})):
        nats, loss = torch.full((6,), -2.0, dtype=torch.float64, requires_grad=True), losses.get(name)
        base.moved(nats, torch.zeros(6)).each(loss, loss.Params(beta=1.0, **knobs)).sum().backward()
        assert nats.grad is not None
        slopes[name] = float(nats.grad[0])
    assert slopes["focal_po"] == pytest.approx(slopes["dpo"] / (1 + exp(2))) and slopes["focal_po"] < 0


def test_ties_pull_the_margin_to_zero_and_without_them_dpo_is_left() -> None:
    world = random_world(0)
    tied = replace(world, scores=replace(world.scores, chosen=world.scores.rejected))
    for name, small in (("dpo_rk", {"alpha": 1e-6}), ("dpo_davidson", {"nu": 1e-6})):
        assert mean(name, world, beta=0.1, **small) == pytest.approx(mean("dpo", world), rel=1e-4)
        for nats in (30.0, -30.0):
            apart = replace(world.at_reference().moved(torch.full((6,), nats), torch.zeros(6)), scores=tied.scores)
            level = replace(world.at_reference(), scores=tied.scores)
            assert mean(name, apart, beta=0.1) > mean(name, level, beta=0.1), (name, nats)


def test_preferences_and_ties_have_the_probabilities_of_all_outcomes() -> None:
    """Win, loss and tie sum to one; equal answers tie 24% of the time at the default threshold, and half at nu = 1."""
    world = random_world(0)
    swapped = replace(world, policy=flipped(world.policy), reference=flipped(world.reference), scores=world.scores)
    tied = replace(world, scores=replace(world.scores, chosen=world.scores.rejected))
    for name, level in (("dpo_rk", 0.2449), ("dpo_davidson", 0.5)):
        loss = losses.get(name)
        total = sum(torch.exp(-one.each(loss)) for one in (world, swapped, tied))
        torch.testing.assert_close(total, torch.ones(6, dtype=torch.float64))
        even = replace(world.at_reference(), scores=tied.scores)
        assert exp(-mean(name, even)) == pytest.approx(level, abs=1e-4)


def flipped(side: Any) -> Any:
    return replace(side, chosen=side.rejected, rejected=side.chosen)


@pytest.mark.slow
def test_gamma_po_asks_more_of_clear_pairs_and_gamma_on_average() -> None:
    loss, start = losses.get("gamma_simpo"), losses.gamma_po.RecentMargins.start()
    margins = torch.tensor([-3.0, 0.0, 2.0, 9.0], dtype=torch.float64)
    targets, after = start.with_targets(margins, 4.0, 10.0)
    assert targets.diff().gt(0).all() and targets.mean().item() == pytest.approx(4.0)
    assert after.margins.tolist() == margins.tolist()
    many = after
    for step in range(300):
        _, many = many.with_targets(margins + step, 4.0, 10.0)
    assert len(many.margins) == 256 and many.margins[-1] == 308.0
    world = random_world(0)
    assert not torch.equal(world.each(loss), world.each(loss, state=many))


def test_what_decay_leaves_of_late_tokens() -> None:
    world = random_world(0)
    assert mean("d2po", world, decay=1.0) == pytest.approx(mean("dpo", world))
    assert mean("d2_simpo", world, decay=1.0) == pytest.approx(mean("simpo", world))
    late = world.policy.chosen_tokens.clone()
    late[:, 2:] *= 3
    other = world.with_tokens(late, world.policy.rejected_tokens)
    assert mean("d2po", other, decay=1e-6) == pytest.approx(mean("d2po", world, decay=1e-6), rel=1e-9)


def test_rdro_is_least_at_minus_log_alpha_and_never_below_zero() -> None:
    """alpha 0.25, a good answer: (1 + alpha) sigma(p) = 1 at e^p = 4; ddro's falls without end."""
    base, loss = random_world(0).at_reference(), losses.get("rdro")
    for nats, slope in ((log(4), 0.0), (log(4) - 1, -1.0), (log(4) + 1, 1.0)):
        moved = torch.full((6,), nats, dtype=torch.float64, requires_grad=True)
        base.moved(moved, torch.zeros(6)).each(loss, loss.Params(alpha=0.25))[:6].sum().backward()
        assert moved.grad is not None
        assert moved.grad.sign().tolist() == [slope] * 6 or moved.grad.tolist() == pytest.approx([slope] * 6, abs=1e-9)
    far = base.moved(torch.full((6,), 60.0), torch.full((6,), -60.0))
    assert mean("rdro", far) > 0 > mean("ddro", far)


def test_mappo_is_dpo_at_a_gap_of_one_and_leaves_the_rejected_answer_alone_at_none() -> None:
    world = random_world(0)
    one, zero = (replace(world.scores, chosen=world.scores.rejected + gap) for gap in (1.0, 0.0))
    torch.testing.assert_close(replace(world, scores=one).each(losses.get("mappo")), world.each(losses.get("dpo")))
    fallen = world.moved(torch.zeros(6), torch.full((6,), -9.0))
    assert mean("mappo", replace(fallen, scores=zero)) == pytest.approx(mean("mappo", replace(world, scores=zero)))
    assert mean("mappo", replace(fallen, scores=one)) < mean("mappo", replace(world, scores=one)) - 1e-2


def test_uni_dpo_without_its_weights_is_half_of_dpo_norm_and_weighs_wide_gaps_most() -> None:
    world, plain = random_world(0), {"gamma": 0.0, "weight": 0.0, "beta": 3.0}
    assert 2 * mean("uni_dpo", world, eta=0.0, **plain) == pytest.approx(mean("dpo_norm", world, beta=3.0))
    wide = replace(world, scores=replace(world.scores, chosen=world.scores.rejected + 9))
    assert mean("uni_dpo", wide, **plain) == pytest.approx(mean("dpo_norm", world, beta=3.0), rel=1e-2)


def test_confpo_is_simpo_where_all_tokens_are_equally_likely_and_skips_the_certain_ones_else() -> None:
    flat = random_world(0).at_reference()
    evened = flat.with_tokens(
        *(torch.where(t != 0, -1.7, 0.0).double() for t in (flat.policy.chosen_tokens, flat.policy.rejected_tokens))
    )
    knobs = {"beta": 2.0, "gamma": 0.5}
    assert mean("confpo", evened, **knobs) == pytest.approx(mean("simpo", evened, **knobs))
    loss, tokens = losses.get("confpo"), flat.policy.chosen_tokens.clone().requires_grad_()
    flat.with_tokens(tokens, flat.policy.rejected_tokens).each(loss, loss.Params()).sum().backward()
    assert tokens.grad is not None
    for row, grad, count in zip(tokens.detach(), tokens.grad, flat.policy.chosen_len, strict=True):
        likely = row[:count].exp() > row[:count].exp().mean()
        assert (grad[:count] == 0).tolist() == likely.tolist() and likely.any()
