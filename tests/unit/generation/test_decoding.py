"""Filters, draws and the decoding loop, against brute force."""

import math

import pytest
import torch
from torch import Generator

from gpt2lab.config import ModelConfig, PositionsConfig, RuntimeConfig, SamplingConfig, UserError
from gpt2lab.generation import generate
from gpt2lab.generation.decoding import draw
from gpt2lab.generation.filters import sampling_probs
from gpt2lab.model import GPT
from gpt2lab.runtime import open_runtime

CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))
EOT = 40


def make_model(positions="learned"):
    torch.manual_seed(3)
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=16, block_size=12, vocab_size=41, dropout=0.1, positions=PositionsConfig(positions)
    )
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12)  # logits far enough apart that greedy choices and samples say something
    return model


def probs_by_hand(logits, temperature, top_k, top_p):
    """One row, in plain Python, from the definitions."""
    scaled = [x / temperature for x in logits]
    if top_k:
        kth = sorted(scaled, reverse=True)[min(top_k, len(scaled)) - 1]
        scaled = [x if x >= kth else -math.inf for x in scaled]
    weights = [math.exp(x - max(scaled)) for x in scaled]
    probs = [w / sum(weights) for w in weights]
    if top_p:
        kept, reached = set(), 0.0
        for i in sorted(range(len(probs)), key=lambda i: -probs[i]):
            if reached >= top_p:
                break
            kept.add(i)
            reached += probs[i]
        probs = [p if i in kept else 0.0 for i, p in enumerate(probs)]
    return [p / sum(probs) for p in probs]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 3, 99])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.5, 0.9, 1.0])
def test_filters_against_plain_python(temperature, top_k, top_p):
    logits = torch.randn(5, 17, generator=Generator().manual_seed(1)) * 3
    probs = sampling_probs(logits, SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p))
    for row, expected in zip(probs, logits.tolist(), strict=True):
        assert row.tolist() == pytest.approx(probs_by_hand(expected, temperature, top_k, top_p), abs=1e-6)


def test_extremes_of_temperature():
    logits = torch.tensor([[1.0, 5.0, 4.9], [7.0, -1e30, 7.0]])
    assert sampling_probs(logits, SamplingConfig(temperature=0)).tolist() == [[0, 1, 0], [1, 0, 0]]
    tiny = sampling_probs(logits, SamplingConfig(temperature=1e-30))
    assert tiny.tolist() == [[0, 1, 0], [0.5, 0, 0.5]]
    assert sampling_probs(logits, SamplingConfig(temperature=1e-60)).tolist() == tiny.tolist()  # 0 in float32
    for bad in ([0.0, torch.nan], [-torch.inf, -torch.inf], [0.0, torch.inf]):
        with pytest.raises(UserError, match="not numbers"):
            sampling_probs(torch.tensor([bad]), SamplingConfig())


def test_ties():
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0]])
    thirds = [0, 1 / 3, 1 / 3, 0, 1 / 3]
    assert sampling_probs(logits, SamplingConfig(top_k=1))[0].tolist() == pytest.approx(thirds)
    assert sampling_probs(logits, SamplingConfig(top_k=3))[0].tolist() == pytest.approx(thirds)
    probs = sampling_probs(logits, SamplingConfig(top_k=3, top_p=0.5))  # two of the three reach it: the first two
    assert probs[0].tolist() == pytest.approx([0, 0.5, 0.5, 0, 0])
    half_of_many = sampling_probs(torch.zeros(1, 4096), SamplingConfig(top_p=0.5))
    assert half_of_many[0].nonzero().flatten().tolist() == list(range(2048))


def test_a_top_p_of_one_keeps_every_token_of_a_large_vocabulary():
    logits = torch.randn(4, 50_257) * 3
    assert (sampling_probs(logits, SamplingConfig(top_p=1.0)) > 0).all()


