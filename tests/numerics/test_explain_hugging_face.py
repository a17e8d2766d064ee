"""The trace of Hugging Face directories against ``output_hidden_states`` and ``output_attentions`` of transformers."""

import pytest
import torch

from gpt2lab.explain import contributions, trace
from gpt2lab.weights import load_pretrained
from tests import hugging_face

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.mark.parametrize("name", hugging_face.MAKERS)
def test_trace_is_what_transformers_reports(name, tmp_path):
    torch.manual_seed(0)
    reference = hugging_face.MAKERS[name]()
    reference.save_pretrained(tmp_path)
    reference.set_attn_implementation("eager")  # the only one that returns attention weights
    model = load_pretrained(tmp_path)
    found = trace(model, IDS)
    with torch.no_grad():
        expected = reference(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    close = {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(found.logits_TV, expected.logits[0], **close)
    states = [found.embedding_TC, *(block.output_TC for block in found.blocks[:-1]), found.final_TC]
    assert len(states) == len(expected.hidden_states)
    for ours, theirs in zip(states, expected.hidden_states, strict=True):  # their last one is after the final norm
        torch.testing.assert_close(ours, theirs[0], **close)
    for block, theirs in zip(found.blocks, expected.attentions, strict=True):
        torch.testing.assert_close(block.weights_HTT, theirs[0], **close)
    total_V = contributions(model, found).logits_NV.sum(dim=0)
    torch.testing.assert_close(total_V, expected.logits[0, -1].double(), rtol=0, atol=1e-4)
