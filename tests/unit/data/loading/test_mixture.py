"""gpt2lab.data.loading.mixture and gpt2lab.data.inspection: several sets as one, and a set shown to people."""

import math
from collections import Counter

import numpy as np
import pytest

from gpt2lab.config import MixtureConfig, PrepareConfig, TextFilesConfig, UserError
from gpt2lab.data import (
    TokenStream,
    dataset_folder,
    describe_dataset,
    inspection,
    open_dataset,
    open_or_prepare,
    prepare,
    train_batches,
    validation_batches,
    verify,
)
from gpt2lab.tokenizers import load_tokenizer

BYTES = load_tokenizer("bytes")


@pytest.fixture
def mixture(tmp_path):
    """Two sets, of small and of capital letters, and their mixture."""
    sets = {}
    for name, word in (("small", "abc "), ("capital", "XYZ ")):
        (tmp_path / f"{name}.txt").write_text("|".join(word * (i % 9 + 1) + str(i) for i in range(200)))
        sets[name] = TextFilesConfig(
            min_document_bytes=0, name=name, root=str(tmp_path / "data"), files=[f"{tmp_path}/{name}.txt"],
            delimiter="|", val_fraction=0.2,
        )  # fmt: skip
        prepare(sets[name], PrepareConfig(shard_tokens=700), BYTES)
    data = MixtureConfig(name="both", root=str(tmp_path / "data"), mixture={"small": 3, "capital": 1})
    return data, sets


def tokens(data, manifest, folder, split):
    stream = TokenStream(folder, manifest, split)
    return stream.read(0, len(stream)).tolist()


def test_a_mixture_is_one_manifest_over_its_sets(mixture):
    data, sets = mixture
    folder, manifest = open_or_prepare(data, BYTES)
    assert open_dataset(data, BYTES)[1].fingerprint == manifest.fingerprint
    verify(folder, manifest)
    assert "nan" not in describe_dataset(folder, manifest, BYTES)
    parts = [open_or_prepare(one, BYTES) for one in sets.values()]
    for split in ("train", "val"):
        expected = [token for place, one in parts for token in tokens(data, one, place, split)]
        assert tokens(data, manifest, folder, split) == expected
        assert manifest.splits[split].tokens == len(expected)
    frequencies = Counter()
    for (place, one), share in zip(parts, (0.75, 0.25), strict=True):
        own = tokens(data, one, place, "val")
        for token, count in Counter(own).items():
            frequencies[token] += share * count / len(own)
    entropy = -sum(f * math.log(f) for f in frequencies.values())
    assert manifest.splits["val"].unigram_entropy == pytest.approx(entropy, rel=1e-12)


def test_batches_hold_the_shares_of_the_sets(mixture):
    data, _ = mixture
    folder, manifest = open_or_prepare(data, BYTES)
    batches = train_batches(data, folder, manifest, 100, 20, seed=0)
    inputs = np.concatenate([batches.batch(step).inputs_BT for step in range(10)])
    capital = ((inputs >= ord("A")) & (inputs <= ord("Z"))).any(axis=1)
    small = ((inputs >= ord("a")) & (inputs <= ord("z"))).any(axis=1)
    assert (small.sum(), capital.sum(), (small & capital).sum()) == (750, 250, 0)


@pytest.mark.parametrize("packing", ["windows", "documents"])
@pytest.mark.parametrize("max_tokens", [400, 10**6])
def test_validation_holds_the_shares_of_the_sets_whatever_their_size(mixture, packing, max_tokens):
    """The sets are of equal size, so windows over both splits in a row would be half of each."""
    data, _ = mixture
    data.packing = packing
    folder, manifest = open_or_prepare(data, BYTES)
    windows = validation_batches(data, folder, manifest, 20, max_tokens)
    batch = windows.batch(0, len(windows))
    capital = ((batch.inputs_BT >= ord("A")) & (batch.inputs_BT <= ord("Z"))).any(axis=1)
    small = ((batch.inputs_BT >= ord("a")) & (batch.inputs_BT <= ord("z"))).any(axis=1)
    assert not (small & capital).any()
    assert len({tuple(row) for row in batch.inputs_BT.tolist()}) > len(windows) / 2
    assert abs(capital.sum() / len(windows) - 0.25) <= 2 / len(windows)  # a row may hold digits alone
    assert sum(share for _, share in windows.sequences.parts) == 1


