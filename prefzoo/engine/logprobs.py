"""Score preference pairs under a causal language model: decoder, head in tiles, sums over tokens in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prefzoo.data.batches import Layout, collate
from prefzoo.data.tokens import TokenExample
from prefzoo.engine import packed_attention
from prefzoo.engine.lm_head import LMHead, Tile, token_logprobs
from prefzoo.engine.token_kl import token_kl
from prefzoo.errors import UserError
from prefzoo.types import PADDING, LogProbs, PairBatch, TokenKL, TokenLogProbs, VocabLogProbs


def score(model: Any, batch: PairBatch, kind: type[LogProbs] = LogProbs, *, tile: Tile = None) -> LogProbs:
    """Return the log-probs of both answers of every pair, differentiable in the model's parameters.

    Matrix products may run in bf16 under autocast; the log-softmax and the sums are in fp32 (fp64 for an fp64 model).
    The statistics of `VocabLogProbs` carry no gradient.

    Args:
        model: A transformers causal language model, or a peft model around one.
        batch: B pairs, on the model's device.
        kind: Which log-probs the loss needs: sums, or also single tokens, or also statistics of the vocabulary.
        tile: Numbers of tokens and vocabulary entries whose logits are in memory at once; None suits the device.

    Returns:
        An instance of `kind` with (B,) sums in nats.
    """
    states, head = predicting_states(model, batch)
    return _scored(states, head, batch, kind, tile)


def score_with_kl(
    model: Any, reference: Any, batch: PairBatch, kind: type[LogProbs] = LogProbs, *, tile: Tile = None
) -> tuple[LogProbs, TokenKL]:
    """Return the log-probs of both answers, and the KL from a frozen reference summed over each answer's tokens.

    Args:
        model: The policy.
        reference: A frozen model with the same vocabulary.
        batch: B pairs, on the device of both models.
        kind: Which log-probs the loss needs.
        tile: Numbers of tokens and vocabulary entries whose logits are in memory at once; None suits the device.

    Returns:
        An instance of `kind`, and (B,) sums of KL(reference || model) in nats for chosen and rejected answers.
    """
    states, head = predicting_states(model, batch)
    with torch.no_grad():
        reference_states, reference_head = predicting_states(reference, batch)
    kl = token_kl(states, head, reference_states, reference_head, tile=tile)
    return _scored(states, head, batch, kind, tile), TokenKL(*answer_sums(kl, batch))


def sum_states(model: Any, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return the sums of the last hidden states that predict each answer's scored tokens.

    Args:
        model: A causal language model.
        batch: B pairs, on the model's device.

    Returns:
        (2B, D) sums in fp32, chosen answers first, and (2B,) numbers of tokens.
    """
    states, _ = predicting_states(model, batch)
    sums = states.new_zeros(2 * len(batch), states.shape[-1], dtype=torch.float32)
    return sums.index_add(0, batch.owner, states.float()), batch.lengths


def _scored(states: Tensor, head: LMHead, batch: PairBatch, kind: type[LogProbs], tile: Tile) -> LogProbs:
    wanted = issubclass(kind, VocabLogProbs)
    tokens, *stats = token_logprobs(states, head, batch.targets, statistics=wanted, tile=tile)
    return sum_up(tokens, stats if wanted else [], batch, kind)


def predicting_states(model: Any, batch: PairBatch) -> tuple[Tensor, LMHead]:
    """Return the hidden states that predict the scored tokens, and the head that reads them.

    Args:
        model: A causal language model, or a peft model around one.
        batch: The pairs, on the model's device.

    Returns:
        (N, D) states in the precision of matrix products, and the head.

    Raises:
        ValueError: The batch is packed, and the model's attention does not support blocks.
    """
    causal, device = _causal_lm(model), batch.tokens.device
    if batch.blocks and causal.config._attn_implementation != packed_attention.NAME:
        raise ValueError("a packed batch needs packed_attention.install(model): other attention would cross the blocks")
    extra = (
        packed_attention.forward_kwargs(batch.blocks) if batch.blocks else {"attention_mask": batch.segments != PADDING}
    )
    decoder = causal.get_decoder()
    decoder = causal.model if decoder is causal else decoder  # Llama 4's text model returns itself
    hidden = decoder(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False, **extra).last_hidden_state
    states = hidden.flatten(0, 1)[batch.source]
    if torch.is_autocast_enabled(device.type):
        states = states.to(torch.get_autocast_dtype(device.type))
    return states, lm_head_of(causal)


