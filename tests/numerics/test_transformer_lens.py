"""TransformerLens opens what ``export.py`` writes, with the model's logits."""

import pytest
import torch

from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import save_pretrained


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"positions": "rope"},
        {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "n_head": 4, "n_kv_head": 2},
    ],
    ids=["gpt2", "gpt_neox", "llama"],
)
def test_transformer_bridge_gives_the_logits_of_the_exported_model(tiny_model, tmp_path, monkeypatch, variant):
    from transformer_lens.model_bridge import TransformerBridge  # its import takes seconds

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tiny_model(vocab_size=257, **variant)
    save_pretrained(model, load_tokenizer("bytes"), tmp_path / "out")
    bridge = TransformerBridge.boot_transformers(str(tmp_path / "out"), device="cpu", dtype=torch.float32)
    tokens_BT = torch.randint(257, (2, 12))
    with torch.no_grad():
        logits_BTV, cache = bridge.run_with_cache(tokens_BT)
        torch.testing.assert_close(logits_BTV, model(tokens_BT), rtol=0, atol=1e-4)
    assert cache["blocks.1.attn.hook_pattern"].shape == (2, model.config.n_head, 12, 12)
