"""A trained BPE: ids against the library, the same bytes on every run, and through transformers and back."""

import hashlib
import itertools
import json
import os
import pickle
import random
import subprocess
import sys

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gpt2lab.config import TokenizerConfig, UserError
from gpt2lab.tokenizers import UntrainedBPE, load_tokenizer, open_tokenizer, read_tokenizer
from gpt2lab.tokenizers.bpe import cut_long_words
from gpt2lab.tokenizers.byte_level import TiktokenEncoder, byte_characters, piece_bytes
from gpt2lab.tokenizers.hugging_face import LibraryEncoder
from gpt2lab.weights.new_folder import write_tokenizer
from tests.tokenizer_files import CORPUS, mixed_text

VOCAB_SIZE = 320
TRAIN = f"""
import hashlib
from gpt2lab.tokenizers import UntrainedBPE
from tests.tokenizer_files import CORPUS
files = UntrainedBPE({VOCAB_SIZE}).train(CORPUS[::DIRECTION]).files
print(hashlib.sha256("".join(files.values()).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def trained():
    return UntrainedBPE(VOCAB_SIZE).train(CORPUS)


def library_of(tokenizer):
    library = Tokenizer.from_str(tokenizer.files["tokenizer.json"])
    library.encode_special_tokens = True
    return library


def test_ids_equal_those_of_the_library_on_a_megabyte_of_every_plane(trained):
    text = mixed_text(random.Random(0), 1_000_000)
    assert {ord(character) >> 16 for character in text} == set(range(17))
    ids = trained.encode_array(text)
    assert isinstance(trained.encoder, TiktokenEncoder)
    assert ids.tolist() == library_of(trained).encode(text, add_special_tokens=False).ids
    assert trained.token_lengths()[ids].sum() == len(text.encode("utf-8"))
    assert trained.decode_bytes(ids.tolist()) == text.encode("utf-8")


def test_merges_are_the_most_frequent_pairs():
    """Against the algorithm of Sennrich et al. 2016, written out: count, merge the most frequent pair, repeat."""
    words = "low low low low low lower lower newest newest newest newest newest newest widest widest widest"
    trained = UntrainedBPE(256 + 1 + 6).train([words])
    pieces = [
        [bytes([byte]) for byte in word.encode()] for word in ["low", *(f" {word}" for word in words.split()[1:])]
    ]
    expected = []
    for _ in range(6):
        counts = {}
        for word in pieces:
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts.values())
        merge = trained.id_bytes(256 + len(expected))
        pair = next(pair for pair, count in counts.items() if count == best and b"".join(pair) == merge)
        expected.append(merge)
        for i, word in enumerate(pieces):
            joined = []
            for piece in word:
                if joined and (joined[-1], piece) == pair:
                    joined[-1] += piece
                else:
                    joined.append(piece)
            pieces[i] = joined
    assert b"est" in expected


@pytest.mark.parametrize(("threads", "direction"), [("1", 1), ("2", 1), ("1", -1)])
def test_files_are_the_same_for_any_threads_and_order_of_documents(trained, threads, direction):
    expected = hashlib.sha256("".join(trained.files.values()).encode()).hexdigest()
    run = subprocess.run(
        [sys.executable, "-c", TRAIN.replace("DIRECTION", str(direction))],
        env=os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": str(threads != "1").lower()},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == expected


def test_ids_are_numbered_as_gpt2s(trained):
    """256 bytes, the merges, end-of-text."""
    assert [trained.id_bytes(token) for token in range(256)] == [bytes([byte]) for byte in byte_characters()]
    assert (trained.vocab_size, trained.eot_id, trained.bos_id) == (VOCAB_SIZE, VOCAB_SIZE - 1, VOCAB_SIZE - 1)
    assert trained.decode([trained.eot_id]) == "<|endoftext|>"
    assert trained.token_lengths()[trained.eot_id] == 0
    assert all(len(trained.id_bytes(token)) >= 2 for token in range(256, VOCAB_SIZE - 1))


def test_end_of_text_in_a_text_is_text(trained):
    text = "one<|endoftext|>two"
    assert trained.eot_id not in trained.encode(text)
    assert trained.decode(trained.encode(text)) == text


def test_a_text_of_few_pairs_is_refused_with_the_number_of_ids_it_has():
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size=400: .* pairs for (\d+) ids only: type") as caught:
        UntrainedBPE(400).train(["ab ab ab"])
    found = int(str(caught.value).split("pairs for ")[1].split(" ")[0])
    assert f"type tokenizer.vocab_size={found} or fewer, or take more text" in str(caught.value)
    assert UntrainedBPE(found).train(["ab ab ab"]).vocab_size == found


def test_a_text_without_a_frequent_pair_is_not_told_a_number_that_is_refused():
    with pytest.raises(UserError, match=r"has pairs for 257 ids only: lower data.val_fraction, or take more text$"):
        UntrainedBPE(400).train(["ab"])


def test_long_words_are_cut_and_others_are_not(monkeypatch):
    """A word of one letter has the pairs of its parts, of 8 letters and fewer."""
    monkeypatch.setattr("gpt2lab.tokenizers.bpe.WORD_CHARACTERS", 4)
    assert cut_long_words("abcd efgh, 12ab==日x\n\n\n  ") == ["abcd efgh, 12ab==日x\n\n\n  "]
    for character in "a日1=_ \n":
        parts = cut_long_words(character * 50)
        assert "".join(parts) == character * 50
        assert max(map(len, parts)) < 8
    with pytest.raises(UserError, match="has pairs for 259 ids only"):  # aa and aaaa
        UntrainedBPE(400).train(["a" * 64])


@pytest.mark.parametrize("vocab_size", [0, 257])
def test_fewer_ids_than_bytes_are_refused(vocab_size):
    with pytest.raises(UserError, match=rf"tokenizer\.vocab_size={vocab_size}: expected at least 258"):
        TokenizerConfig("bpe", vocab_size)


def test_only_the_first_bytes_of_a_large_split_are_read(monkeypatch, trained):
    monkeypatch.setattr("gpt2lab.tokenizers.bpe.TRAINING_BYTES", sum(len(text.encode()) for text in CORPUS))

    def documents():
        yield from CORPUS
        pytest.fail("a document beyond the limit was asked for")

    assert UntrainedBPE(VOCAB_SIZE).train(documents()).fingerprint == trained.fingerprint


def test_saved_files_give_the_tokenizer_again(trained, tmp_path):
    config = TokenizerConfig("bpe", VOCAB_SIZE)
    with pytest.raises(UserError, match=r"tokenizer=bpe: .*tokenizer\.json is missing; .* type .* prepare"):
        load_tokenizer(config, tmp_path)
    for name, content in trained.files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    again = load_tokenizer(config, tmp_path)
    assert (again.name, again.fingerprint) == ("bpe_320", trained.fingerprint)
    assert again.overrides == ("tokenizer=bpe", "tokenizer.vocab_size=320")
    assert again.files == trained.files
    assert pickle.loads(pickle.dumps(again)).encode("the fox") == trained.encode("the fox")


def test_the_untrained_one_has_the_name_and_overrides_of_the_trained(trained):
    untrained = open_tokenizer(TokenizerConfig("bpe", VOCAB_SIZE))
    assert isinstance(untrained, UntrainedBPE)
    assert (untrained.name, untrained.overrides) == (trained.name, trained.overrides)


def test_transformers_gives_the_same_ids_and_saves_the_same_tokenizer(trained, tmp_path):
    (tmp_path / "out").mkdir()
    write_tokenizer(trained, tmp_path / "out", 64)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = mixed_text(random.Random(1), 50_000).replace("<|endoftext|>", "")
    assert theirs(text)["input_ids"] == trained.encode(text)
    assert (theirs.eos_token_id, theirs.bos_token_id, len(theirs)) == (trained.eot_id, trained.eot_id, VOCAB_SIZE)
    assert theirs.model_max_length == 64
    theirs.save_pretrained(tmp_path / "again")
    assert read_tokenizer(str(tmp_path / "again")).fingerprint == trained.fingerprint


def changed(tokenizer, change):
    """The tokenizer after a change of its tokenizer.json."""
    values = json.loads(tokenizer.files["tokenizer.json"])
    change(values)
    return read_files({**tokenizer.files, "tokenizer.json": json.dumps(values)})


def read_files(files):
    from gpt2lab.tokenizers import HuggingFaceTokenizer

    return HuggingFaceTokenizer(files)


def add_pair_for_an_existing_piece(values):
    merges, vocabulary = values["model"]["merges"], values["model"]["vocab"]
    splits = [(piece[:i], piece[i:]) for piece in vocabulary for i in range(1, len(piece))]
    merges.append(
        next(f"{a} {b}" for a, b in splits if a in vocabulary and b in vocabulary and f"{a} {b}" not in merges)
    )


def reverse_two_merges(values):
    merges = values["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def drop_a_merge(values):
    del values["model"]["merges"][0]


def number_pieces_anew(values):
    vocabulary = values["model"]["vocab"]
    first, second = "".join(values["model"]["merges"][0].split()), "".join(values["model"]["merges"][1].split())
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


@pytest.mark.parametrize(
    "change", [add_pair_for_an_existing_piece, reverse_two_merges, drop_a_merge, number_pieces_anew]
)
def test_tiktoken_is_left_out_where_it_might_give_other_ids(trained, change):
    other = changed(trained, change)
    assert isinstance(other.encoder, LibraryEncoder)
    text = " ".join(CORPUS)
    assert other.encode(text) == library_of(other).encode(text, add_special_tokens=False).ids


def test_piece_bytes_is_the_inverse_of_the_printable_form():
    assert piece_bytes("".join(byte_characters().values())) == bytes(byte_characters())
    with pytest.raises(UnicodeEncodeError):
        piece_bytes("日")
