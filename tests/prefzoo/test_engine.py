"""The log-prob engine against plain logits, and the invariances of its layouts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from prefzoo.data.batches import Layout, collate, order
from prefzoo.data.tokens import TokenAnswer, TokenPair
from prefzoo.engine import packed_attention
from prefzoo.engine.logprobs import LAYOUTS, Tile, choose_layout, score, score_with_kl, segment_sums
from prefzoo.engine.packed_attention import attend
from prefzoo.engine.reference_logprobs import rows_key
from prefzoo.errors import UserError
from prefzoo.evals.generation.generate import generate
from prefzoo.types import LogProbs, VocabLogProbs


def random_pairs(count: int = 5) -> list[TokenPair]:
    gen = torch.Generator().manual_seed(1)

    def some(low: int, high: int) -> list[int]:
        n = int(torch.randint(low, high, (), generator=gen))
        return torch.randint(2, 258, (n,), generator=gen).tolist()

    return [TokenPair(some(2, 9), some(1, 7), some(1, 7), row) for row in range(count)]


def by_hand(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Full logits of one unpadded sequence, summed over the answer."""
    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_sums_equal_those_of_plain_logits(tiny_model: Any, layout: Layout) -> None:
    pairs = random_pairs()
    scored = score(tiny_model, collate(pairs, layout, pad=1))
    for i, pair in enumerate(pairs):
        assert float(scored.chosen[i]) == pytest.approx(by_hand(tiny_model, pair.prompt, pair.chosen), abs=1e-4)
        assert float(scored.rejected[i]) == pytest.approx(by_hand(tiny_model, pair.prompt, pair.rejected), abs=1e-4)
    assert scored.chosen_len.tolist() == [len(p.chosen) for p in pairs]
    assert scored.rejected_len.tolist() == [len(p.rejected) for p in pairs]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gpus_sums_in_a_fixed_order_are_the_same_sums(layout: Layout) -> None:
    """On the CPU by the same call; the second answer of a single labelled one has no tokens."""
    examples = [*random_pairs(), TokenAnswer([5, 6], [7, 8, 9], True, 9)] if layout == "rows" else random_pairs()
    owner = torch.cat([collate([example], layout, pad=1).owner + 2 * i for i, example in enumerate(examples)])
    whole = collate(random_pairs(), layout, pad=1)
    assert bool((whole.owner.diff() >= 0).all())  # what summing by segments needs
    for belongs, size in ((owner, 2 * len(examples)), (whole.owner, 2 * len(whole))):
        tokens = torch.randn(len(belongs), generator=torch.Generator().manual_seed(0), requires_grad=True)
        expected = tokens.new_zeros(size).index_add(0, belongs, tokens)
        sums = segment_sums(tokens, belongs, size)
        torch.testing.assert_close(sums, expected)
        weights = torch.arange(size) + 1.0
        torch.testing.assert_close(*(torch.autograd.grad((s * weights).sum(), tokens)[0] for s in (sums, expected)))


def gradients(model: Any, layout: Layout, tile: Tile = None) -> tuple[LogProbs, torch.Tensor]:
    model.zero_grad()
    scored = score(model, collate(random_pairs(), layout, pad=1), tile=tile)
    (scored.margin**2).mean().backward()
    return scored, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


