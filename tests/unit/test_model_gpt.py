"""gpt2lab.model.gpt and attention: published sizes, causality, gradients, cached decoding, dropout, the state dict."""

import io

import pytest
import torch
from torch import nn

from gpt2lab.compose import compose_config
from gpt2lab.config import MLPConfig, ModelConfig, NormConfig, PositionsConfig, UserError
from gpt2lab.generation.cache import KVCache
from gpt2lab.model import GPT, IGNORE_INDEX
from gpt2lab.model.positions import POSITIONS


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


def test_a_future_token_changes_no_earlier_logit(tiny_model, variant):
    model = tiny_model(**variant)
    tokens = torch.randint(31, (1, 12))
    before = model(tokens)
    for t in range(12):
        changed = tokens.clone()
        changed[0, t] = (changed[0, t] + 1) % 31
        after = model(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-6)
        assert (after[:, t:] - before[:, t:]).abs().amax(-1).min() > 1e-3  # all from the changed one on do see it


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"tie_head": False}], ids=str)
def test_every_parameter_gets_a_gradient(tiny_model, variant, settings):
    model = tiny_model(**variant, **settings)
    tokens = torch.randint(31, (2, 13))
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    unmoved = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unmoved


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 1, 5], [3, 4, 5], [11, 1], [1, 11]], ids=str)
def test_cached_decoding_is_uncached_decoding(tiny_model, variant, chunks, cpu):
    model = tiny_model(**variant)
    tokens = torch.randint(31, (3, 12))
    cache = KVCache(model.config, 3, 12, cpu.device, torch.float32)
    parts = [model(part, cache=cache) for part in tokens.split(chunks, dim=1)]
    assert cache.length == 12
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-5, atol=1e-5)


def test_next_logits_are_the_last_logits(tiny_model, variant):
    model = tiny_model(**variant)
    tokens = torch.randint(31, (3, 7))
    torch.testing.assert_close(model.next_logits(tokens), model(tokens)[:, -1])


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
        "attention weights": (block.attn, "attention_dropout"),
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
def test_state_dict_holds_each_tensor_once_and_round_trips(tiny_model, variant, tie_head):
    model, other = (tiny_model(seed=seed, tie_head=tie_head, **variant) for seed in (1, 2))
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
