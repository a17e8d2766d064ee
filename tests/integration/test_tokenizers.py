"""Tokenizers beside the built-in ones, by the commands: trained with the dataset, carried with the run, exported."""

import hashlib
import json
import shutil

import pytest
from transformers import AutoTokenizer

from gpt2lab import load_model
from tests import tokenizer_files
from tests.integration.conftest import TINY

WITHOUT_TOKENIZER = [override for override in TINY if not override.startswith("tokenizer=")]
BPE = ["tokenizer=bpe", "tokenizer.vocab_size=600"]


def test_a_trained_bpe_goes_with_the_dataset_the_run_and_the_export(run, workplace):
    run("train.py", *WITHOUT_TOKENIZER, *BPE, "run_dir=run", "training.max_steps=2", "data.val_fraction=0.3")
    dataset = workplace / "data" / "library" / "bpe_600"
    manifest = json.loads((dataset / "manifest.json").read_text())
    for name, sha256 in manifest["tokenizer_files"].items():
        assert hashlib.sha256((dataset / name).read_bytes()).hexdigest() == sha256
    assert (manifest["vocab_size"], manifest["eot_id"]) == (600, 599)
    checkpoint = workplace / "run" / "checkpoints" / "last"
    assert (checkpoint / "tokenizer.json").read_bytes() == (dataset / "tokenizer.json").read_bytes()

    run("eval.py", "checkpoint=run")  # the validation split
    summary, record = (json.loads((workplace / "run" / name).read_text()) for name in ("summary.json", "eval.json"))
    assert find(record, "bits_per_byte") == pytest.approx(summary["val_bits_per_byte"], rel=0.2)

    shutil.rmtree(workplace / "data")
    (workplace / "text.txt").write_text("import argparse\n\nparser = argparse.ArgumentParser()\n")
    run("export.py", "checkpoint=run", "out=exports/run")
    texts, metrics = [], []
    for where in ("run", "exports/run"):
        texts.append(run("sample.py", f"checkpoint={where}", "prompt=def ", "sampling.max_new_tokens=20").stdout)
        run("eval.py", f"checkpoint={where}", "eval.text_file=text.txt", "out=text.json")
        record = json.loads((workplace / "text.json").read_text())
        metrics.append((find(record, "bits_per_byte"), find(record, "tokens")))
    assert texts[0] == texts[1]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-9)
    theirs = AutoTokenizer.from_pretrained(workplace / "exports" / "run")
    text = (workplace / "argparse.py").read_text()
    assert theirs(text)["input_ids"] == load_model(workplace / "run", device="cpu").tokenizer.encode(text)


def test_a_run_with_a_hugging_face_tokenizer_needs_the_file_no_more(run, workplace):
    tokenizer_files.smollm(workplace / "foreign")
    settings = ["tokenizer=huggingface", "tokenizer.path=foreign", "run_dir=run", "training.max_steps=2"]
    run("train.py", *WITHOUT_TOKENIZER, *settings)
    shutil.rmtree(workplace / "foreign")
    run("sample.py", "checkpoint=run", "prompt=def ", "sampling.max_new_tokens=5")
    run("export.py", "checkpoint=run", "out=exports/run")
    run("sample.py", "checkpoint=exports/run", "prompt=def ", "sampling.max_new_tokens=5")


def find(record, key):
    """The first value under a key, however deep."""
    if isinstance(record, dict) and key in record:
        return record[key]
    parts = record.values() if isinstance(record, dict) else record if isinstance(record, list) else ()
    return next((value for part in parts if (value := find(part, key)) is not None), None)
