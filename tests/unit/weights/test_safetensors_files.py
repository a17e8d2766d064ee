"""Malformed directories: each ends in one line that names the file and the tensor."""

import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2lab.config import UserError
from gpt2lab.weights import load_pretrained
from tests.hugging_face import change_settings, gpt2, llama, neox


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    gpt2().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved_once, tmp_path):
    """A good directory of GPT-2, to be damaged."""
    return shutil.copytree(saved_once, tmp_path / "model")


@pytest.fixture
def sharded(tmp_path):
    """The same in several files."""
    gpt2().save_pretrained(tmp_path / "sharded", max_shard_size="5KB")
    return tmp_path / "sharded"


def refusal(where, **options):
    """The message, which must be one line."""
    with pytest.raises(UserError) as caught:
        load_pretrained(where, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder, change):
    """Change the tensors of model.safetensors by a function of their dict."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return str(path)


def test_missing_tensor(folder):
    path = edit(folder, lambda tensors: tensors.pop("transformer.h.1.ln_2.bias"))
    message = refusal(folder)
    assert path in message
    assert "transformer.h.1.ln_2.bias is missing" in message
    assert "[16]" in message


def test_extra_tensor(folder):
    path = edit(folder, lambda tensors: tensors.update({"score.weight": torch.zeros(3, 16)}))
    message = refusal(folder)
    assert path in message
    assert "score.weight of shape [3, 16]" in message


@pytest.mark.parametrize("name", ["transformer.h.2.ln_1.bias", "transformer.h.0.attn.rotary", "attn.bias.more"])
def test_only_known_constants_are_left_out(folder, name):
    edit(folder, lambda tensors: tensors.update({name: torch.zeros(16)}))
    assert f"tensor {name} of shape [16] is not part of this model" in refusal(folder)


def test_wrong_shape(folder):
    # GPT-2 keeps this matrix as [in, out]: as it stands in other libraries it must not be taken
    def transpose(tensors):
        tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].t().contiguous()

    path = edit(folder, transpose)
    message = refusal(folder)
    assert path in message
    assert "transformer.h.0.mlp.c_fc.weight has shape [64, 16], expected [16, 64]" in message


@pytest.mark.parametrize(
    ("change", "tensor", "shapes"),
    [
        ({"n_layer": 3}, "transformer.h.2.ln_1.weight", ["[16]"]),
        ({"n_layer": 1}, "transformer.h.1.", []),
        ({"vocab_size": 32}, "transformer.wte.weight", ["[31, 16]", "[32, 16]"]),
        ({"n_positions": 24}, "transformer.wpe.weight", ["[12, 16]", "[24, 16]"]),
        ({"n_inner": 60}, "transformer.h.0.mlp.c_fc", ["[60]", "[64]"]),
        ({"tie_word_embeddings": False}, "lm_head.weight", ["[31, 16]"]),
    ],
)
def test_settings_that_are_not_the_files(folder, change, tensor, shapes):
    change_settings(folder, **change)
    message = refusal(folder)
    assert "model.safetensors" in message
    assert tensor in message
    assert all(shape in message for shape in shapes), message


@pytest.mark.parametrize("size", [10**6, 10**9, 10**18, 10**30])
@pytest.mark.parametrize("key", ["n_layer", "n_embd", "n_head", "n_positions", "vocab_size", "n_inner"])
def test_settings_of_absurd_size_are_refused_at_once(folder, key, size):
    change_settings(folder, **{key: size})
    started = time.monotonic()
    refusal(folder)
    assert time.monotonic() - started < 2


def test_a_tied_head_that_is_another_matrix(folder):
    path = edit(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(31, 16)}))
    message = refusal(folder)
    assert path in message
    assert "lm_head.weight differs from transformer.wte.weight" in message
    assert '"tie_word_embeddings": false' in message
    change_settings(folder, tie_word_embeddings=False)
    assert not load_pretrained(folder).head_PC.any()


def test_the_same_tensor_twice(folder):
    edit(folder, lambda tensors: tensors.update({"module.transformer.wpe.weight": torch.zeros(12, 16)}))
    message = refusal(folder)
    assert "module.transformer.wpe.weight" in message
    assert "once" in message


def test_numbers_that_are_not_floating_point(folder):
    def quantise(tensors):
        tensors["transformer.ln_f.weight"] = torch.ones(16, dtype=torch.int8)

    path = edit(folder, quantise)
    message = refusal(folder)
    assert path in message
    assert "transformer.ln_f.weight is I8" in message


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_truncated_file(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal(folder)
    assert message.startswith(f"{path} is damaged")


def test_a_pointer_in_place_of_the_file(folder):
    path = folder / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n")
    assert refusal(folder).startswith(f"{path} is damaged, or no safetensors file")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00002.bin"])
def test_pickles_are_refused_with_the_reason(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    for where in (folder, folder / name):
        message = refusal(where)
        assert name in message
        assert "runs whatever code it holds" in message
        assert "save_pretrained" in message


def test_nothing_to_read(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    assert "expected model.safetensors or model.safetensors.index.json, found neither" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json" in refusal(folder)
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path / "empty")
    assert "checkpoint.json" in message
    assert "config.json" in message


def test_a_file_alone_needs_its_settings(folder):
    (folder / "config.json").unlink()
    message = refusal(folder / "model.safetensors")
    assert f"{folder / 'config.json'} is missing" in message


@pytest.mark.parametrize("content", ["", "{", "[1]", '"gpt2"', "\xff"])
def test_settings_that_are_no_json_object(folder, content):
    (folder / "config.json").write_text(content, encoding="latin-1")
    message = refusal(folder)
    assert str(folder / "config.json") in message
    assert "JSON" in message


@pytest.mark.parametrize("kind", ["opt", None, 7])
def test_unknown_architecture(folder, kind):
    change_settings(folder, model_type=kind)
    message = refusal(folder)
    assert str(folder / "config.json") in message
    assert "model_type=" in message
    assert "gpt2 or gpt_neox or llama" in message


def test_missing_and_misnamed_parts(sharded):
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    part = next(iter(content["weight_map"].values()))
    (sharded / part).rename(sharded / "elsewhere")
    message = refusal(sharded)
    assert str(index) in message
    assert f"{part} is missing" in message.replace(f"{sharded}/", "")

    (sharded / "elsewhere").rename(sharded / part)
    for weight_map in ({"a": "../model.safetensors"}, {"a": 5}, ["a"], None):
        index.write_text(json.dumps({"weight_map": weight_map}))
        assert str(index) in refusal(sharded)
    index.write_text("{")
    assert str(index) in refusal(sharded)


def test_a_part_that_lacks_what_the_index_says(sharded):
    part = sorted(sharded.glob("model-*.safetensors"))[1]
    tensors = load_file(part)
    name = next(iter(tensors))
    del tensors[name]
    save_file(tensors or {"transformer.none": torch.zeros(1)}, part)
    message = refusal(sharded)
    assert str(sharded) in message
    assert name in message or "transformer.none" in message


def test_one_part_is_not_the_model(sharded):
    part = sorted(sharded.glob("model-*.safetensors"))[0]
    message = refusal(part)
    assert str(part) in message
    assert "is missing" in message


def test_positions_and_ids_that_are_not_there(folder, tmp_path):
    assert "block_size=13" in refusal(folder, block_size=13)
    assert "vocab_size=32" in refusal(folder, vocab_size=32)
    assert "block_size=0" in refusal(folder, block_size=0)
    for name, theirs in (("neox", neox()), ("llama", llama())):
        theirs.save_pretrained(tmp_path / name)
        assert load_pretrained(tmp_path / name, block_size=500).config.block_size == 500


def test_nothing_is_left_open_or_changed(folder):
    """A model owns its weights: overwriting the file it came from does not move them."""
    model = load_pretrained(folder)
    before = model.wte.weight.clone()
    edit(folder, lambda tensors: tensors["transformer.wte.weight"].zero_())
    assert torch.equal(model.wte.weight, before)
    assert not load_pretrained(folder).wte.weight.any()
