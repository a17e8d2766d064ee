"""Decoding in batches against the plainest loop there is: one row, no cache, every token from a fresh reading.

The context is 4 tokens and rows grow to three times as many and more, from prompts shorter and longer than it.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from gpt2lab.config import RuntimeConfig, SamplingConfig
from gpt2lab.generation import generate, generate_stream
from gpt2lab.generation.filters import draw, sampling_probs
from gpt2lab.model.positions import POSITIONS
from gpt2lab.runtime import open_runtime, stream_seed
from tests.conftest import make_tiny_model

CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))
CONTEXT, NEW, NO_END = 4, 12, -1
PROMPTS = [[1], list(range(9, 18)), [2, 3, 4]]
GREEDY = SamplingConfig(temperature=0, max_new_tokens=NEW)
SAMPLED = SamplingConfig(temperature=1.3, top_k=20, top_p=0.95, max_new_tokens=NEW, seed=4)


def make_model(**settings):
    """A tiny model whose next token depends on those before it more than on biases."""
    model = make_tiny_model(**{"block_size": CONTEXT} | settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith(("wte.weight", "c_proj.weight")):
                parameter.mul_(3)
    return model


@torch.no_grad()
def naive(model, prompt, sampling, row, end=NO_END):
    """One row by its own stream of random numbers."""
    tokens, generator = list(prompt), Generator().manual_seed(stream_seed("sample", sampling.seed, row))
    for _ in range(sampling.max_new_tokens):
        logits = model(torch.tensor([tokens[-model.config.block_size :]]))[:, -1]
        token = logits.argmax().item() if sampling.temperature == 0 else None
        if token is None:
            uniform = torch.rand(1, generator=generator, dtype=torch.float64)
            token = draw(sampling_probs(logits, sampling), uniform).item()
        if token == end:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


def check_generation(model, batch_sizes):
    for sampling, least_ids in ((GREEDY, 2), (SAMPLED, 15)):
        expected = [naive(model, prompt, sampling, row) for row, prompt in enumerate(PROMPTS)]
        assert len({token for row in expected for token in row}) >= least_ids
        for batch_size in batch_sizes:
            batched = SamplingConfig(**vars(sampling) | {"batch_size": batch_size})
            assert generate(model, PROMPTS, batched, eot_id=NO_END, runtime=CPU) == expected, batch_size


def test_every_variant(variant):
    check_generation(make_model(**variant), [2])


def test_every_option_with_every_position_scheme(positions, options):
    check_generation(make_model(positions=positions, **options), [3])


@pytest.mark.parametrize("positions", POSITIONS)
@settings(deadline=None, max_examples=8, derandomize=True)
@given(data=st.data())
def test_any_prompts_in_any_batches(positions, data):
    model = make_model(positions=positions)
    prompt = st.lists(st.integers(0, 30), min_size=1, max_size=14)
    prompts = data.draw(st.lists(prompt, min_size=1, max_size=6))
    sampling = SamplingConfig(
        temperature=data.draw(st.sampled_from([0, 0.7, 2.0])),
        max_new_tokens=data.draw(st.integers(1, 15)),
        batch_size=data.draw(st.integers(1, 7)),
        seed=data.draw(st.integers(0, 99)),
    )
    end = data.draw(st.integers(0, 30))
    expected = [naive(model, prompt, sampling, row, end) for row, prompt in enumerate(prompts)]
    assert generate(model, prompts, sampling, eot_id=end, runtime=CPU) == expected


def test_no_prompts_at_all():
    assert generate(make_model(), [], GREEDY, eot_id=NO_END, runtime=CPU) == []


def test_a_stream_yields_a_token_of_each_row_in_turn():
    model = make_model()
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=5, batch_size=2)
    prompts = [[1, 2, 3], [4], [5, 6]]
    pairs = list(generate_stream(model, prompts, sampling, eot_id=NO_END, runtime=CPU))
    assert [row for row, _ in pairs] == [1, 2] * 5 + [0] * 5  # the shorter prompts are a batch of their own
    tokens = [[token for row, token in pairs if row == wanted] for wanted in range(3)]
    assert tokens == [naive(model, prompt, sampling, row) for row, prompt in enumerate(prompts)]


def test_rows_one_at_a_time_are_the_rows_of_a_batch():
    model = make_model()
    together = generate(model, [[1, 2]] * 4, SAMPLED, eot_id=NO_END, runtime=CPU)
    for row in range(4):
        stream = generate_stream(model, [[1, 2]], SAMPLED, eot_id=NO_END, runtime=CPU, first_row=row)
        assert [token for _, token in stream] == together[row]
    assert len(set(map(tuple, together))) == 4


def test_an_abandoned_stream_leaves_the_model_as_it_was():
    model = make_model(dropout=0.3).train()
    stream = generate_stream(model, [[1], [2]], SAMPLED, eot_id=NO_END, runtime=CPU)
    next(stream)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    stream.close()
    assert model.training
    model.loss(torch.tensor([[1, 2]]), torch.tensor([[2, 3]])).backward()


def count_reads(model):
    """Shapes of the tokens that the model reads, as they are read."""
    shapes = []
    model.wte.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    return shapes


def test_within_the_context_each_token_is_read_once(positions):
    model = make_model(positions=positions)
    shapes = count_reads(model)
    generate(model, [[1, 2], [4]], SamplingConfig(temperature=0, max_new_tokens=6), eot_id=NO_END, runtime=CPU)
    step, window_of_both = (2, 1), (2, CONTEXT)
    # the shorter row stays in the context for one token more
    assert shapes == [(2, 2), step, step, step, (1, CONTEXT), window_of_both, window_of_both]


def test_decoding_ends_when_all_rows_have_ended():
    model = make_model()
    first, second = (naive(model, prompt, GREEDY, 0) for prompt in ([1], [2, 3]))
    shapes = count_reads(model)
    end = next(token for token in first if token in second)
    assert max(first.index(end), second.index(end)) + 1 < NEW
    outputs = generate(model, [[1], [2, 3]], GREEDY, eot_id=end, runtime=CPU)
    assert outputs == [first[: first.index(end)], second[: second.index(end)]]
    tokens_read = sum(rows * columns for rows, columns in shapes)
    shapes.clear()
    generate(model, [[1], [2, 3]], GREEDY, eot_id=NO_END, runtime=CPU)
    assert tokens_read < sum(rows * columns for rows, columns in shapes)


def test_a_slot_takes_the_next_prompt_when_its_row_ends():
    """Three prompts in two slots: when a row ends, the third prompt is read while the other row continues."""
    model = make_model(block_size=CONTEXT * 8)
    sampling = SamplingConfig(temperature=1.3, max_new_tokens=9, batch_size=2, seed=4)
    rows = [naive(model, [prompt], sampling, row) for row, prompt in enumerate((1, 2, 3))]
    end = rows[0][2]
    expected = [row[: row.index(end)] if end in row else row for row in rows]
    assert len(expected[0]) < len(expected[1])
    stream = generate_stream(model, [[1], [2], [3]], sampling, eot_id=end, runtime=CPU)
    order = [row for row, _ in stream]
    assert generate(model, [[1], [2], [3]], sampling, eot_id=end, runtime=CPU) == expected
    assert order.index(2) < len(order) - 1 - order[::-1].index(1)  # row 2 begins before row 1 ends


@pytest.mark.parametrize("tie_head", [True, False])
def test_padding_of_the_vocabulary_is_never_drawn(tie_head):
    """32 rows of padding beside 32 ids; were their logits drawn from, half of the draws would be padding."""
    model = make_model(vocab_size=32, vocab_multiple_of=64, tie_head=tie_head)
    with torch.no_grad():
        model.head_PC[32:] *= 1000
    sampling = SamplingConfig(temperature=100.0, max_new_tokens=200, batch_size=20)
    outputs = generate(model, [[0]] * 20, sampling, eot_id=NO_END, runtime=CPU)
    counts = torch.tensor(outputs).flatten().bincount()
    assert len(counts) == 32
    assert counts.min() > 0
