"""Models of gpt2lab, opened by transformers: the same numbers; and opened again here: the same bits."""

import json
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig, SamplingConfig
from gpt2lab.generation import generate
from gpt2lab.model import GPT
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import load_pretrained, save_pretrained

TINY = {"rtol": 0, "atol": 1e-4}
"""float32 models of random shapes differ by up to 4e-5 from one another, with logits of about 7"""
BYTES = load_tokenizer("bytes")


def model_of(
    layout, n_embd=32, n_head=4, *, activation="gelu", theta=10_000.0, fraction=1.0, eps=1e-5, hidden_dim=None, **shape
):
    """A random model of one of the layouts."""
    if layout == "gpt2":
        variant = {"norm": NormConfig("layernorm", eps), "mlp": MLPConfig(activation, hidden_dim)}
    elif layout == "gpt_neox":
        variant = {
            "positions": PositionsConfig("rope", theta, fraction),
            "norm": NormConfig("layernorm", eps),
            "mlp": MLPConfig(activation, hidden_dim),
        }
    else:
        variant = {
            "positions": PositionsConfig("rope", theta),
            "norm": NormConfig("rmsnorm", eps),
            "mlp": MLPConfig("swiglu", hidden_dim),
            "bias": False,
        }
    shape = {"n_layer": 2, "block_size": 12, "vocab_size": 257} | shape
    model = GPT(ModelConfig(n_embd=n_embd, n_head=n_head, **shape, **variant))
    for name, parameter in model.named_parameters():
        is_gain = parameter.ndim == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(is_gain), std=0.2 if parameter.ndim == 2 else 0.1)
    return model.eval()


def check_round_trip(ours, folder):
    """Export; compare with what transformers opens; return that and the model opened again."""
    save_pretrained(ours, BYTES, folder)
    theirs, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    assert theirs.dtype == torch.float32
    tokens = torch.randint(257, (2, ours.config.block_size))
    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), **TINY)

    again = load_pretrained(folder)
    rows = {"wte.weight", "lm_head.weight"}
    for (name, parameter), (same_name, same) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert name == same_name
        assert torch.equal(same, parameter[:257] if name in rows else parameter), name
    return theirs, again


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "gelu_erf", "silu", "relu2"])
def test_gpt2_layout(activation, tie_head, tmp_path):
    ours = model_of("gpt2", activation=activation, tie_head=tie_head, vocab_multiple_of=64, eps=0.1, dropout=0.2)
    theirs, again = check_round_trip(ours, tmp_path / "out")
    assert (theirs.config.model_type, theirs.config.resid_pdrop) == ("gpt2", 0.2)
    assert theirs.config.tie_word_embeddings == tie_head
    assert again.config.vocab_multiple_of == 1


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize("n_kv_head", [None, 1, 2])
def test_llama_layout(n_kv_head, tie_head, tmp_path):
    ours = model_of("llama", n_kv_head=n_kv_head, tie_head=tie_head, vocab_multiple_of=64, theta=77.0, eps=0.1)
    theirs, _ = check_round_trip(ours, tmp_path / "out")
    assert theirs.config.model_type == "llama"
    assert theirs.config.num_key_value_heads == (n_kv_head or 4)


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize(("activation", "fraction"), [("gelu", 1.0), ("gelu_erf", 0.25), ("silu", 0.5), ("relu2", 1.0)])
def test_gpt_neox_layout(activation, fraction, tie_head, tmp_path):
    ours = model_of(
        "gpt_neox", activation=activation, fraction=fraction, tie_head=tie_head, vocab_multiple_of=64, theta=77.0,
        eps=0.1, dropout=0.2,
    )  # fmt: skip
    theirs, again = check_round_trip(ours, tmp_path / "out")
    assert (theirs.config.model_type, theirs.config.hidden_dropout) == ("gpt_neox", 0.2)
    assert again.config.positions == ours.config.positions
    stored = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (stored["rotary_emb_base"], stored["rotary_pct"]) == (77.0, fraction)  # what transformers 4 reads


@settings(max_examples=20, deadline=None)
@given(
    layout=st.sampled_from(["gpt2", "gpt_neox", "llama"]),
    head_dim=st.sampled_from([4, 8]),
    n_kv_head=st.integers(1, 3),
    group=st.integers(1, 3),
    n_layer=st.integers(1, 3),
    hidden_dim=st.none() | st.integers(1, 70),
    block_size=st.integers(1, 20),
    vocab_multiple_of=st.integers(1, 100),
    tie_head=st.booleans(),
)
def test_any_shape(layout, head_dim, n_kv_head, group, n_layer, hidden_dim, block_size, vocab_multiple_of, tie_head):
    ours = model_of(
        layout,
        n_embd=head_dim * n_kv_head * group,
        n_head=n_kv_head * group,
        n_kv_head=n_kv_head if layout == "llama" else None,
        n_layer=n_layer,
        hidden_dim=hidden_dim,
        block_size=block_size,
        vocab_multiple_of=vocab_multiple_of,
        tie_head=tie_head,
    )
    with tempfile.TemporaryDirectory() as folder:
        check_round_trip(ours, f"{folder}/out")


@pytest.mark.parametrize("layout", ["gpt2", "gpt_neox", "llama"])
def test_greedy_text_is_the_same_to_its_end(layout, tmp_path, cpu):
    """Through their tokenizer and their generation settings, end-of-text included."""
    ours = model_of(layout, block_size=24, tie_head=False)
    prompts = [f"and so {chr(32 + i)}" for i in range(40)]
    sampling = SamplingConfig(temperature=0, max_new_tokens=12)
    encoded = [BYTES.encode(prompt) for prompt in prompts]
    with torch.no_grad():
        ours.wte.weight *= 5  # so that what comes next depends on what came before
        ours.lm_head.weight[97:256] = 0
        # an id that does come up, in some of the texts, becomes end-of-text
        common = generate(ours, encoded, sampling, eot_id=-1, runtime=cpu)[0][6]
        ours.lm_head.weight[[common, 256]] = ours.lm_head.weight[[256, common]]
    theirs, _ = check_round_trip(ours, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    generated = generate(ours, encoded, sampling, eot_id=256, runtime=cpu)
    for prompt, ids in zip(prompts, generated, strict=True):
        expected = theirs.generate(
            **tokenizer(prompt, return_tensors="pt"), do_sample=False, max_new_tokens=12, pad_token_id=0
        )
        assert tokenizer.decode(expected[0], skip_special_tokens=True) == prompt + BYTES.decode(ids)
    assert 0 < sum(len(ids) < 12 for ids in generated) < 40
    assert len(set(map(tuple, generated))) > 10