@pytest.mark.parametrize(
    ("layout", "tile"), [("shared", None), ("packed", None), ("rows", (7, 50)), ("shared", (7, 50))]
)
def test_layout_and_tile_size_change_neither_values_nor_gradients(tiny_model: Any, layout: Layout, tile: Tile) -> None:
    tiny_model.double()  # its norms stay fp32
    one, grad = gradients(tiny_model, "rows")
    two, other = gradients(tiny_model, layout, tile)
    torch.testing.assert_close(one.margin, two.margin, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(grad, other, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_pair_does_not_depend_on_its_company(tiny_model: Any) -> None:
    pairs = random_pairs()
    together = score(tiny_model, collate(pairs, "shared", pad=1)).margin
    alone = torch.cat([score(tiny_model, collate([p], "shared", pad=1)).margin for p in pairs])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_every_pair_comes_once_before_any_comes_again() -> None:
    batches = order(examples=10, batch=4, steps=5, seed=3)
    stream = [i for b in batches for i in b]
    assert [len(b) for b in batches] == [4] * 5
    assert sorted(stream[:10]) == list(range(10)) and sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:] and batches == order(10, 4, 5, 3) and batches != order(10, 4, 5, 4)


@pytest.mark.parametrize("tile", [None, (7, 50)])
def test_token_values_and_kl_by_full_logits(tiny_model: Any, tile: Tile) -> None:
    pairs, other = random_pairs(), copy.deepcopy(tiny_model)
    with torch.no_grad():
        other.get_output_embeddings().weight.mul_(1.1)
    batch = collate(pairs, "shared", pad=1)
    scored, kl = score_with_kl(tiny_model, other, batch, VocabLogProbs, tile=tile)
    assert isinstance(scored, VocabLogProbs) and kl.chosen.requires_grad
    for i, pair in enumerate(pairs):
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            at = slice(len(pair.prompt) - 1, len(pair.prompt) + len(answer) - 1)
            ids = torch.tensor([pair.prompt + answer])
            log_p, log_q = (m(input_ids=ids).logits[0, at].double().log_softmax(-1) for m in (tiny_model, other))
            rows, n = torch.arange(len(answer)), len(answer)
            expected = {
                "tokens": log_p[rows, torch.tensor(answer)],
                "entropy": -(log_p.exp() * log_p).sum(-1),
                "log_sum_sq": (log_p.exp() ** 2).sum(-1).log(),
            }
            for name, values in expected.items():
                mine = getattr(scored, f"{side}_{name}")[i].double()
                torch.testing.assert_close(mine[:n], values, atol=1e-4, rtol=1e-4)
                assert not mine[n:].any()
            by_hand_kl = (log_q.exp() * (log_q - log_p)).sum()
            torch.testing.assert_close(getattr(kl, side)[i].double(), by_hand_kl, atol=1e-4, rtol=1e-3)


def test_padding_changes_no_generated_answer(tiny_model: Any, tiny_tokenizer: Any) -> None:
    packed_attention.install(tiny_model)
    prompts = ["a", "a river in the north", "the river is long and cold in winter, is it?"]
    together = generate(tiny_model, tiny_tokenizer, prompts, max_new_tokens=8)
    alone = [generate(tiny_model, tiny_tokenizer, [p], max_new_tokens=8)[0] for p in prompts]
    assert together == alone and len({a[0].text for a in alone}) == len(prompts)


def test_the_layout_is_tried_before_it_is_used(tiny_model: Any) -> None:
    from transformers import MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

    size = dict(vocab_size=340, hidden_size=32, num_hidden_layers=2, initializer_range=0.3, pad_token_id=0)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, attn_implementation="sdpa")
    pairs = random_pairs()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        recurrent = MambaForCausalLM(MambaConfig(**size, state_size=4)).eval()
        window = MistralForCausalLM(MistralConfig(**size, **heads, sliding_window=4)).eval()
    assert choose_layout(window, pairs) == "rows"  # torch's own attention knows no blocks
    packed_attention.install(window)
    assert choose_layout(window, pairs) == choose_layout(tiny_model, pairs) == "shared"
    assert choose_layout(recurrent, pairs) == "rows"


def test_packing_is_refused_where_attention_would_cross_blocks(tiny_model: Any) -> None:
    tiny_model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="needs packed_attention.install"):
        score(tiny_model, collate(random_pairs(), "packed", pad=1))


ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    (
        "gemma2",
        dict(final_logit_softcapping=3.0, attn_logit_softcapping=2.0, query_pre_attn_scalar=8, sliding_window=4),
    ),
    ("cohere", dict(logit_scale=0.3)),
    ("granite", dict(logits_scaling=4.0)),
    ("qwen2", {}),
    ("phi", {}),
]


@pytest.mark.parametrize(("kind", "settings"), ARCHITECTURES, ids=[kind for kind, _ in ARCHITECTURES])
def test_heads_of_other_architectures(kind: str, settings: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind, vocab_size=340, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=64, initializer_range=0.3, pad_token_id=0, **settings,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    packed_attention.install(model)
    assert choose_layout(model, random_pairs()) == "shared"


def test_a_head_that_is_not_understood_is_refused(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model.config, "logit_scale", 3.0, raising=False)  # which Llama does not read
    with pytest.raises(UserError, match="model llama: its logits differ from those that the engine computes"):
        choose_layout(tiny_model, random_pairs())


@pytest.mark.parametrize("masked", [True, False])
def test_short_rows_attend_as_the_fused_kernel_does(masked: bool) -> None:
    gen = torch.Generator().manual_seed(3)
    query = torch.randn(2, 6, 9, 4, generator=gen, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(2, 3, 9, 4, generator=gen, dtype=torch.float64, requires_grad=True) for _ in range(2))
    seen = torch.rand(2, 1, 9, 9, generator=gen) > 0.5
    mask = seen.tril() | torch.eye(9, dtype=torch.bool) if masked else None
    result, _ = attend(None, query, key, value, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(result, expected)
    weights = torch.randn(result.shape, generator=gen, dtype=torch.float64)
    one = torch.autograd.grad((result * weights).sum(), (query, key, value))
    two = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    torch.testing.assert_close(one, two)


def test_keys_of_cached_log_probs_stay_those_of_older_caches() -> None:
    assert rows_key([TokenPair([1, 2], [3], [4, 5], 0)]) == "63f4340052a2333c"
    assert rows_key([TokenAnswer([1, 2], [3], True, 0)]) == "97b14188ef75ae11"
