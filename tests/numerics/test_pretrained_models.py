"""load_pretrained against transformers: the same directory, the same numbers."""

import copy
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from gpt2lab.config import SamplingConfig
from gpt2lab.generation import generate
from gpt2lab.weights import load_pretrained
from tests import hugging_face
from tests.hugging_face import MAKERS, change_settings, gpt2, llama, neox

TINY = {"rtol": 0, "atol": 1e-5}

MODELS = {
    "gpt2": lambda: gpt2(),
    "gpt2, untied": lambda: gpt2(tie_word_embeddings=False),
    "gpt2, n_inner": lambda: gpt2(n_inner=24),
    "gpt2, one head, one layer": lambda: gpt2(n_head=1, n_layer=1, n_embd=8),
    "gpt2, large epsilon": lambda: gpt2(layer_norm_epsilon=0.1),
    **{
        f"gpt2, {name}": lambda name=name: gpt2(activation_function=name)
        for name in ("gelu", "gelu_pytorch_tanh", "silu", "relu2")
    },
    "neox, a quarter turned": lambda: neox(),
    "neox, all turned": lambda: neox(fraction=1.0, theta=100.0),
    "neox, tied": lambda: neox(tie_word_embeddings=True),
    "neox, tanh gelu": lambda: neox(hidden_act="gelu_new", layer_norm_eps=0.1),
    "llama": lambda: llama(),
    "llama, a head each": lambda: llama(num_key_value_heads=4, theta=500.0),
    "llama, one head of keys": lambda: llama(num_key_value_heads=1),
    "llama, tied": lambda: llama(tie_word_embeddings=True, rms_norm_eps=0.1),
}


@pytest.fixture(params=MODELS)
def theirs(request):
    return MODELS[request.param]()


def saved(model, folder, **options):
    """load_pretrained of what save_pretrained wrote."""
    model.save_pretrained(folder, **options)
    return load_pretrained(folder)


def test_logits_loss_and_all_gradients(theirs, tmp_path):
    ours = saved(theirs, tmp_path / "weights")
    assert not ours.training
    tokens = torch.randint(31, (3, 12))
    output = theirs(tokens, labels=tokens)
    loss = ours.loss(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(ours(tokens), output.logits, **TINY)
    torch.testing.assert_close(loss, output.loss, **TINY)

    loss.backward()
    output.loss.backward()
    # their gradients, saved as if they were weights, come back under our names and in our layout
    gradients = copy.deepcopy(theirs)
    for gradient, parameter in zip(gradients.parameters(), theirs.parameters(), strict=True):
        gradient.data = parameter.grad
    expected = dict(saved(gradients, tmp_path / "gradients").named_parameters())
    assert all(gradient.any() for gradient in expected.values())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].data, rtol=1e-4, atol=1e-5, msg=name)


