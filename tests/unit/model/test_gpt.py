"""gpt2lab.model.gpt and attention: published sizes, causality, gradients, cached decoding, dropout, the state dict."""

import io
import re

import pytest
import torch
from torch import nn

from gpt2lab.cli.compose import CONFIG_DIR, compose_config
from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig, UserError
from gpt2lab.model import GPT, IGNORE_INDEX
from gpt2lab.model.positions import POSITIONS
from tests.caches import KVCache


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("gpt2_small", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
    ],
)
def test_published_sizes(size, parameters):
    with torch.device("meta"):
        model = GPT(compose_config("train", [f"model={size}"]).model)
    assert model.num_parameters() == parameters


@pytest.mark.parametrize("preset", ["modern_small", "modern_medium", "modern_nano", "modern"])
def test_sizes_of_the_modern_presets(preset):
    config = compose_config("train", [f"model={preset}"]).model
    assert config.vocab_size == (8_192 if preset == "modern_nano" else 50_257)
    with torch.device("meta"):
        model = GPT(config)
    C = config.n_embd
    M = next(width for width in range(8, 4 * C, 8) if width >= 8 * C / 3)
    block = 4 * C * C + 3 * C * M + 2 * C  # q, k, v and their way back; gate, up, down; two gains
    assert (
        model.num_parameters() == config.vocab_size * C + config.n_layer * block + C
    )  # no matrix of positions, no second head
    said = re.findall(r"[\d,]+(?= parameters)", (CONFIG_DIR / "model" / f"{preset}.yaml").read_text())
    assert said == ([f"{model.num_parameters():,}"] if preset != "modern" else [])


def test_n_kv_head_and_padding_change_these_matrices_alone(tiny_model):
    plain, grouped = (tiny_model(n_head=4, **more) for more in ({}, {"n_kv_head": 2, "vocab_multiple_of": 8}))
    shapes = [{name: tuple(p.shape) for name, p in model.named_parameters()} for model in (plain, grouped)]
    differing = {name: shapes[1][name] for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    of_blocks = {
        f"blocks.{i}.attn.c_attn.{kind}": shape
        for i in (0, 1)
        for kind, shape in (("weight", (32, 16)), ("bias", (32,)))
    }
    assert differing == {"wte.weight": (32, 16)} | of_blocks
    assert grouped(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 31)


@pytest.mark.parametrize(("mlp", "default"), [("gelu", 64), ("relu2", 64), ("swiglu", 48)])
def test_hidden_dim(mlp, default):
    for hidden_dim, width in ((None, default), (20, 20)):
        config = ModelConfig(n_layer=1, n_head=1, n_embd=16, mlp=MLPConfig(mlp, hidden_dim))
        block = GPT(config).blocks[0].mlp
        assert block.c_fc.weight.shape == (width, 16)
        assert block.c_proj.weight.shape == (16, width)


def check_causality(model):
    """Row t of a batch has token t changed: it may differ from the unchanged row from t on, and must."""
    T, V = 12, model.config.vocab_size
    tokens = torch.randint(V, (1, T)).expand(T, T)
    changed = torch.where(torch.eye(T, dtype=torch.bool), (tokens + 1) % V, tokens)
    difference_TT = (model(changed) - model(tokens)).abs().amax(-1)
    later = torch.ones(T, T).triu().bool()
    assert difference_TT[~later].max() < 1e-6
    assert difference_TT[later].min() > 1e-4


def check_gradients(model):
    V = model.double().config.vocab_size  # a gradient may be small; in float64 rounding is far below any that is real
    tokens = torch.cat([torch.arange(V), torch.arange(V - 5)]).view(-1, 19)  # every id, so that each row of wte is met
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        # the same vector added to all keys adds the same to all scores of a query, which the softmax takes out again
        without_effect = name.endswith("k_norm.bias") and model.config.positions.name != "rope"
        assert without_effect or parameter.grad.abs().max() > 1e-9, name
    for matrix in {model.wte.weight, model.head_PC}:
        assert (matrix.grad[:V].abs().sum(1) > 0).all()
        assert (matrix.grad[V:] == 0).all()


def check_cache(model):
    tokens = torch.randint(model.config.vocab_size, (3, 12))
    expected = model(tokens)
    for chunks in ([12], [1] * 12, [5, 1, 1, 5], [3, 4, 5], [11, 1], [1, 11]):
        cache = KVCache(model.config, 3, 12, tokens.device, torch.float32)
        parts = [model(part, cache=cache) for part in tokens.split(chunks, dim=1)]
        assert cache.length == 12
        torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-5, atol=1e-5, msg=str(chunks))


CHECKS = [check_causality, check_gradients, check_cache]


@pytest.mark.parametrize("check", CHECKS)
def test_every_variant(tiny_model, variant, check):
    check(tiny_model(**variant, block_size=18))


@pytest.mark.parametrize("check", CHECKS)
def test_every_option_with_every_position_scheme(tiny_model, positions, options, check):
    check(tiny_model(positions=positions, block_size=18, **options))


@pytest.mark.parametrize("check", CHECKS)
def test_partial_rotary(tiny_model, check):
    check(tiny_model(positions="rope", rope_fraction=0.5, block_size=18))


def test_logits_and_nll_of_chosen_hidden_states(tiny_model, variant):
    model = tiny_model(**variant)
    tokens, targets = torch.randint(31, (2, 3, 7))
    hidden, expected = model.hidden(tokens), model(tokens)
    torch.testing.assert_close(model.logits(hidden[:, -1]), expected[:, -1])
    terms = nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten(), reduction="none").view(3, 7)
    torch.testing.assert_close(model.nll(hidden, targets), terms)
    torch.testing.assert_close(model.nll(hidden[1:, 2:5], targets[1:, 2:5]), terms[1:, 2:5])
    torch.testing.assert_close(model.nll(hidden[0, 4], targets[0, 4]), terms[0, 4])
    assert not model.nll(hidden, targets).requires_grad


