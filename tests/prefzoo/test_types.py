"""The types that losses take: what is derived keeps its meaning, and what is detached its kind."""

from __future__ import annotations

import torch
from zoo_inputs import random_world

from prefzoo.types import Answers, LogProbs, VocabLogProbs


def test_answers_of_pairs_are_the_chosen_then_the_rejected() -> None:
    pairs = LogProbs(torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -4.0]), torch.tensor([1, 2]), torch.tensor([3, 4]))
    answers = Answers.from_pairs(pairs)
    assert answers.logps.tolist() == [-1, -2, -3, -4] and answers.lengths.tolist() == [1, 2, 3, 4]
    assert answers.desirable.tolist() == [True, True, False, False] and len(answers) == 4


def test_detached_log_probs_keep_their_kind_and_means_are_plain() -> None:
    world = random_world(0).moved(torch.zeros(6, requires_grad=True), torch.zeros(6))
    policy = world.policy
    assert policy.chosen.requires_grad and policy.chosen_tokens.requires_grad
    detached = policy.detach()
    assert type(detached) is VocabLogProbs and not detached.chosen.requires_grad
    assert not detached.chosen_tokens.requires_grad and torch.equal(detached.chosen, policy.chosen)
    assert type(policy.per_token()) is LogProbs
    assert torch.equal(policy.per_token().chosen, policy.chosen / policy.chosen_len)
