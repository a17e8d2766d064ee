"""gpt2lab.generation.decoding against the naive loop, and what a row may depend on."""

import itertools

import pytest
import torch

from gpt2lab.config import ModelConfig, PositionsConfig, RuntimeConfig, SamplingConfig, UserError
from gpt2lab.generation import generate, generate_stream
from gpt2lab.generation.decoder import Decoder
from gpt2lab.generation.decoding import BLOCK, _uniform_numbers
from gpt2lab.model import GPT
from gpt2lab.runtime import open_runtime, stream_seed

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


def test_rows_that_the_caller_ends_take_no_more_steps(monkeypatch):
    """Three rows in two slots: the first ends after 2 tokens and leaves its slot to the third."""
    steps, step = [], Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda decoder, *given: steps.append(1) or step(decoder, *given))
    model, settings = make_model().eval(), SamplingConfig(temperature=0, max_new_tokens=8, batch_size=2)
    whole = generate(model, [[1], [2, 3], [4, 5, 6]], settings, eot_id=-1, runtime=CPU)
    lengths, outputs, ended = [2, 5, 3], [[], [], []], set()
    steps.clear()
    for row, token in generate_stream(model, [[1], [2, 3], [4, 5, 6]], settings, eot_id=-1, runtime=CPU, ended=ended):
        outputs[row].append(token)
        if len(outputs[row]) == lengths[row]:
            ended.add(row)
    assert outputs == [row[:length] for row, length in zip(whole, lengths, strict=True)]
    assert len(steps) == 4  # each row's first token comes from its prompt, and two rows share a step


def test_numbers_drawn_in_blocks_are_those_drawn_at_once():
    sampling = SamplingConfig(seed=3)
    generator = torch.Generator().manual_seed(stream_seed("sample", sampling.seed, 2))
    expected = torch.rand(3 * BLOCK + 5, generator=generator, dtype=torch.float64).tolist()
    assert list(itertools.islice(_uniform_numbers(sampling, 2), len(expected))) == expected
