"""Corpora: what files of each format hold, and what is said when they cannot be read or fetched."""

import hashlib
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest

from gpt2lab.cli.compose import CONFIG_DIR, compose_config
from gpt2lab.config import CorpusConfig, EvalConfig, PrepareConfig, TextFilesConfig, UserError
from gpt2lab.data import prepare
from gpt2lab.evaluation.corpora.detokenize import DETOKENIZERS
from gpt2lab.evaluation.corpora.formats import CORPUS_FORMATS, Corpus, Document, open_corpus
from gpt2lab.evaluation.corpora.reading import HubDatasetRef, fetch_rows, read_json_lines, read_utf8
from gpt2lab.evaluation.perplexity.protocols import PROTOCOLS
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import TrainedOn

ANYONE = SimpleNamespace()


def stream_of(corpus, tokenizer):
    return PROTOCOLS["stream"]().plan(corpus, tokenizer, 1024, None, str)


def file_corpus(path, content, format="text", **settings):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_corpus(CorpusConfig(name="it", format=format, file=str(path), **settings), ANYONE)


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
def test_a_text_file(tmp_path, name):
    tokenizer = load_tokenizer(name)
    text = "naïve — 東京 two\r\nlines\n\n🙂 end"
    corpus = file_corpus(tmp_path / "t.txt", text)
    plan = stream_of(corpus, tokenizer)
    assert plan.tokens_n[0] == tokenizer.eot_id
    assert tokenizer.decode(plan.tokens_n[1:].tolist()) == text
    assert plan.bytes_D.tolist() == [len(text.encode())]
    assert plan.words_D.tolist() == [7]
    assert corpus.description["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert "split" not in corpus.description


def test_a_byte_order_mark_is_no_text(tmp_path):
    corpus = file_corpus(tmp_path / "t.txt", "\ufeffab")
    assert stream_of(corpus, load_tokenizer("bytes")).tokens_n.tolist() == [256, *b"ab"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b" \n", "but white space"),
        (b"ab\xff", "byte 2 is not"),
    ],
)
def test_a_file_that_is_no_text(tmp_path, content, message):
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_corpus(CorpusConfig(format="text", file=str(tmp_path / "t.txt")), ANYONE)
    with pytest.raises(UserError, match=r": a folder; expected a UTF-8 text"):
        open_corpus(CorpusConfig(format="text", file=str(tmp_path)), ANYONE)


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
def test_a_validation_split(tmp_path, name):
    documents = ["\n".join([f"document {i} has é words"] * (i % 3 + 1)) for i in range(300)]  # end within a word
    (tmp_path / "t.txt").write_text("\x00".join(documents))
    data = TextFilesConfig(min_document_bytes=0, root=str(tmp_path), files=[str(tmp_path / "t.txt")], delimiter="\x00")
    tokenizer = load_tokenizer(name)
    manifest = prepare(data, PrepareConfig(), tokenizer)
    source = SimpleNamespace(trained_on=TrainedOn(data, manifest.fingerprint), describe=lambda: "it")
    corpus = open_corpus(CorpusConfig(), SimpleNamespace(source=source, tokenizer=tokenizer))
    plan = stream_of(corpus, tokenizer)
    texts = tokenizer.decode(plan.tokens_n.tolist()).split("<|endoftext|>")[1:]
    assert texts == [document.text for document in corpus.documents]
    assert 0 < len(texts) == manifest.splits["val"].documents
    assert set(texts) <= set(documents)
    assert plan.words_D.tolist() == [len(document.split()) for document in texts]
    assert plan.bytes_D.sum() == manifest.splits["val"].bytes
    source.trained_on = TrainedOn(data, "0" * 64)
    with pytest.raises(UserError, match="may hold training text"):
        open_corpus(CorpusConfig(), SimpleNamespace(source=source, tokenizer=tokenizer))


WIKI = " \n = First = \n \n Some text . \n \n = = Part = = \n \n More . \n = Second = \n \n Other , text . \n"


def test_articles_of_wikitext(tmp_path):
    corpus = file_corpus(tmp_path / "wiki.test.raw", WIKI, "wikitext")
    pages, lines = [], []  # as in EleutherAI/wikitext_document_level
    for line in WIKI.split("\n"):
        merged = line.replace("= = =", "===").replace("= =", "==").strip()
        if merged.startswith("= ") and merged.strip().endswith(" ="):
            if "\n".join(lines).strip():
                pages.append("\n".join(lines))
            lines = []
        lines.append(line)
    pages.append("\n".join(lines))
    assert [document.text for document in corpus.documents] == pages
    assert len(pages) == 2
    hub = [line + "\n" if line.strip() else "" for line in WIKI.split("\n")[:-1]]  # as in Salesforce/wikitext
    assert [row for document in corpus.documents for row in document.rows] == hub

    rows = "".join(json.dumps({"text": row}) + "\n" for row in hub)
    again = file_corpus(tmp_path / "rows.jsonl", rows, "wikitext")
    assert again.documents == corpus.documents


