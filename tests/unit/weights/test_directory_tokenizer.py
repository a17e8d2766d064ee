"""Models with a tokenizer.json of their own: opened with it, sampled, exported with it, or refused in one line."""

import json

import pytest
import torch
from transformers import AutoTokenizer

from gpt2lab.config import SamplingConfig, UserError
from gpt2lab.generation import generate
from gpt2lab.tokenizers import load_tokenizer, read_tokenizer
from gpt2lab.tokenizers.base import END_OF_TEXT
from gpt2lab.weights import load_pretrained, load_weights, open_model, save_pretrained
from tests import hugging_face, tokenizer_files

CPU = torch.device("cpu")
FORMS = {"smollm": hugging_face.llama, "llama": hugging_face.llama, "pythia": hugging_face.neox}


@pytest.fixture(params=FORMS)
def saved(request, tmp_path):
    """A random model of a known form, with a tokenizer of that form beside it: (folder, tokenizer)."""
    folder = tmp_path / request.param
    tokenizer_files.MAKERS[request.param](folder)
    tokenizer = read_tokenizer(str(folder))
    FORMS[request.param](vocab_size=tokenizer.vocab_size + 10, max_position_embeddings=32).save_pretrained(folder)
    return folder, tokenizer


def test_a_model_is_opened_with_its_own_tokenizer(saved, cpu):
    folder, tokenizer = saved
    opened = open_model(str(folder), CPU)
    assert opened.tokenizer.fingerprint == tokenizer.fingerprint
    assert (opened.tokenizer.bos_id, opened.tokenizer.eot_id) == (tokenizer.bos_id, tokenizer.eot_id)
    assert opened.model.config.vocab_size == tokenizer.vocab_size, "rows of padding are cut off"
    assert load_pretrained(folder).config.vocab_size == tokenizer.vocab_size + 10
    ids = opened.tokenizer.encode("the fox")
    (drawn,) = generate(
        opened.model, [ids], SamplingConfig(max_new_tokens=8), eot_id=opened.tokenizer.eot_id, runtime=cpu
    )
    assert isinstance(opened.tokenizer.decode(drawn), str)


def test_an_export_keeps_the_tokenizer_and_the_special_ids(saved, tmp_path):
    folder, tokenizer = saved
    opened = open_model(str(folder), CPU)
    save_pretrained(opened.model, opened.tokenizer, tmp_path / "out")
    again = open_model(str(tmp_path / "out"), CPU)
    assert again.tokenizer.fingerprint == tokenizer.fingerprint
    theirs, before = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "out", folder))
    text = "the  fox isn't 12 日本"
    assert theirs(text)["input_ids"] == before(text)["input_ids"]
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.bos_id, tokenizer.eot_id)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (settings["bos_token_id"], settings["eos_token_id"]) == (tokenizer.bos_id, tokenizer.eot_id)


def test_weights_start_a_run_of_that_vocabulary(saved):
    folder, tokenizer = saved
    model = load_pretrained(folder, vocab_size=tokenizer.vocab_size)
    source = load_weights(model, str(folder))
    assert source.has_ids_of(tokenizer)


@pytest.mark.parametrize("rows", [-1, 1025])
def test_another_number_of_ids_than_the_embedding_has_is_an_error(tmp_path, rows):
    tokenizer_files.smollm(tmp_path)
    ids = read_tokenizer(str(tmp_path)).vocab_size
    hugging_face.llama(vocab_size=ids + rows).save_pretrained(tmp_path)
    with pytest.raises(UserError) as caught:
        open_model(str(tmp_path), CPU)
    assert f"its tokenizer has {ids} ids, its embedding {ids + rows} rows" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert load_pretrained(tmp_path).config.vocab_size == ids + rows, "the weights are still read"


