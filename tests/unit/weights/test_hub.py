"""Names on the Hub: what is asked of huggingface_hub, which paths are no names, and what is said without network."""

import shutil
import socket
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch

from gpt2lab.config import UserError
from gpt2lab.weights import load_pretrained, load_weights, open_model
from gpt2lab.weights.hub import is_hub_name
from tests.hugging_face import gpt2

REVISION = "11c5a3d5811f50298f278a704980280950aedb10"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub whose every repository is one model; the list of what was asked for."""
    monkeypatch.chdir(tmp_path)
    snapshot = tmp_path / "cache" / "snapshots" / REVISION
    gpt2().save_pretrained(snapshot)
    asked = []

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None):
        asked.append((repo_id, revision, allow_patterns))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    ("where", "repository", "revision"),
    [
        ("gpt2", "openai-community/gpt2", None),
        ("gpt2-medium", "openai-community/gpt2-medium", None),
        ("gpt2-large", "openai-community/gpt2-large", None),
        ("gpt2-xl@main", "openai-community/gpt2-xl", "main"),
        ("EleutherAI/some.model-1", "EleutherAI/some.model-1", None),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
    ],
)
def test_what_is_fetched(hub, tmp_path, where, repository, revision):
    model = load_pretrained(where)
    ((asked, asked_revision, patterns),) = hub
    assert (asked, asked_revision) == (repository, revision)
    wanted = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    for name in wanted:
        assert any(Path(name).match(pattern) for pattern in patterns)
    for name in ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "rust_model.ot", "64.tflite"):
        assert not any(Path(name).match(pattern) for pattern in patterns)
    snapshot = tmp_path / "cache" / "snapshots" / REVISION
    assert torch.equal(model.wte.weight, load_pretrained(snapshot).wte.weight)


def test_the_record_has_the_exact_revision(hub, tiny_model):
    source = load_weights(tiny_model(), "gpt2@main")
    assert source.origin == {"checkpoint": "openai-community/gpt2", "revision": REVISION}
    assert source.describe() == f"openai-community/gpt2, revision {REVISION}"
    assert str(source.results / "eval.json") == "eval.json"


def test_a_path_that_is_there_goes_first(hub, tmp_path):
    gpt2(n_layer=1).save_pretrained(tmp_path / "gpt2")
    gpt2(n_layer=1).save_pretrained(tmp_path / "org" / "name@v1")
    for where in ("gpt2", "org/name@v1"):
        assert load_pretrained(where).config.n_layer == 1
    assert hub == []
    shutil.rmtree(tmp_path / "gpt2")
    assert load_pretrained("gpt2").config.n_layer == 2


@pytest.mark.parametrize(
    "where", ["runs/typo", "./org/name", "/org/name", "../org", "org/name/more", "no_such", "~/a", "-/a"]
)
def test_a_mistyped_path_is_no_name(hub, tmp_path, where):
    (tmp_path / "runs").mkdir()
    assert not is_hub_name(where)
    with pytest.raises(UserError, match="no such folder"):
        load_pretrained(where)
    assert hub == []


def test_without_network(monkeypatch, tmp_path, tiny_model):
    """The library's own error: no name is resolved."""

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_pretrained("gpt2-medium")
    message = str(caught.value)
    assert "\n" not in message
    assert "checkpoint=gpt2-medium: not fetched" in message
    assert "put config.json and model.safetensors of openai-community/gpt2-medium into a folder" in message
    assert message.endswith("checkpoint=FOLDER")
    with pytest.raises(UserError, match=r"init_from=gpt2: .* type init_from=FOLDER$"):
        load_weights(tiny_model(), "gpt2")


def test_switched_offline(monkeypatch, tmp_path):
    """With the switch on the library opens no connection; what is in its cache is used."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a connection was tried"))
    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    with pytest.raises(UserError, match="outgoing traffic has been disabled.*put config.json"):
        load_pretrained("gpt2")
    stored = cache / "models--openai-community--gpt2"
    gpt2().save_pretrained(stored / "snapshots" / REVISION)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(REVISION)
    assert load_pretrained("gpt2").config.n_embd == 16


@pytest.mark.parametrize(
    "error",
    [
        OSError("401 Client Error. (Request ID: abc)\n\nRepository Not Found for url: https://..."),
        ValueError("Cannot have -- or .. in repo_id"),
        RuntimeError("x" * 5000),
    ],
)
def test_whatever_the_library_says_is_one_line(hub, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError) as caught:
        open_model("org/name", torch.device("cpu"))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert type(error).__name__ in message
    assert "config.json and model.safetensors of org/name" in message


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub, or put config.json.*openai-community/gpt2 "):
        load_pretrained("gpt2")


def test_a_repository_with_pickles_alone(hub, tmp_path):
    (tmp_path / "cache" / "snapshots" / REVISION / "model.safetensors").unlink()
    with pytest.raises(UserError, match="expected model.safetensors"):
        load_pretrained("org/name")
