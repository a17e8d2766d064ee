"""Every variant in bfloat16, and in float32 under autocast: near float32, cached or not, padded or not."""

import pytest
import torch

from gpt2lab.config import SamplingConfig
from gpt2lab.generation import generate
from gpt2lab.model.init import init_weights
from gpt2lab.model.norms import NORMS
from gpt2lab.runtime import Runtime
from tests.caches import KVCache, left_padded
from tests.conftest import make_tiny_model

BF16 = Runtime(torch.device("cpu"), "bf16")
N_PADDING = torch.tensor([0, 4])


def make_model(**settings):
    """Weights as training begins with them, but five times as large, so that every part has a say."""
    model = make_tiny_model(n_embd=32, n_head=4, **settings)
    init_weights(model, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim == 2 else 1)
    return model


def scores(model, tokens, layout, dtype):
    """Logits of a padded batch, uncached and cached; the loss and its whole gradient."""
    cache = KVCache(model.config, 2, 12, tokens.device, dtype)
    chunks = [slice(0, 5), slice(5, 6), slice(6, 12)]
    parts = [
        model(tokens[:, part], layout=left_padded(N_PADDING, part.start, part.stop), cache=cache) for part in chunks
    ]
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    is_text = layout.segment_BT == 1
    gradient = torch.cat([part.flatten() for part in gradients])
    return model(tokens, layout=layout)[is_text], torch.cat(parts, dim=1)[is_text], loss, gradient


def check_near_float32(model):
    tokens = torch.randint(31, (2, 12))
    layout = left_padded(N_PADDING, 0, 12)
    exact = scores(model, tokens, layout, torch.float32)
    with BF16.autocast():
        of_autocast = scores(model, tokens, layout, torch.bfloat16)
    of_bfloat16 = scores(model.bfloat16(), tokens, layout, torch.bfloat16)
    assert of_bfloat16[0].dtype == of_autocast[0].dtype == torch.bfloat16
    assert of_bfloat16[2].dtype == of_autocast[2].dtype == torch.float32
    for ours in (of_autocast, of_bfloat16):
        for result, expected, tolerance in zip(ours, exact, (0.03, 0.03, 0.01, 0.05), strict=True):
            assert (result.float() - expected).norm() < tolerance * expected.norm()


def test_every_variant(variant):
    check_near_float32(make_model(**variant))


@pytest.mark.parametrize("norm", NORMS)
def test_options(positions, norm):
    check_near_float32(make_model(positions=positions, norm=norm, n_kv_head=2, qk_norm=True, vocab_multiple_of=8))


def test_generation_under_autocast_reads_the_cache(variant, monkeypatch):
    monkeypatch.setattr("gpt2lab.generation.weights.SMALL_PRODUCT", 0)  # bf16 for a tiny model too
    model = make_model(**variant)
    sampling = SamplingConfig(temperature=0.5, max_new_tokens=12)
    outputs = generate(model, [[1, 2, 3], [4], list(range(20))], sampling, eot_id=-1, runtime=BF16)
    assert [len(output) for output in outputs] == [12] * 3