def test_greedy_generation_token_for_token(theirs, tmp_path, cpu):
    with torch.no_grad():
        theirs.get_input_embeddings().weight *= 5  # so that what comes next depends on what came before
    ours = saved(theirs, tmp_path)
    prompts = torch.randint(31, (24, 3))
    sampling = SamplingConfig(temperature=0, max_new_tokens=9)
    generated = generate(ours, prompts.tolist(), sampling, eot_id=-1, runtime=cpu)
    # without a mask they would take ids equal to their padding for padding
    expected = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=9)
    assert generated == expected[:, 3:].tolist()
    assert len({tuple(row) for row in generated}) > 4  # else equality would say little


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(MAKERS)),
    head_dim=st.sampled_from([4, 8, 16]),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 2),
    layers=st.integers(1, 3),
    vocab=st.integers(2, 70),
    hidden=st.integers(1, 50),
    tied=st.booleans(),
    batch=st.integers(1, 3),
    length=st.integers(1, 12),
)
def test_any_shape(kind, head_dim, kv_heads, group, layers, vocab, hidden, tied, batch, length):
    shape = {"vocab_size": vocab, "tie_word_embeddings": tied}
    heads = kv_heads * group
    if kind == "gpt2":
        shape |= {"n_embd": heads * head_dim, "n_head": heads, "n_layer": layers, "n_inner": hidden}
    else:
        shape |= {"hidden_size": heads * head_dim, "num_attention_heads": heads, "num_hidden_layers": layers}
        shape["intermediate_size"] = hidden
    if kind == "llama":
        shape["num_key_value_heads"] = kv_heads
    if kind == "neox":
        shape["fraction"] = 0.5
    theirs = MAKERS[kind](**shape)
    tokens = torch.randint(vocab, (batch, length))
    with tempfile.TemporaryDirectory() as folder:
        ours = saved(theirs, folder)
    # of 60 models of the largest shape, either side was up to 2e-5 away from float64, with logits of about 7
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", MAKERS)
def test_files_in_many_parts_and_half_precision(kind, tmp_path):
    theirs = MAKERS[kind]()
    tokens = torch.randint(31, (2, 12))
    ours = saved(theirs, tmp_path / "parts", max_shard_size="5KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, **TINY)

    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        rounded = copy.deepcopy(theirs).to(dtype)
        ours = saved(rounded, tmp_path / str(dtype))
        assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
        # opened anew: their table of rope was rounded too
        reference = type(theirs).from_pretrained(tmp_path / str(dtype), dtype=torch.float32)
        torch.testing.assert_close(ours(tokens), reference(tokens).logits, **TINY)


def rewrite(folder, rename=lambda name: name, more=()):
    """Rename the tensors of a saved model and add others."""
    path = folder / "model.safetensors"
    save_file({rename(name): tensor for name, tensor in load_file(path).items()} | dict(more), path)


OLD = {
    "gpt2": ("transformer.", {"h.0.attn.bias": torch.ones(1, 1, 12, 12), "h.1.attn.masked_bias": torch.tensor(-1e4)}),
    "neox": (
        "gpt_neox.",
        {
            "layers.0.attention.bias": torch.ones(1, 1, 12, 12),
            "layers.1.attention.masked_bias": torch.tensor(-1e9),
            "layers.1.attention.rotary_emb.inv_freq": torch.ones(2),
        },
    ),
    "llama": ("model.", {"layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4)}),
}


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("kind", OLD)
def test_old_layouts_with_buffers_and_without_prefix(kind, prefixed, tmp_path):
    theirs = MAKERS[kind]()
    theirs.save_pretrained(tmp_path)
    prefix, buffers = OLD[kind]
    buffers = {f"{prefix if prefixed else ''}{name}": tensor for name, tensor in buffers.items()}
    rewrite(tmp_path, lambda name: name if prefixed else name.removeprefix(prefix), buffers)
    tokens = torch.randint(31, (2, 12))
    torch.testing.assert_close(load_pretrained(tmp_path)(tokens), theirs(tokens).logits, **TINY)


@pytest.mark.parametrize("wrapped", ["_orig_mod.{}", "module.{}", "module._orig_mod.{}", "_orig_mod.module.{}"])
@pytest.mark.parametrize("kind", MAKERS)
def test_names_of_compiled_and_distributed_models(kind, wrapped, tmp_path):
    theirs = MAKERS[kind]()
    theirs.save_pretrained(tmp_path)
    # a block compiled by itself has the mark in the middle
    rewrite(tmp_path, lambda name: wrapped.format(name).replace(".0.", ".0._orig_mod."))
    tokens = torch.randint(31, (2, 12))
    torch.testing.assert_close(load_pretrained(tmp_path)(tokens), theirs(tokens).logits, **TINY)


@pytest.mark.parametrize("kept", [["transformer.wte.weight", "lm_head.weight"], ["lm_head.weight"]])
def test_a_tied_matrix_under_both_names_or_under_the_heads_alone(kept, tmp_path):
    theirs = gpt2()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    embedding = tensors.pop("transformer.wte.weight")
    save_file(tensors | {name: embedding.clone() for name in kept}, path)
    tokens = torch.randint(31, (2, 12))
    torch.testing.assert_close(load_pretrained(path)(tokens), theirs(tokens).logits, **TINY)


OLD_SETTINGS = {
    "gpt2, defaults": (lambda: gpt2(), ["tie_word_embeddings", "n_inner", "activation_function"], {}),
    "gpt2, other spelling": (
        lambda: gpt2(),
        ["n_positions", "n_embd", "n_head", "n_layer"],
        {
            "max_position_embeddings": 12,
            "hidden_size": 16,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
        },
    ),
    "neox": (lambda: neox(theta=300.0, fraction=0.5), ["rope_parameters"], {"rotary_emb_base": 300, "rotary_pct": 0.5}),
    "neox, Llama's keys are not read": (
        lambda: neox(theta=300.0, fraction=0.5),
        ["rope_parameters"],
        {"rotary_emb_base": 300, "rotary_pct": 0.5, "rope_theta": 7.0, "partial_rotary_factor": 1.0},
    ),
    "neox, default share": (lambda: neox(), ["rope_parameters", "attention_bias", "tie_word_embeddings"], {}),
    "llama": (lambda: llama(theta=300.0), ["rope_parameters"], {"rope_theta": 300.0, "rope_scaling": None}),
    "llama, defaults": (lambda: llama(rms_norm_eps=1e-6), ["rope_parameters", "head_dim", "rms_norm_eps"], {}),
    "llama, a head each": (lambda: llama(num_key_value_heads=4), ["num_key_value_heads"], {}),
}


@pytest.mark.parametrize("case", OLD_SETTINGS)
def test_older_spellings_of_the_settings(case, tmp_path):
    make, removed, added = OLD_SETTINGS[case]
    theirs = make()
    theirs.save_pretrained(tmp_path)
    change_settings(tmp_path, removed, **added)
    tokens = torch.randint(31, (2, 12))
    expected = theirs(tokens).logits
    torch.testing.assert_close(type(theirs).from_pretrained(tmp_path)(tokens).logits, expected)  # as transformers reads
    torch.testing.assert_close(load_pretrained(tmp_path)(tokens), expected, **TINY)


def test_the_oldest_key_of_gpt2s_positions(tmp_path):
    gpt2().save_pretrained(tmp_path)
    change_settings(tmp_path, ["n_positions"], n_ctx=12)
    assert load_pretrained(tmp_path).config.block_size == 12


@pytest.mark.parametrize("kind", MAKERS)
def test_fewer_positions_fewer_ids_and_padding(kind, tmp_path):
    theirs = MAKERS[kind]()
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path, block_size=7, vocab_size=20, vocab_multiple_of=16)
    assert (ours.config.block_size, ours.config.vocab_size, ours.wte.weight.shape[0]) == (7, 20, 32)
    tokens = torch.randint(20, (2, 7))
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits[..., :20], **TINY)


@pytest.mark.slow
def test_gpt2_medium_in_its_full_shape(tmp_path):
    theirs = hugging_face.gpt2(vocab_size=50_257, n_positions=1024, n_embd=1024, n_layer=24, n_head=16, std=0.02)
    ours = saved(theirs, tmp_path)
    assert ours.num_parameters() == 354_823_168
    tokens = torch.randint(50_257, (1, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-4)