def test_rows_of_a_batch_do_not_meet(tiny_model, variant):
    model = tiny_model(**variant)
    tokens = torch.randint(31, (4, 9))
    torch.testing.assert_close(model(tokens), torch.cat([model(row[None]) for row in tokens]), rtol=1e-5, atol=1e-5)


def test_learned_positions_end_at_the_context(tiny_model, cpu):
    model = tiny_model(positions="learned")
    with pytest.raises(UserError, match=r"^13 tokens: model\.positions=learned ends at model\.block_size=12; "):
        model(torch.zeros(1, 13, dtype=torch.int64))
    cache = KVCache(model.config, 1, 13, cpu.device, torch.float32)
    model(torch.zeros(1, 12, dtype=torch.int64), cache=cache)
    with pytest.raises(UserError, match="^13 tokens"):
        model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name != "learned"])
def test_other_positions_go_on_past_the_context(tiny_model, positions, cpu):
    model = tiny_model(positions=positions)
    tokens = torch.randint(31, (2, 40))
    cache = KVCache(model.config, 2, 40, cpu.device, torch.float32)
    parts = [model(part, cache=cache) for part in tokens.split([12, 1, 27], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-5, atol=1e-5)


def dropout_places(model):
    """Every place with dropout, as (object, attribute) of its probability."""
    block = model.blocks[0]
    return {
        "embedding": (model.dropout, "p"),
        "attention weights": (block.attn.attend, "dropout"),
        "attention branch": (block.attn.dropout, "p"),
        "mlp branch": (block.mlp.dropout, "p"),
    }


@pytest.mark.parametrize("place", ["embedding", "attention weights", "attention branch", "mlp branch"])
def test_dropout_acts_in_training_alone(tiny_model, place):
    model = tiny_model(n_layer=1, dropout=0.5)
    for name, (module, probability) in dropout_places(model).items():
        assert getattr(module, probability) == 0.5
        setattr(module, probability, 0.5 if name == place else 0.0)
    tokens = torch.randint(31, (2, 12))
    without = tiny_model(n_layer=1)(tokens)
    torch.testing.assert_close(model.eval()(tokens), without)
    model.train()
    first, second = model(tokens), model(tokens)
    assert (first - second).abs().max() > 1e-2


def test_loss_and_token_nll_leave_ignored_targets_out(tiny_model):
    model = tiny_model()
    tokens, targets = torch.randint(31, (2, 3, 12))
    targets[0, 3:7] = targets[2] = IGNORE_INDEX
    logits = model(tokens).flatten(0, 1)
    expected = nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=-100, reduction="none")
    scored = 3 * 12 - 4 - 12
    torch.testing.assert_close(model.token_nll(tokens, targets), expected.view(3, 12))
    torch.testing.assert_close(model.nll_sum(tokens, targets), expected.sum())
    torch.testing.assert_close(model.loss(tokens, targets), expected.sum() / scored)


@pytest.mark.parametrize("tie_head", [True, False])
def test_state_dict_holds_each_tensor_once_and_round_trips(tiny_model, positions, tie_head):
    swaps = {"positions": positions, "norm": "rmsnorm", "mlp": "swiglu", "qk_norm": True}
    model, other = (tiny_model(seed=seed, tie_head=tie_head, **swaps) for seed in (1, 2))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert len({tensor.data_ptr() for tensor in model.state_dict().values()}) == len(state)
    assert sum(tensor.numel() for tensor in state.values()) == model.num_parameters()
    assert ("lm_head.weight" in state) == (not tie_head)

    tokens = torch.randint(31, (1, 12))
    assert not torch.equal(other(tokens), model(tokens))
    other.load_state_dict(state)
    assert torch.equal(other(tokens), model(tokens))


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize(("positions", "has_table"), [("learned", 1), ("rope", 0)])
def test_parameters_without_embeddings(tiny_model, positions, has_table, tie_head):
    model = tiny_model(positions=positions, tie_head=tie_head)
    config = model.config
    tables = config.vocab_size * (1 if tie_head else 2) + has_table * config.block_size
    assert model.num_parameters_without_embeddings() == model.num_parameters() - tables * config.n_embd


def test_an_untied_head_is_a_matrix_of_its_own(tiny_model):
    tied, untied = tiny_model(), tiny_model(tie_head=False)
    assert untied.num_parameters() - tied.num_parameters() == 31 * 16
    tokens = torch.randint(31, (1, 12))
    before = untied(tokens)
    with torch.no_grad():
        untied.lm_head.weight *= 2
    torch.testing.assert_close(untied(tokens), 2 * before)


@pytest.mark.parametrize(
    ("variant_name", "message"),
    [
        ({"positions": PositionsConfig(name="ropes")}, r"^model\.positions\.name=ropes: .*did you mean rope\?$"),
        ({"norm": NormConfig(name="batch")}, r"^model\.norm\.name=batch: expected one of layernorm, rmsnorm"),
        ({"mlp": MLPConfig(name="gelo")}, r"^model\.mlp\.name=gelo: .*did you mean gelu\?$"),
    ],
)
def test_an_unknown_variant_names_the_known_ones(variant_name, message):
    with pytest.raises(UserError, match=message):
        GPT(ModelConfig(n_layer=1, n_head=1, n_embd=4, **variant_name))
