"""What the precision of the forward pass leaves of a perplexity, and that logits are never in bfloat16.

The model has GPT-2's vocabulary and its habit of logits that are all far below 0: a constant of -100 is added to each.
"""

import numpy as np
import pytest
import torch

from gpt2lab.commands.evaluation import open_evaluation_runtime
from gpt2lab.config import EvalJob, ModelConfig, RuntimeConfig
from gpt2lab.evaluation.readings import window_readings
from gpt2lab.evaluation.scoring import perplexity, score_greedy, score_tokens
from gpt2lab.evaluation.windows import sliding_windows
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime

VOCABULARY = 50_257
FP32, BF16 = (Runtime(torch.device("cpu"), name) for name in ("fp32", "bf16"))
LENGTHS = np.ones(VOCABULARY, np.int64)


@pytest.fixture(scope="module")
def model():
    """Logits with a standard deviation of about 3 around -100, from the last channel of the hidden state."""
    torch.manual_seed(0)
    built = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=32, vocab_size=VOCABULARY)).eval()
    with torch.no_grad():
        built.wte.weight.normal_(std=0.4)
        built.norm_f.weight[-1] = 0
        built.norm_f.bias[-1] = 100
        built.wte.weight[:, -1] = -1
    return built


@pytest.fixture(scope="module")
def tokens(model):
    """Tokens that the model itself finds likely, so that the losses are realistic."""
    generator = torch.Generator().manual_seed(1)
    ids = [11]
    with torch.no_grad():
        for _ in range(300):
            logits = model(torch.tensor([ids[-31:]]))[0, -1]
            ids.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
    return np.array(ids)


def test_logits_are_far_below_zero(model, tokens):
    logits = model(torch.from_numpy(tokens[None, :31]))
    assert -102 < logits.median() < -98
    assert logits.std() > 1


def test_bf16_forward_pass_with_float32_logits_is_near_float32(model, tokens):
    exact, near = (
        perplexity(model, tokens, token_lengths=LENGTHS, runtime=runtime, stride=16) for runtime in (FP32, BF16)
    )
    assert near.nll != exact.nll
    assert near.token_perplexity == pytest.approx(exact.token_perplexity, rel=2e-3)
    # logits in bfloat16 are 0.5 apart there: single tokens would be off by up to 0.25 nats and more
    windows = list(sliding_windows(len(tokens), 32, 32))
    difference_n = score_tokens(model, tokens, windows, BF16, 8) - score_tokens(model, tokens, windows, FP32, 8)
    assert np.abs(difference_n).max() < 0.1


def test_greedy_tokens_are_those_of_float32_logits(model, tokens):
    windows = list(sliding_windows(len(tokens), 32, 32))
    nll_n, greedy_n = score_greedy(model, window_readings(tokens, windows, 8), len(tokens), FP32)
    np.testing.assert_allclose(nll_n, score_tokens(model, tokens, windows, FP32, 8), atol=1e-4)
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens[None, :32]))[0]
    assert greedy_n[1:33].tolist() == (logits.argmax(1).numpy() == tokens[1:33]).tolist()


def test_auto_is_float32_on_a_cpu():
    assert open_evaluation_runtime(EvalJob(runtime=RuntimeConfig(device="cpu"))).precision == "fp32"
    chosen = EvalJob(runtime=RuntimeConfig(device="cpu", precision="bf16"))
    assert open_evaluation_runtime(chosen).precision == "bf16"