def test_sentences_of_ptb_are_one_text(tmp_path):
    corpus = file_corpus(tmp_path / "ptb.test.txt", " no it was n't \n but N \n", "lines")
    (document,) = corpus.documents
    assert (document.text, document.rows) == ("no it was n't\nbut N", ["no it was n't", "but N"])


def test_a_part_of_a_file_has_whole_characters(tmp_path):
    text = "aé東🙂" * 3
    content = text.encode()
    (tmp_path / "t").write_bytes(content)
    for first in range(1, len(content)):
        for last in range(first + 1, len(content) + 1):
            inside = "".join(
                character
                for i, character in enumerate(text)
                if len(text[:i].encode()) >= first and len(text[: i + 1].encode()) <= last
            )
            if inside:
                assert read_utf8(tmp_path / "t", first, last) == inside.encode()
    with pytest.raises(UserError, match="first_byte=0"):
        read_utf8(tmp_path / "t", len(content))
    with pytest.raises(UserError, match=f"last_byte={len(content) + 1} is beyond them"):
        read_utf8(tmp_path / "t", 0, len(content) + 1)


@pytest.mark.parametrize(("key", "value"), [("first_byte", 5), ("last_byte", 5)])
def test_no_part_of_rows(tmp_path, key, value):
    (tmp_path / "t.jsonl").write_text('{"text": "good"}\n')
    for source in ({"file": str(tmp_path / "t.jsonl")}, {"hub_path": "ORG/NAME"}):
        with pytest.raises(UserError, match=rf"eval.corpus.{key}=5: .* has rows, of which all are scored; expected"):
            open_corpus(CorpusConfig("it", "documents", **source, **{key: value}), ANYONE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ('{"txt": "a"}', "line 2 has no field text"),
        ("[1]", "line 2 has no field text"),
        ('{"text": 5}', "field text is 5"),
        (r'{"text": "\ud800"}', "expected text in Unicode"),
    ],
)
def test_rows_that_are_none(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        file_corpus(tmp_path / "t.jsonl", '{"text": "good"}\n' + line, "documents")


def test_rows_without_text(tmp_path):
    with pytest.raises(UserError, match="expected text, there is none"):
        file_corpus(tmp_path / "t.jsonl", '{"text": " "}', "documents")


def test_limits(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n{"b": 3}\n')
    assert list(read_json_lines(tmp_path / "t.jsonl", ("a",), limit=2)) == [{"a": 1}, {"a": 2}]


def test_rows_of_the_hub(monkeypatch):
    asked = []

    def load(*arguments, **options):
        asked.append((arguments, options))
        return datasets.Dataset.from_dict({"text": ["a b", "c"], "more": [1, 2]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    place = HubDatasetRef("ORG/NAME", "sub", "abc", "test")
    assert fetch_rows(place, ("text",), "...", limit=1) == [{"text": "a b"}]
    assert asked == [(("ORG/NAME", "sub"), {"split": "test", "revision": "abc"})]
    with pytest.raises(UserError, match="has no column page, only text, more: do this"):
        fetch_rows(place, ("page",), "do this")
    corpus = open_corpus(CorpusConfig(name="x", format="documents", hub_path="ORG/NAME"), ANYONE)
    assert [document.text for document in corpus.documents] == ["a b", "c"]
    assert corpus.description["split"] == "test"


def test_no_network(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    config = CorpusConfig(name="x", format="documents", hub_path="ORG/NAME", get="x.txt of Y")
    with pytest.raises(UserError, match="fetch x.txt of Y and type eval.corpus.file=FILE") as error:
        open_corpus(config, ANYONE)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="eval/corpus=enwik8: fetch it and type eval.corpus.file=FILE"):
        open_corpus(CorpusConfig(name="enwik8", format="text", get="it"), ANYONE)


@pytest.mark.parametrize("file", sorted((CONFIG_DIR / "eval" / "corpus").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_files_of_the_group(file):
    corpus = compose_config("eval", [f"eval/corpus={file.stem}"]).eval.corpus
    assert corpus.name == file.stem
    assert corpus.format in CORPUS_FORMATS
    assert corpus.detokenizer in DETOKENIZERS
    assert corpus.get or file.stem in ("text_file", "validation_split")


def test_two_texts_at_once():
    with pytest.raises(UserError, match="eval.corpus.file=a.txt"):
        EvalConfig(text_file="a.txt", corpus=CorpusConfig(name="ptb"))


def test_stored_ids_are_taken_as_they_are():
    """No text need encode to the ids that a set was made of."""
    odd = np.array([ord("a"), 0xFF, ord("b")], dtype=np.uint16)
    plan = stream_of(Corpus([Document("a\ufffdb".encode(), tokens=odd)], "", {}), load_tokenizer("bytes"))
    assert plan.tokens_n.tolist() == [256, ord("a"), 0xFF, ord("b")]
