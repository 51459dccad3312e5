"""GGUF files: converted to the same files as without the shortcuts, each parsed once, and nothing of `gguf` changed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoModelForCausalLM

from prefzoo.engine import gguf_files, models
from prefzoo.engine.tokenizers import load_tokenizer
from prefzoo.errors import UserError

HIDDEN, HEADS, LAYERS = 32, 4, 2
WORDS = ["<unk>", "<s>", "</s>", *(chr(i) for i in range(33, 127)), "ab", "cd"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A GGUF file with a random two-layer Llama and a vocabulary of single characters."""
    import numpy as np

    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(WORDS))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    draw = np.random.default_rng(0)
    wide, narrow = (2 * HIDDEN, HIDDEN), (HIDDEN, 2 * HIDDEN)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(WORDS), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        square = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (HIDDEN, HIDDEN))
        norms = dict.fromkeys(("attn_norm", "ffn_norm"), (HIDDEN,))
        block = {**square, **norms, "ffn_gate": wide, "ffn_up": wide, "ffn_down": narrow}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_files_are_those_without_the_shortcuts(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf_files.convert(small, tmp_path / "fast")
    monkeypatch.setattr(gguf_files, "_read_once", nullcontext)
    gguf_files.convert(small, tmp_path / "plain")
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert "model.safetensors" in names and "tokenizer.json" in names
    for name in names:
        assert (tmp_path / "fast" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "fast")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_a_file_is_parsed_once_and_gguf_is_as_before(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Any] = []
    build = gguf.GGUFReader._build_fields
    monkeypatch.setattr(gguf.GGUFReader, "_build_fields", lambda *words: parsed.append(1) or build(*words))
    before = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf_files.convert(small, tmp_path / "fast")
    assert len(parsed) == 1
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before


def test_its_tokenizer_alone_is_that_of_the_model_and_is_read_once(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = models.load("small.gguf", tmp_path)
    assert expected.chat_template
    read: list[Path] = []
    real = gguf_files.convert_tokenizer

    def refuse(*_: Any) -> None:
        raise AssertionError("the weights are read")

    monkeypatch.setattr(gguf_files, "convert", refuse)
    monkeypatch.setattr(gguf, "dequantize", refuse)  # what turns bytes of a file into weights
    monkeypatch.setattr(gguf_files, "convert_tokenizer", lambda *words: read.append(words[0]) or real(*words))
    for _ in range(2):
        alone = load_tokenizer("small.gguf", tmp_path)
        assert models.tokenizer_hash(alone) == models.tokenizer_hash(expected)
    assert read == [small]
    small.write_bytes(b"GGUF, but broken")
    with pytest.raises(UserError, match="cannot be read as a GGUF file"):
        load_tokenizer("small.gguf", tmp_path)
