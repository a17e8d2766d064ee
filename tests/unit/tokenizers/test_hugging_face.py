"""tokenizer.json of the usual kinds: ids against the library, bytes of ids against the text, and broken files."""

import json
import pickle
import random
import unicodedata

import numpy as np
import pytest
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer

from gpt2lab.config import TokenizerConfig, UserError
from gpt2lab.tokenizers import load_tokenizer, read_tokenizer
from gpt2lab.tokenizers.byte_level import TiktokenEncoder
from tests.tokenizer_files import MAKERS, bert, mixed_text, smollm

TEXTS = [
    "the fox",
    " the  fox ",
    "",
    " ",
    "naïve café 日本語 \U0001f600",
    "a\n\n b\t",
    "e\u0301 ﬁ",
    "</s><s> <|endoftext|>",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def kind(request):
    return request.param


def library(folder):
    """The library's tokenizer, told that special tokens in a text are text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def test_ids_equal_those_of_the_library(folders, kind):
    ours, theirs = read_tokenizer(str(folders[kind])), library(folders[kind])
    assert ours.vocab_size == theirs.get_vocab_size()
    for text in [*TEXTS, mixed_text(random.Random(0), 20_000)]:
        if kind == "t5":
            text = text.replace("</s>", "")  # the library's Unigram finds this piece in a text, gpt2lab does not
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected
        assert ours.encode_array(text).tolist() == expected


def test_special_tokens_in_a_text_are_text(folders, kind):
    ours = read_tokenizer(str(folders[kind]))
    for text in ("<|endoftext|>", "a</s>b", "<s>"):
        assert not {ours.eot_id, ours.bos_id} & set(ours.encode(text))


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_special_token_that_a_bpe_can_merge_is_text(folders, tmp_path, ignore_merges):
    values = json.loads((folders["llama"] / "tokenizer.json").read_text())
    model, name = values["model"], "</s>"
    for piece in (*name, "</", "</s"):
        model["vocab"].setdefault(piece, len(model["vocab"]))
    model["merges"] = [["<", "/"], ["</", "s"], ["</s", ">"], *model["merges"]]
    model["ignore_merges"] = ignore_merges
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": name}))
    ours = read_tokenizer(str(tmp_path))
    for text in (name, f"a{name}b", f"{name} the fox \u2603"):
        ids, lengths = ours.encode_with_lengths(text)
        assert ours.eot_id not in ids
        assert ours.decode(ids.tolist()) == f" {text}"
        assert lengths.sum() == len(text.encode())
    unchanged = library(folders["llama"])
    assert ours.encode("the lazy fox \u2603") == unchanged.encode("the lazy fox \u2603", add_special_tokens=False).ids


def rewritten(folder, target, change):
    """The directory ``target`` with the files of ``folder`` after a change of its tokenizer.json."""
    values = json.loads((folder / "tokenizer.json").read_text())
    change(values)
    (target / "tokenizer.json").write_text(json.dumps(values))
    (target / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text())
    return target


def make_ordinary(values):
    for token in values["added_tokens"]:
        token["special"] = False


def leave_as_pieces(values):
    values["added_tokens"] = []


@pytest.mark.parametrize("change", [make_ordinary, leave_as_pieces])
@pytest.mark.parametrize("name", ["smollm", "llama"])
def test_end_of_text_is_special_whatever_the_file_says(folders, tmp_path, name, change):
    """Its name in a text stays text, and no byte is counted for it."""
    ours = read_tokenizer(str(rewritten(folders[name], tmp_path, change)))
    special = read_tokenizer(str(folders[name]))
    text = f"the {ours.decode([ours.eot_id])} fox{ours.decode([ours.bos_id])}"
    ids, lengths = ours.encode_with_lengths(text)
    assert not {ours.eot_id, ours.bos_id} & set(ids.tolist())
    assert (ids.tolist(), ours.encode(text)) == (special.encode(text), special.encode(text))
    assert lengths.sum() == len(text.encode())
    assert ours.token_lengths()[[ours.eot_id, ours.bos_id]].tolist() == [0, 0]
    trained_with = ours.with_end_of_text_first()
    assert (trained_with.fingerprint, trained_with.encode(text)) == (ours.fingerprint, ours.encode(text))


def test_dropout_is_left_out_with_a_warning(folders, tmp_path, caplog):
    ours = read_tokenizer(str(rewritten(folders["smollm"], tmp_path, lambda values: values["model"].update(dropout=1))))
    plain = read_tokenizer(str(folders["smollm"]))
    assert "tokenizer.json: its BPE dropout of 1 is left out" in caplog.text
    assert (ours.encode(TEXTS[4]), ours.fingerprint) == (plain.encode(TEXTS[4]), plain.fingerprint)
    assert json.loads(ours.files["tokenizer.json"])["model"]["dropout"] is None


@pytest.mark.parametrize(
    ("name", "bos", "eos"),
    [("smollm", "<|endoftext|>", "<|endoftext|>"), ("llama", "<s>", "</s>"), ("t5", "</s>", "</s>")],
)
def test_documents_begin_with_bos_and_end_with_eos(folders, name, bos, eos):
    ours = read_tokenizer(str(folders[name]))
    theirs = library(folders[name])
    assert (ours.bos_id, ours.eot_id) == (theirs.token_to_id(bos), theirs.token_to_id(eos))


def test_training_puts_end_of_text_before_documents_whatever_the_tokenizers_custom(folders):
    theirs = read_tokenizer(str(folders["llama"]))
    ours = load_tokenizer(TokenizerConfig("huggingface", theirs.vocab_size, str(folders["llama"])))
    assert theirs.bos_id != theirs.eot_id
    assert ours.bos_id == ours.eot_id == theirs.eot_id
    assert (ours.name, ours.fingerprint, ours.overrides) == (theirs.name, theirs.fingerprint, theirs.overrides)


@pytest.mark.parametrize(
    "settings", [{}, {"tokenizer_class": "LlamaTokenizerFast"}, {"add_bos_token": True, "add_eos_token": True}]
)
@pytest.mark.parametrize("byte_level", [[], [processors.ByteLevel(trim_offsets=False)]])
def test_files_of_a_trained_model_put_no_begin_token_that_it_never_saw(folders, tmp_path, settings, byte_level):
    theirs = Tokenizer.from_file(str(folders["llama"] / "tokenizer.json"))
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    theirs.post_processor = processors.Sequence([*byte_level, template])
    theirs.save(str(tmp_path / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(special | settings))
    trained_with = load_tokenizer(TokenizerConfig("huggingface", theirs.get_vocab_size(), str(tmp_path)))
    for name, content in trained_with.hugging_face_files().items():
        (tmp_path / name).write_text(content)
    exported = AutoTokenizer.from_pretrained(tmp_path)
    assert exported("the fox")["input_ids"] == trained_with.encode("the fox") == trained_with.encode_prompt("the fox")
    assert exported.bos_token_id == trained_with.bos_id == trained_with.eot_id


def test_lossless_tokenizers_give_the_text_back(folders):
    ours = read_tokenizer(str(folders["smollm"]))
    assert ours.lossless
    for text in [*TEXTS, mixed_text(random.Random(1), 20_000)]:
        ids = ours.encode(text)
        assert ours.decode_bytes(ids) == text.encode("utf-8")
        assert ours.token_lengths()[ids].sum() == len(text.encode("utf-8"))


@pytest.mark.parametrize("name", ["pythia", "llama", "t5"])
def test_normalizing_and_prefixing_tokenizers_are_not_lossless(folders, name):
    ours = read_tokenizer(str(folders[name]))
    assert not ours.lossless
    text = "e\u0301" if name == "pythia" else "the fox"
    assert ours.decode(ours.encode(text)) == (unicodedata.normalize("NFC", text) if name == "pythia" else f" {text}")


def test_bytes_covered_by_the_ids_of_a_text_add_up_to_its_utf8_length(folders, kind):
    ours = read_tokenizer(str(folders[kind]))
    for text in [*TEXTS, mixed_text(random.Random(2), 20_000)]:
        ids, lengths = ours.encode_with_lengths(text)
        assert ids.tolist() == ours.encode(text)
        assert lengths.min(initial=0) >= 0
        if len(ids):
            assert lengths.sum() == len(text.encode("utf-8"))


def test_covered_bytes_are_those_of_each_ids_own_characters(folders):
    """Llama's form: the space before the text covers nothing; of the three bytes of ☃, the first covers all."""
    ours = read_tokenizer(str(folders["llama"]))
    ids, lengths = ours.encode_with_lengths("the ☃")
    pieces = [ours.id_bytes(token) for token in ids]
    assert b"".join(pieces) == " the ☃".encode()
    assert lengths.sum() == len("the ☃".encode())
    assert lengths[pieces.index(b"\xe2") :].tolist() == [3, 0, 0]


def test_ids_of_bytes_and_spaces_stand_for_their_bytes(folders):
    ours, theirs = read_tokenizer(str(folders["llama"])), library(folders["llama"])
    assert ours.id_bytes(theirs.token_to_id("<0x0A>")) == b"\n"
    assert ours.id_bytes(theirs.token_to_id("▁the")) == b" the"
    assert ours.id_bytes(theirs.token_to_id("</s>")) == b"</s>"
    assert ours.token_lengths()[theirs.token_to_id("</s>")] == 0


def test_tiktoken_runs_only_where_it_gives_the_same_ids(folders, kind):
    assert not isinstance(read_tokenizer(str(folders[kind])).encoder, TiktokenEncoder)


def test_a_tokenizer_survives_pickling(folders, kind):
    ours = read_tokenizer(str(folders[kind]))
    again = pickle.loads(pickle.dumps(ours))
    assert (again.name, again.fingerprint, again.overrides) == (ours.name, ours.fingerprint, ours.overrides)
    assert again.encode("the </s> fox") == ours.encode("the </s> fox")


def test_fingerprint_is_that_of_the_ids_not_of_the_file(folders, kind, tmp_path):
    ours = read_tokenizer(str(folders[kind]))
    AutoTokenizer.from_pretrained(folders[kind]).save_pretrained(tmp_path)
    assert read_tokenizer(str(tmp_path)).fingerprint == ours.fingerprint
    others = {name: read_tokenizer(str(folder)).fingerprint for name, folder in folders.items()}
    assert len(set(others.values())) == len(others)


def test_its_files_give_the_tokenizer_again(folders, kind, tmp_path):
    ours = read_tokenizer(str(folders[kind]))
    for name, content in ours.files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    config = TokenizerConfig("huggingface", ours.vocab_size, path="elsewhere")
    again = load_tokenizer(config, tmp_path)
    assert (again.fingerprint, again.eot_id, again.bos_id) == (ours.fingerprint, ours.eot_id, ours.bos_id)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
        ("tokenizer_config.json", {"eos_token": {"content": "<|endoftext|>", "lstrip": False}}),
        ("special_tokens_map.json", {"eos_token": "<|endoftext|>"}),
        ("special_tokens_map.json", {"eos_token": {"content": "<|endoftext|>"}}),
        ("config.json", {"eos_token_id": 0}),
        ("config.json", {"eos_token_id": [0, 5]}),
        ("generation_config.json", {"eos_token_id": 0}),
    ],
)
def test_end_of_text_is_found_in_each_file(tmp_path, file, content):
    folder = smollm(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    (folder / file).write_text(json.dumps(content))
    ours = read_tokenizer(str(folder / "tokenizer.json"))
    assert (ours.eot_id, ours.bos_id) == (0, 0)
    assert json.loads(ours.files["tokenizer_config.json"])["eos_token"] is not None


def error_of(path):
    with pytest.raises(UserError) as caught:
        read_tokenizer(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_end_of_text_is_an_error(tmp_path):
    folder = smollm(tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")
    assert "no end-of-text id: expected eos_token in tokenizer_config.json" in error_of(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<gone>"}))
    assert "'<gone>'" in error_of(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "BPE"}}', "\xff"])
def test_a_broken_file_is_an_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    message = error_of(tmp_path)
    assert message.startswith(f"tokenizer.path={tmp_path / 'tokenizer.json'}: ")


def test_a_missing_file_is_an_error(tmp_path):
    assert "expected a tokenizer.json or a directory that holds one" in error_of(tmp_path)
    assert "is missing" in error_of(tmp_path / "none.json")


def test_ids_that_stand_for_no_bytes_are_an_error(tmp_path):
    assert "its model is WordPiece with Whitespace" in error_of(bert(tmp_path))
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    words.save(str(tmp_path / "tokenizer.json"))
    assert "WordLevel with no decoder" in error_of(tmp_path)


def test_another_number_of_ids_than_configured_is_an_error(tmp_path):
    folder = smollm(tmp_path)
    ids = read_tokenizer(str(folder)).vocab_size
    with pytest.raises(UserError, match=rf"tokenizer\.vocab_size=9: .* has {ids} ids; leave tokenizer\.vocab_size out"):
        load_tokenizer(TokenizerConfig("huggingface", 9, str(folder)))


@pytest.mark.parametrize(
    "config", [{"name": "huggingface"}, {"name": "gpt2", "path": "x"}, {"name": "bpe", "path": "x"}]
)
def test_path_is_for_huggingface_alone(config):
    with pytest.raises(UserError, match=r"tokenizer\.path="):
        TokenizerConfig(**config)


def test_lengths_are_int64_for_every_id(folders, kind):
    ours = read_tokenizer(str(folders[kind]))
    assert (ours.token_lengths().dtype, ours.token_lengths().shape) == (np.int64, (ours.vocab_size,))


@pytest.mark.parametrize(("name", "begins_with_bos"), [("smollm", False), ("llama", True)])
def test_prompts_begin_with_bos_where_it_is_not_end_of_text(folders, name, begins_with_bos):
    ours = read_tokenizer(str(folders[name]))
    assert ours.encode_prompt("the fox") == [ours.bos_id] * begins_with_bos + ours.encode("the fox")
    assert ours.encode_prompt("") == [ours.bos_id]
