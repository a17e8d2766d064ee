"""What the precision of the forward pass leaves of a perplexity, and that logits are never in bfloat16.

The model has GPT-2's vocabulary and its habit of logits that are all far below 0: a constant of -100 is added to each.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gpt2lab.commands import evaluation
from gpt2lab.config import EvalJob, ModelConfig, RuntimeConfig
from gpt2lab.distributed import ALONE
from gpt2lab.evaluation.scoring import describe_precision, score_greedy, score_tokens
from gpt2lab.evaluation.scoring_batches import hidden_states, window_batches
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.evaluation.windows import sliding_windows
from gpt2lab.generation.decoder import Decoder
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime

VOCABULARY = 50_257
FP32, BF16 = (Runtime(torch.device("cpu"), name) for name in ("fp32", "bf16"))
LARGEST_ERROR = 0.02
"""nats of a token; logits in bfloat16 are 0.5 apart near -100, so rounded ones are off by up to 0.25"""


@pytest.fixture(scope="module")
def model():
    """Logits with a standard deviation of about 3 around -100, which the last channel of the hidden state adds.

    The head is not tied: a tied one with weights of this size predicts each token as its own successor, with a loss
    near 0 that no rounding changes.
    """
    torch.manual_seed(0)
    config = ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=32, vocab_size=VOCABULARY, tie_head=False)
    built = GPT(config).eval()
    with torch.no_grad():
        built.wte.weight.normal_(std=0.4)
        built.norm_f.weight[-1] = 0
        built.norm_f.bias[-1] = 100
        built.lm_head.weight.normal_(std=0.38)
        built.lm_head.weight[:, -1] = -1
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
    overlapping = list(sliding_windows(len(tokens), 32, 16))
    exact, near = (score_tokens(model, tokens, overlapping, runtime, 8).mean() for runtime in (FP32, BF16))
    assert near != exact
    assert np.exp(near) == pytest.approx(np.exp(exact), rel=2e-3)
    windows = list(sliding_windows(len(tokens), 32, 32))
    difference_n = score_tokens(model, tokens, windows, BF16, 8) - score_tokens(model, tokens, windows, FP32, 8)
    assert np.abs(difference_n).max() < LARGEST_ERROR


def test_greedy_tokens_are_those_of_float32_logits(model, tokens):
    windows = list(sliding_windows(len(tokens), 32, 32))
    nll_n, greedy_n = score_greedy(model, window_batches(tokens, windows, 8), len(tokens), FP32)
    np.testing.assert_allclose(nll_n, score_tokens(model, tokens, windows, FP32, 8), atol=1e-4)
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens[None, :32]))[0]
    assert greedy_n[1:33].tolist() == (logits.argmax(1).numpy() == tokens[1:33]).tolist()


def rounded_scores(model, tokens, windows):
    """Nats and the number of tokens that tie for the maximum, [n] each, if logits are rounded to bf16 first."""
    nll_n, ties_n = np.zeros(len(tokens)), np.zeros(len(tokens))
    for where_N, hidden_NC, targets_N in hidden_states(model, window_batches(tokens, windows, 8), FP32):
        logits_NV = (hidden_NC @ model.head_PC.T).bfloat16().float()
        nll_n[where_N] = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none").numpy()
        ties_n[where_N] = (logits_NV == logits_NV.max(1, keepdim=True).values).sum(1).numpy()
    return nll_n, ties_n


def test_logits_rounded_to_bf16_would_fail_these_bounds(model, tokens):
    """The bound above holds because logits are float32: rounded ones break it, and their maxima tie."""
    windows = list(sliding_windows(len(tokens), 32, 32))
    with torch.inference_mode():
        rounded_n, ties_n = rounded_scores(model, tokens, windows)
    exact_n, near_n = (score_tokens(model, tokens, windows, runtime, 8) for runtime in (FP32, BF16))
    assert np.abs(near_n - exact_n).max() < LARGEST_ERROR < np.abs(rounded_n - exact_n).max()
    assert np.abs(near_n - exact_n).mean() < np.abs(rounded_n - exact_n).mean() / 3
    assert (ties_n[1:] > 1).mean() > 0.05


def test_next_token_is_that_of_float32_logits_in_a_bf16_decoder(model, tokens):
    prompt = tokens[:20].tolist()
    with torch.inference_mode():
        logits_V = Decoder(model, BF16, 1, 32).read_prompts([0], [prompt])[0]
    assert logits_V.dtype == torch.float32
    assert len(set(logits_V.tolist())) > VOCABULARY / 2  # rounded to bf16 near -100, some 50 values would be left


def test_logits_are_float32_where_products_of_the_forward_pass_may_be_tf32(model, tokens, monkeypatch):
    """Under ``runtime.tf32=true``, of which a CPU has only the switch."""
    seen = []
    for name in ("hidden", "nll"):
        method = getattr(model, name)

        def watched(*arguments, name=name, method=method, **keywords):
            seen.append((name, torch.get_float32_matmul_precision()))
            return method(*arguments, **keywords)

        monkeypatch.setattr(model, name, watched)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        score_tokens(model, tokens[:32], list(sliding_windows(32, 32, 32)), FP32, 8)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [("hidden", "high"), ("nll", "highest")]
    described = [describe_precision(Runtime(torch.device("cuda"), name, tf32=True)) for name in ("fp32", "bf16")]
    assert described == ["tf32, logits and sums fp32", "bf16, logits and sums fp32"]


@pytest.mark.parametrize(
    ("device", "precision", "trained_on", "expected"),
    [
        ("cpu", "auto", "data", "fp32"),
        ("cpu", "bf16", "data", "bf16"),
        ("cuda", "auto", None, "fp32"),
        ("cuda", "auto", "data", "bf16"),
        ("cuda", "bf16", None, "bf16"),
    ],
)
def test_auto_is_float32_on_a_cpu_and_for_pretrained_models(monkeypatch, device, precision, trained_on, expected):
    source = SimpleNamespace(trained_on=trained_on)
    monkeypatch.setattr(
        evaluation, "open_text_model", lambda where, runtime, key: TextModel(None, None, source, runtime)
    )
    job = EvalJob(runtime=RuntimeConfig(device="cpu", precision=precision))
    runtime = Runtime(torch.device(device), "bf16")
    assert evaluation.open_for_evaluation("it", job, runtime).runtime.precision == expected


@pytest.mark.parametrize(
    ("baseline", "precision", "expected"),
    [("gpt2", "auto", ["fp32", "fp32"]), ("run", "auto", ["bf16", "bf16"]), ("gpt2", "bf16", ["bf16", "bf16"])],
)
def test_model_and_baseline_are_scored_in_one_precision(monkeypatch, tmp_path, baseline, precision, expected):
    """On a GPU, where a run alone is scored in bf16 and a pretrained model alone in float32."""
    scored = []

    def open_it(where, runtime, key):
        trained_on = "data" if where == "run" else None
        return TextModel(None, None, SimpleNamespace(trained_on=trained_on, describe=lambda: where), runtime)

    def prepare(loaded, config):
        scored.append(loaded.runtime.precision)

    def stop(job, prepared, baseline):
        scored.append(baseline.runtime.precision)
        raise KeyboardInterrupt

    for name, stand_in in (("open_text_model", open_it), ("prepare_parts", prepare), ("_prepare_baseline", stop)):
        monkeypatch.setattr(evaluation, name, stand_in)
    runtime = RuntimeConfig(device="cpu", precision=precision)
    job = EvalJob(checkpoint="run", baseline=baseline, out=str(tmp_path / "eval.json"), runtime=runtime)
    with pytest.raises(KeyboardInterrupt):
        evaluation._evaluate_one(job, Runtime(torch.device("cuda"), "bf16"), ALONE, None)
    assert scored == expected
