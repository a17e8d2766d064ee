"""ONNX: onnxruntime computes the model's logits, for any batch and length, in every variant."""

import importlib.util

import onnxruntime
import pytest
import torch

from gpt2lab.config import UserError
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights.onnx_file import save_onnx

BYTES = load_tokenizer("bytes")
SHAPE = {"vocab_size": 257, "n_layer": 1}


def export(model, folder):
    """Export a model; return a function that runs the graph."""
    save_onnx(model, BYTES, folder, "# A card\n", {"gpt2lab_document_masking": True})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["gpt2lab_document_masking"] == "true"
    return lambda tokens_BT: torch.from_numpy(session.run(None, {"tokens": tokens_BT.numpy()})[0])


@pytest.mark.parametrize(
    "variant",
    [
        {"positions": "learned", "dropout": 0.5, "vocab_multiple_of": 64},
        {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "n_head": 4, "n_kv_head": 2, "bias": False},
        {"positions": "alibi", "mlp": "relu2", "n_head": 4, "n_kv_head": 1, "qk_norm": True},
        {"positions": "sinusoidal", "norm": "rmsnorm", "qk_norm": True, "tie_head": False},
    ],
    ids=lambda variant: variant["positions"],
)
def test_onnxruntime_computes_the_logits_of_any_batch_and_length(tiny_model, tmp_path, variant):
    model = tiny_model(**SHAPE, **variant)
    run = export(model.train(), tmp_path / "out")  # the graph has no dropout all the same
    assert model.training
    model.eval()
    for shape in ((2, 3), (1, 1), (5, 12), (1, 7)):
        tokens_BT = torch.randint(257, shape)
        with torch.no_grad():
            torch.testing.assert_close(run(tokens_BT), model(tokens_BT), rtol=0, atol=1e-4)
    if variant["positions"] == "learned":
        with pytest.raises(Exception, match="out of"):
            run(torch.zeros(1, 13, dtype=torch.int64))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert (tmp_path / "out" / "README.md").read_text() == "# A card\n"


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_onnx_names_the_missing_package(tiny_model, tmp_path, monkeypatch, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(UserError, match=rf"format=onnx: the package {missing} is not installed.*gpt2lab\[onnx\]"):
        save_onnx(tiny_model(**SHAPE), BYTES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