def lm_head_of(causal: Any) -> LMHead:
    """Return a transformers model's head; if a LoRA adapter is on the head, its update is added to the weight."""
    module, config = causal.get_output_embeddings(), causal.config
    layer = getattr(module, "base_layer", module)
    weight = layer.weight
    for name in getattr(module, "active_adapters", []):
        weight = weight + module.get_delta_weight(name)
    scale = float(getattr(config, "logit_scale", None) or 1) / float(getattr(config, "logits_scaling", None) or 1)
    return LMHead(
        weight, getattr(layer, "bias", None), scale, float(getattr(config, "final_logit_softcapping", None) or 0)
    )


PROBE_TOKENS = 48  # tokens of a prompt and of an answer that `choose_layout` scores
LAYOUTS: tuple[Layout, ...] = ("shared", "packed", "rows")
RECURRENT = ("linear", "conv", "mamba", "recurrent")  # parts of the names of such layers in configurations
NOTES = {
    "packed": "this architecture cannot share a prompt between two answers exactly: each answer gets its own prompt",
    "rows": "this architecture cannot be packed exactly: each answer gets its own padded row",
}


@torch.no_grad()
def choose_layout(model: Any, pairs: Sequence[TokenExample]) -> Layout:
    """Choose the layout with the fewest tokens among those that are exact for a model.

    Each layout is tried on two pairs, and its log-probs must equal those from the model's own logits. If answers share
    a row, changing the first answer must also leave the log-probs of all others unchanged. Sharing and packing are not
    exact for layers that ignore the blocks: recurrent layers, or attention of the model's own.

    Args:
        model: A causal language model; it stays on its device.
        pairs: The data, of which the longest and the shortest example are tried.

    Raises:
        UserError: Even padded rows do not reproduce the model's own log-probs, because its head is of an unknown kind.
    """
    probes = [_shortened(pick(pairs, key=len)) for pick in (max, min)]
    device, exact = next(model.parameters()).device, model.dtype in (torch.float32, torch.float64)
    rtol, atol = (1e-3, 0.02) if exact else (1e-2, 0.5)
    expected = torch.stack([_expected(model, pair, device) for pair in probes])
    for layout in LAYOUTS[-1:] if is_recurrent(model) else LAYOUTS:
        batch = collate(probes, layout, pad=model.config.pad_token_id or 0).to(device)
        try:
            values = score(model, batch)
        except (RuntimeError, ValueError, TypeError):  # a model that does not accept blocks
            if layout == "rows":
                raise
            continue
        if not torch.allclose(torch.stack([values.chosen, values.rejected], 1).double().cpu(), expected, rtol, atol):
            continue
        if layout == "rows" or _answers_are_apart(model, batch, values):
            return layout
    raise UserError(
        f"model {model.config.model_type}: its logits differ from those that the engine computes from its head and "
        "last hidden state; this architecture is not supported"
    )


def is_recurrent(model: Any) -> bool:
    """Return whether a model has recurrent layers, whose states cross the borders of packed blocks."""
    layers = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return bool(getattr(_causal_lm(model), "_is_stateful", False)) or any(
        kind in layer for layer in layers for kind in RECURRENT
    )


def left_out(model: Any) -> list[str]:
    """Return a line for each part of an architecture that training does not use."""
    if not is_recurrent(model):
        return []
    kind = model.config.model_type
    return [f"model {kind}: its recurrent layers start each row afresh; no states are cached, and rows are not packed"]