def test_gpt2s_vocabulary_with_more_pieces_is_not_taken_for_gpt2(tmp_path):
    """Phi's and CodeGen's tokenizers are GPT-2's and runs of spaces: other ids for most texts."""
    values = json.loads(load_tokenizer("gpt2").hugging_face_files()["tokenizer.json"])
    token = {**values["added_tokens"][0], "id": 50_257, "content": "    ", "special": False, "normalized": True}
    values["added_tokens"].append(token)
    hugging_face.gpt2(vocab_size=50_258, n_layer=1).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    opened = open_model(str(tmp_path), CPU)
    assert opened.tokenizer.name.startswith("huggingface_")
    assert 50_257 in opened.tokenizer.encode("a    b")
    values["added_tokens"][1] |= {"special": True, "content": "<|pad|>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert open_model(str(tmp_path), CPU).tokenizer.name.startswith("huggingface_"), "the token may be trained"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT, "pad_token": "<|pad|>"}))
    assert open_model(str(tmp_path), CPU).tokenizer.name == "gpt2"


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values["added_tokens"][0].update(id=float("inf")),
        lambda values: values["added_tokens"][0].update(content=[]),
        lambda values: values["model"]["vocab"].update({"a": []}),
        lambda values: values["model"].update(merges=True),
        lambda values: values["model"].update(merges=["abc"]),
        lambda values: values.update(normalizer=[[]]),
    ],
)
def test_damaged_tokenizer_of_a_directory_is_one_line(tmp_path, damage):
    hugging_face.gpt2(vocab_size=257).save_pretrained(tmp_path)
    for name, content in load_tokenizer("bytes").hugging_face_files().items():
        (tmp_path / name).write_text(content)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    damage(values)
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(UserError) as raised:
        open_model(str(tmp_path), CPU)
    assert "\n" not in str(raised.value)
    assert "tokenizer.json: " in str(raised.value)


def test_gpt2_with_another_special_token_keeps_its_row(tmp_path):
    """A token that a model was fine-tuned with is no padding, and an export has it too."""
    for name, content in load_tokenizer("gpt2").hugging_face_files().items():
        (tmp_path / name).write_text(content)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    theirs.add_special_tokens({"additional_special_tokens": ["<sep>"]})
    theirs.save_pretrained(tmp_path)
    model = hugging_face.gpt2(vocab_size=len(theirs))
    model.save_pretrained(tmp_path)
    opened = open_model(str(tmp_path), CPU)
    assert opened.model.config.vocab_size == len(theirs) == 50_258
    ids = torch.tensor([theirs("Hello there")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(opened.model(ids), model(ids).logits, rtol=1e-4, atol=1e-4)
    save_pretrained(opened.model, opened.tokenizer, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids("<sep>") == 50_257


@pytest.mark.parametrize(("bos", "eos"), [("<|endoftext|>", "<|im_end|>"), ("<|im_start|>", "<|endoftext|>")])
def test_gpt2_with_another_end_or_begin_token_keeps_its_probability(tmp_path, bos, eos):
    """Chat models end a turn with a token that GPT-2 lacks."""
    for name, content in load_tokenizer("gpt2").hugging_face_files().items():
        (tmp_path / name).write_text(content)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    theirs.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": bos, "eos_token": eos}
    )
    theirs.save_pretrained(tmp_path)
    model = hugging_face.gpt2(vocab_size=len(theirs), eos_token_id=theirs.eos_token_id)
    model.save_pretrained(tmp_path)
    opened = open_model(str(tmp_path), CPU)
    assert opened.model.config.vocab_size == len(theirs) == 50_259
    assert (opened.tokenizer.bos_id, opened.tokenizer.eot_id) == (theirs.bos_token_id, theirs.eos_token_id)
    ids = torch.tensor([theirs("Hello there")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(opened.model(ids), model(ids).logits, rtol=1e-4, atol=1e-4)


def test_vocab_json_of_gpt2_with_another_special_token_is_not_taken_for_gpt2(tmp_path):
    vocabulary = json.loads(load_tokenizer("gpt2").hugging_face_files()["tokenizer.json"])["model"]["vocab"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"<|endoftext|>": 50_256}))
    hugging_face.gpt2(vocab_size=50_258, n_layer=1).save_pretrained(tmp_path)
    assert open_model(str(tmp_path), CPU).tokenizer.name == "gpt2"
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<sep>": 50_257}))
    with pytest.raises(UserError, match="there is no tokenizer for its 50258 token ids"):
        open_model(str(tmp_path), CPU)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<sep>"}))
    assert open_model(str(tmp_path), CPU).tokenizer.name == "gpt2"
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    with pytest.raises(UserError, match="there is no tokenizer for its 50258 token ids"):
        open_model(str(tmp_path), CPU)