def test_draws_have_the_probabilities():
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0])
    generator, n = Generator().manual_seed(0), 20_000
    ids = torch.cat([draw(probs.expand(100, -1), [generator] * 100) for _ in range(n // 100)])
    counts = ids.bincount(minlength=5)
    assert counts[1] == counts[4] == 0
    deviation = (counts - n * probs).abs()
    assert (deviation <= 4 * (n * probs * (1 - probs)).sqrt()).all()


@pytest.mark.parametrize("total", [1 - 1e-6, 1 + 1e-6])
def test_a_sum_off_one_draws_no_impossible_token(total):
    probs = torch.tensor([[0.0, 0.6, 0.4, 0.0]]) * total

    class Extreme:
        def __init__(self, value):
            self.value = value

    for value, expected in ((0.0, 1), (1 - 2**-53, 2)):
        original = torch.rand
        torch.rand = lambda *_, value=value, **__: torch.tensor([value], dtype=torch.float64)
        try:
            assert draw(probs, [Extreme(value)]).item() == expected
        finally:
            torch.rand = original


def naive_greedy(model, prompt, n):
    """No cache: every token from the last block_size tokens, read afresh."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(n):
            window = torch.tensor([tokens[-model.config.block_size :]])
            tokens.append(model(window)[0, -1].argmax().item())
            if tokens[-1] == EOT:
                return tokens[len(prompt) : -1]
    return tokens[len(prompt) :]


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_greedy_equals_the_naive_loop_to_three_contexts(positions):
    model = make_model(positions).eval()
    prompts = [[1], [2, 3, 4], [5, 6, 7], list(range(30)), [9] * 12]
    settings = SamplingConfig(temperature=0, max_new_tokens=36)
    outputs = generate(model, prompts, settings, eot_id=EOT, runtime=CPU)
    assert outputs == [naive_greedy(model, prompt, 36) for prompt in prompts]
    assert len({token for output in outputs for token in output}) > 5


def test_a_row_does_not_depend_on_the_others():
    model = make_model()
    settings = SamplingConfig(temperature=1.0, max_new_tokens=20, seed=5)
    together = generate(model, [[1], [2, 3], [1], [4, 5, 6]], settings, eot_id=EOT, runtime=CPU)
    others = generate(model, [[1], [7, 7], [1], [8]], settings, eot_id=EOT, runtime=CPU)
    of_other_lengths = generate(model, [[5, 5, 5], [2, 3], [1]], settings, eot_id=EOT, runtime=CPU)
    assert together[1:3] == of_other_lengths[1:3]
    assert together[0] == others[0]
    assert together[2] == others[2]
    assert together[0] != together[2]  # the same prompt, another row: another stream
    assert together == generate(model, [[1], [2, 3], [1], [4, 5, 6]], settings, eot_id=EOT, runtime=CPU)
    reseeded = generate(model, [[1]], SamplingConfig(max_new_tokens=20, seed=6), eot_id=EOT, runtime=CPU)
    assert reseeded[0] != together[0]


def test_end_of_text_ends_its_row_alone_and_is_not_returned():
    model = make_model()
    settings = SamplingConfig(temperature=3.0, max_new_tokens=60, seed=1)
    outputs = generate(model, [[i] for i in range(12)], settings, eot_id=EOT, runtime=CPU)
    free = generate(model, [[i] for i in range(12)], settings, eot_id=-1, runtime=CPU)
    lengths = {len(output) for output in outputs}
    assert len(lengths) > 3
    for output, unended in zip(outputs, free, strict=True):
        assert output == (unended[: unended.index(EOT)] if EOT in unended else unended)


def test_dropout_is_off_and_the_mode_is_left_as_it_was():
    model = make_model().train()
    settings = SamplingConfig(temperature=0, max_new_tokens=8)
    first = generate(model, [[1, 2]], settings, eot_id=EOT, runtime=CPU)
    assert first == generate(model, [[1, 2]], settings, eot_id=EOT, runtime=CPU)
    assert model.training


def test_an_empty_prompt_is_refused():
    with pytest.raises(UserError, match="empty prompt"):
        generate(make_model(), [[1], []], SamplingConfig(), eot_id=EOT, runtime=CPU)