def _answers_are_apart(model: Any, batch: PairBatch, values: LogProbs) -> bool:
    """Return whether changing the first answer leaves the log-probs of all others unchanged.

    In a tiny or untrained model, a leak between answers may be smaller than the rounding differences between two
    layouts. Here both batches have the same layout, so rounding differs only if an expert layer gets other tokens.
    """
    prompt, first, _ = batch.blocks[0]
    size, tokens = model.config.get_text_config().vocab_size, batch.tokens.clone()
    answer = tokens[0, prompt : prompt + first]
    answer.copy_((answer + size // 2) % size)
    moved = score(model, replace(batch, tokens=tokens))
    rtol, atol = (1e-5, 1e-5) if model.dtype in (torch.float32, torch.float64) else (1e-2, 0.5)
    return torch.allclose(moved.chosen[1:], values.chosen[1:], rtol, atol) and torch.allclose(
        moved.rejected, values.rejected, rtol, atol
    )


def _shortened(example: TokenExample) -> TokenExample:
    """Return an example with the end of its prompt and the start of each answer, in which all tokens are scored."""
    return replace(example.truncated(PROBE_TOKENS), prompt=example.prompt[-PROBE_TOKENS:], scored=None)


def _expected(model: Any, example: TokenExample, device: torch.device) -> Tensor:
    """Return the (2,) log-probs of the answers from the model's own logits; 0 for a missing second answer."""
    sums = torch.zeros(2, dtype=torch.float64)
    for i, answer in enumerate(example.answers):
        ids = torch.tensor([[*example.prompt, *answer]], device=device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(example.prompt) - 1 : -1].float().log_softmax(-1)
        sums[i] = logits.gather(-1, ids[0, len(example.prompt) :, None]).double().sum().cpu()
    return sums


def _causal_lm(model: Any) -> Any:
    """Return the transformers model inside a peft wrapper; its adapters stay active."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def sum_up(tokens: Tensor, stats: Sequence[Tensor], batch: PairBatch, kind: type[LogProbs]) -> LogProbs:
    """Sum the tokens' log-probs over each answer, and arrange single tokens by answer if `kind` has them.

    Args:
        tokens: (N,) log-probs in nats of the scored tokens.
        stats: (N,) statistics of the tokens' distributions, for `VocabLogProbs`; empty for other kinds.
        batch: The pairs.
        kind: Which log-probs the loss needs.

    Returns:
        An instance of `kind`.
    """
    pairs = len(batch)
    lengths = batch.lengths
    values = [*answer_sums(tokens, batch), lengths[:pairs], lengths[pairs:]]
    if issubclass(kind, TokenLogProbs):
        starts = lengths.cumsum(0) - lengths
        index = torch.arange(len(tokens), device=tokens.device) - starts[batch.owner]
        for of_tokens in (tokens, *stats):
            dense = of_tokens.new_zeros(2 * pairs, batch.longest).index_put((batch.owner, index), of_tokens)
            values += [dense[:pairs], dense[pairs:]]
    return kind(*values)


def answer_sums(tokens: Tensor, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return the (B,) sums of (N,) values of tokens over the chosen answers, and those over the rejected answers."""
    size = 2 * len(batch)
    if tokens.is_cuda:
        sums = segment_sums(tokens, batch.owner, size)
    else:
        sums = tokens.new_zeros(size).index_add(0, batch.owner, tokens)
    return sums[: len(batch)], sums[len(batch) :]


def segment_sums(tokens: Tensor, owner: Tensor, size: int) -> Tensor:
    """Return the sums of consecutive tokens, in the same order every time.

    On a GPU, `index_add` adds in varying order, so that a policy equal to the reference would differ by rounding.

    Args:
        tokens: (N,) values.
        owner: (N,) index of the sum that each value belongs to, in ascending order.
        size: Number of sums.

    Returns:
        (size,) sums; 0 where there are no tokens.
    """
    counts = torch.zeros(size, dtype=torch.long, device=owner.device).index_add(0, owner, torch.ones_like(owner))
    sums: Tensor = torch.segment_reduce(tokens, "sum", lengths=counts, initial=0.0, unsafe=True)
    return sums
