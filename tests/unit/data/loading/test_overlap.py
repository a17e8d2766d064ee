"""gpt2lab.data.loading.overlap, held against sets of the texts themselves."""

import hashlib
import json

from gpt2lab.config import JsonlFilesConfig, MixtureConfig, PrepareConfig
from gpt2lab.data import open_or_prepare, prepare
from gpt2lab.tokenizers import load_tokenizer

BYTES = load_tokenizer("bytes")


def test_validation_documents_that_another_dataset_trains_on_are_counted(tmp_path, caplog):
    texts = {"few": [f"text {i}" for i in range(60)], "all": [f"text {i}" for i in range(200)]}
    fractions = {"few": 0.5, "same": 0.5, "all": 0.1, "other": 0.2}
    texts["same"] = texts["all"]
    texts["other"] = [f"other {i}" for i in range(100)]
    for name, fraction in fractions.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[name]))
        data = JsonlFilesConfig(name=name, root=str(tmp_path / "data"), files=[str(file)], val_fraction=fraction)
        prepare(data, PrepareConfig(shard_tokens=100), BYTES)
    caplog.clear()

    open_or_prepare(MixtureConfig(root=str(tmp_path / "data"), mixture={"few": 1, "same": 1, "other": 1}), BYTES)
    assert caplog.messages == []

    open_or_prepare(MixtureConfig(root=str(tmp_path / "data"), mixture={"all": 1, "few": 1, "other": 1}), BYTES)
    share_of = {text: int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 16**16 for text in texts["few"]}
    val, both = (sum(low <= share < 0.5 for share in share_of.values()) for low in (0, 0.1))
    assert 10 < both < val
    (message,) = caplog.messages
    found = f"{both} of the {val} validation documents of few are training documents of all,"
    assert found in message
