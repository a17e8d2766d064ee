"""GGUF: the tensors as the package gguf reads them, and the logits of transformers and of llama.cpp."""

import importlib.util

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from transformers import AutoModelForCausalLM

from gpt2lab.config import UserError
from gpt2lab.tokenizers import UntrainedBPE, load_tokenizer, read_tokenizer
from gpt2lab.weights.gguf_file import save_gguf
from tests.tokenizer_files import CORPUS, pythia, smollm

BYTES = load_tokenizer("bytes")
SHAPE = {"vocab_size": 257, "n_embd": 32}
MODELS = {
    "gpt2": {"block_size": 1024},  # transformers takes the length of any GPT-2 in GGUF for 1024
    "gptneox": {"positions": "rope", "rope_fraction": 0.5},
    "llama": {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "n_head": 4, "n_kv_head": 2},
}


def exported(model, folder, tokenizer=BYTES, **trained_with):
    """The path of a model's file."""
    save_gguf(model, tokenizer, folder, trained_with=trained_with)
    return folder / "model.gguf"


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_transformers_reads_the_same_weights_and_logits_from_gguf(tiny_model, tmp_path, name, tie_head):
    ours = tiny_model(**SHAPE, **MODELS[name], tie_head=tie_head, vocab_multiple_of=64)
    path = exported(ours, tmp_path / "out")
    theirs, loading = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, output_loading_info=True, dtype="float32"
    )
    assert not any(loading.values()), loading
    assert theirs.config.model_type == name
    tokens_BT = torch.randint(257, (2, 12))
    torch.testing.assert_close(theirs(tokens_BT).logits, ours(tokens_BT), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_gguf_holds_the_weights_and_settings_of_llama_cpp(tiny_model, tmp_path, name):
    model = tiny_model(**SHAPE, **MODELS[name])
    reader = gguf.GGUFReader(
        exported(model, tmp_path / "out", gpt2lab_sequence_length=8, gpt2lab_document_masking=True)
    )
    assert reader.get_field("gpt2lab_sequence_length").contents() == 8
    assert reader.get_field("gpt2lab_document_masking").contents() is True
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    known = gguf.constants.MODEL_TENSORS[getattr(gguf.MODEL_ARCH, name.upper())]
    patterns = {gguf.TENSOR_NAMES[tensor] for tensor in known}
    assert all(key.replace("blk.1.", "blk.{bid}.").replace("blk.0.", "blk.{bid}.").rpartition(".")[0] in patterns
               for key in tensors)  # fmt: skip
    weights = dict(model.named_parameters())
    for theirs, ours in {
        "token_embd.weight": "wte.weight",
        "blk.1.ffn_down.weight": "blocks.1.mlp.c_proj.weight",
        "blk.1.attn_output.weight": "blocks.1.attn.c_proj.weight",
        "output_norm.weight": "norm_f.weight",
    }.items():
        assert np.array_equal(tensors[theirs], weights[ours].detach().numpy())
    if "blk.0.attn_qkv.weight" in tensors:
        assert np.array_equal(tensors["blk.0.attn_qkv.weight"], weights["blocks.0.attn.c_attn.weight"].detach().numpy())
    assert reader.get_field("general.architecture").contents() == name
    assert reader.get_field(f"{name}.context_length").contents() == model.config.block_size
    assert reader.get_field("tokenizer.ggml.eos_token_id").contents() == 256
    assert ("output.weight" in tensors) == (name == "gptneox")  # llama.cpp takes the embedding elsewhere


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_gives_our_logits_and_ids(tiny_model, tmp_path, name):
    """Runs where cyllama, llama.cpp in a wheel, is installed. llama.cpp rounds keys, values and GELU to float16."""
    library = pytest.importorskip("cyllama.llama.llama_cpp")
    tokenizer = UntrainedBPE(300).train(CORPUS)
    model = tiny_model(n_embd=32, vocab_size=300, **MODELS[name] | {"block_size": 256})

    class WithSize(library.LlamaModel):
        n_vocab = 300  # cyllama 0.2.18 looks for it there

    file = WithSize(str(exported(model, tmp_path / "out", tokenizer)), library.LlamaModelParams())
    for text in (*CORPUS[:3], " 12  don't\n\n\t", "日本語 \U0001f600"):
        assert file.get_vocab().tokenize(text, False, False) == tokenizer.encode(text)
    parameters = library.LlamaContextParams()
    parameters.n_ctx, parameters.n_threads = 256, 1
    context = library.LlamaContext(file, parameters)
    tokens = tokenizer.encode(CORPUS[0])
    batch = library.LlamaBatch(n_tokens=256, embd=0, n_seq_max=1)
    batch.set_batch(tokens, 0, False)
    context.decode(batch)
    with torch.no_grad():
        expected = model(torch.tensor([tokens]))[0, -1]
    torch.testing.assert_close(torch.tensor(context.get_logits()), expected, rtol=0, atol=5e-3)


@pytest.fixture
def with_added_tokens(tmp_path):
    """A BPE with tokens that a text may hold, added to it after its training: (tokenizer, ids)."""
    files = UntrainedBPE(300).train(CORPUS).hugging_face_files()
    library = tokenizers.Tokenizer.from_str(files["tokenizer.json"])
    library.add_tokens([tokenizers.AddedToken("  ", normalized=False), tokenizers.AddedToken("<think>")])
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(files["tokenizer_config.json"])
    return read_tokenizer(str(tmp_path)), [300, 301]


def test_gguf_has_added_tokens_that_are_not_special_as_text(tiny_model, tmp_path, with_added_tokens):
    tokenizer, ids = with_added_tokens
    reader = gguf.GGUFReader(exported(tiny_model(n_embd=32, vocab_size=302), tmp_path / "out", tokenizer))
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    assert [types[token] for token in ids] == [gguf.TokenType.USER_DEFINED] * 2
    assert types[tokenizer.eot_id] == gguf.TokenType.CONTROL


def test_llama_cpp_finds_added_tokens_in_a_text(tiny_model, tmp_path, with_added_tokens):
    library = pytest.importorskip("cyllama.llama.llama_cpp")
    tokenizer, ids = with_added_tokens
    model = tiny_model(n_embd=32, vocab_size=302)
    vocabulary = library.LlamaModel(str(exported(model, tmp_path / "out", tokenizer)), library.LlamaModelParams())
    text = "the  dog <think> jumps"
    found = vocabulary.get_vocab().tokenize(text, False, False)
    assert found == tokenizer.encode(text)
    assert set(ids) <= set(found)


def test_gguf_refuses_what_llama_cpp_does_not_have(tiny_model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="model/mlp=relu2: llama.cpp's gpt2 expects model/mlp=gelu"):
        save_gguf(tiny_model(vocab_size=257, mlp="relu2"), BYTES, out)
    with pytest.raises(UserError, match="no architecture"):
        save_gguf(tiny_model(vocab_size=257, positions="alibi"), BYTES, out)
    for make in (smollm, pythia):
        folder = tmp_path / make.__name__
        folder.mkdir()
        with pytest.raises(UserError, match="format=gguf writes byte-level BPE with GPT-2's splitting"):
            save_gguf(tiny_model(vocab_size=400), read_tokenizer(str(make(folder))), out)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the package gguf is not installed: type pip install 'gpt2lab\[gguf\]'"):
        save_gguf(tiny_model(vocab_size=257), BYTES, out)
    assert not out.exists()