def test_the_fingerprint_follows_sets_and_weights(mixture):
    data, _ = mixture
    fingerprints = [open_or_prepare(data, BYTES)[1].fingerprint]
    for weights in ({"small": 3, "capital": 2}, {"small": 1}, {"small": 6, "capital": 2}):
        data.mixture = weights
        fingerprints.append(open_or_prepare(data, BYTES)[1].fingerprint)
    assert fingerprints[0] == fingerprints[3]
    assert len(set(fingerprints)) == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"small": 1, "large": 1}, r"data/large/bytes: expected a prepared dataset, found no manifest"),
        ({"small": 1, "capital": 1e-9}, r"data\.mixture\.capital=1e-09: expected at least a share"),
    ],
)
def test_what_is_no_mixture_is_one_line(mixture, weights, message):
    data, _ = mixture
    data.mixture = weights
    with pytest.raises(UserError, match=message) as error:
        open_or_prepare(data, BYTES)
    assert "\n" not in str(error.value)


def test_a_dataset_of_a_mixture_that_is_too_small_is_named(mixture):
    data, sets = mixture
    folder, manifest = open_or_prepare(data, BYTES)
    shortest = min(sets, key=lambda name: open_or_prepare(sets[name], BYTES)[1].splits["val"].tokens)
    tokens = open_or_prepare(sets[shortest], BYTES)[1].splits["val"].tokens
    message = rf"sequence_length={tokens}: the val split of .*{shortest}/bytes has {tokens} tokens, expected at least"
    with pytest.raises(UserError, match=message):
        validation_batches(data, folder, manifest, tokens, 10**6)


def test_a_mixture_is_not_prepared_itself(mixture):
    with pytest.raises(UserError, match="data=mixture: expected one dataset: prepare those of the mixture one by one"):
        prepare(mixture[0], PrepareConfig(), BYTES)


@pytest.mark.parametrize("packing", ["windows", "documents"])
def test_packing_is_a_setting(mixture, packing):
    data = mixture[1]["small"]
    data.packing, data.document_masking = packing, True
    folder, manifest = open_or_prepare(data, BYTES)
    batch = train_batches(data, folder, manifest, 8, 50, seed=0).batch(0)
    assert (batch.targets_BT == -100).any() == (packing == "documents")
    assert batch.pos_BT.max() < 50
    whole = validation_batches(data, folder, manifest, 50, 10**6)
    scored = sum(int((whole.batch(i, i + 1).targets_BT != -100).sum()) for i in range(len(whole)))
    tokens_left = manifest.splits["val"].tokens - 1
    assert scored == (tokens_left if packing == "documents" else tokens_left // 50 * 50)


def test_an_unknown_packing_is_named(mixture):
    data = mixture[1]["small"]
    data.packing = "document"
    with pytest.raises(UserError, match=r"data\.packing=document: expected one of windows, documents; did you mean"):
        train_batches(data, *open_or_prepare(data, BYTES), 8, 50, seed=0)


def test_inspect_says_how_many_tokens_it_counted(mixture, monkeypatch):
    monkeypatch.setattr(inspection, "COUNTED_TOKENS", 3)
    shown = describe_dataset(*open_or_prepare(mixture[0], BYTES), BYTES)
    assert "most frequent of the first 3 tokens: " in shown


def test_inspect_shows_counts_lengths_and_documents(tmp_path):
    texts = ["a" * 10, "b" * 20, "c" * 30, "d" * 40]
    (tmp_path / "a.txt").write_text("|".join([*texts, "", *(f"{i:05}" for i in range(400))]))
    data = TextFilesConfig(
        min_document_bytes=0, root=str(tmp_path), files=[f"{tmp_path}/a.txt"], delimiter="|", val_fraction=0.005
    )
    manifest = prepare(data, PrepareConfig(), BYTES)
    assert manifest.splits["val"].documents == 2
    shown = describe_dataset(dataset_folder(data, BYTES), manifest, BYTES)
    train = manifest.splits["train"]
    assert f"train: {train.tokens:,} tokens, {train.documents:,} documents, {train.bytes:,} bytes in 1 shards" in shown
    assert "1.00 bytes per token" in shown
    assert "left out: 1 documents (empty)" in shown
    assert "tokens per document: 5 to 40, quartiles 5 / 5 / 5" in shown
    assert "(10 tokens): 'aaaaaaaaaa'" in shown
    described = [line for line in shown.splitlines() if line.startswith("  document ")]
    assert len(described) == 3 + 2
    zeros = sum(text.count("0") for text in (f"{i:05}" for i in range(400)))
    assert abs(float(shown.split("most frequent: '0' ")[1].split("%")[0]) / 100 - zeros / 2504) < 0.01
