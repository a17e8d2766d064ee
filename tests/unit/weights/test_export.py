"""Export: which models have a place, what the tokenizer files say, and that nothing half-written is left."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt2lab.commands.exporting import export
from gpt2lab.config import ExportJob, UserError
from gpt2lab.evaluation.model_card import model_card
from gpt2lab.locks import locked
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.positions import POSITIONS
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import EXPORT_FORMATS, check_free, find_stored_model, open_model, save_pretrained
from gpt2lab.weights.new_folder import write_tokenizer
from tests.hugging_face import gpt2, llama

CPU = torch.device("cpu")
BYTES = {"vocab_size": 257}


def refusals(model, folder):
    """The settings that each architecture lacks, by architecture, out of the one line of the error."""
    with pytest.raises(UserError) as caught:
        save_pretrained(model, load_tokenizer("bytes"), folder)
    message = str(caught.value)
    assert "\n" not in message
    assert list(folder.parent.iterdir()) == []
    reasons = message.partition("settings: ")[2].split("; ")
    return {name: settings.split(", ") for name, settings in (reason.split(" does not have ") for reason in reasons)}


@pytest.mark.parametrize(
    ("shape", "gpt2", "gpt_neox", "llama"),
    [
        (
            {"bias": False},
            ["model.bias=false"],
            ["model/positions=learned", "model.bias=false"],
            ["model/positions=learned", "model/norm=layernorm", "model/mlp=gelu"],
        ),
        ({"qk_norm": True}, ["model.qk_norm=true"], ["model.qk_norm=true"], ["model.qk_norm=true"]),
        ({"n_kv_head": 1}, ["model.n_kv_head=1"], ["model.n_kv_head=1"], ["model.bias=true"]),
        ({"norm": "rmsnorm"}, ["model/norm=rmsnorm"], ["model/norm=rmsnorm"], ["model/positions=learned"]),
        ({"mlp": "swiglu"}, ["model/mlp=swiglu"], ["model/mlp=swiglu"], ["model/norm=layernorm"]),
        (
            {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu"},
            ["model/positions=rope", "model/norm=rmsnorm", "model/mlp=swiglu"],
            ["model/norm=rmsnorm", "model/mlp=swiglu"],
            ["model.bias=true"],
        ),
        (
            {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "qk_norm": True},
            ["model.bias=false"],
            ["model.bias=false"],
            ["model.qk_norm=true"],
        ),
        *(
            ({"positions": name}, [f"model/positions={name}"], [f"model/positions={name}"], ["model/norm=layernorm"])
            for name in POSITIONS
            if name not in ("learned", "rope")
        ),
        *(
            (
                {"positions": "rope", "norm": "rmsnorm", "bias": False, "mlp": name},
                ["model/positions=rope"],
                ["model/norm=rmsnorm"],
                [f"model/mlp={name}"],
            )
            for name in MLPS
            if name != "swiglu"
        ),
    ],
)
def test_save_pretrained_names_the_settings_each_architecture_lacks(tiny_model, tmp_path, shape, gpt2, gpt_neox, llama):
    found = refusals(tiny_model(**BYTES, **shape), tmp_path / "out")
    for name, expected in (("GPT-2", gpt2), ("GPT-NeoX", gpt_neox), ("Llama", llama)):
        assert set(expected) <= set(found[name])


def test_save_pretrained_names_the_rotated_fraction_that_llama_lacks(tiny_model, tmp_path):
    model = tiny_model(**BYTES, positions="rope", norm="rmsnorm", mlp="swiglu", bias=False)
    model.config.positions.rope_fraction = 0.5
    assert refusals(model, tmp_path / "out")["Llama"] == ["model.positions.rope_fraction=0.5"]


def test_a_folder_in_use_is_left_alone(tiny_model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="already exists"):
            check_free(taken)
        with pytest.raises(UserError, match="already exists"):
            save_pretrained(tiny_model(**BYTES), load_tokenizer("bytes"), taken)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_stays_the_same_folder_and_becomes_a_model_last(tiny_model, tmp_path, monkeypatch):
    """It may be a mount point, which cannot be replaced, or the current folder of the user's shell."""
    empty, moved = tmp_path / "empty", []
    empty.mkdir()
    before = empty.stat().st_ino
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, target: moved.append(Path(target).name) or rename(path, target))
    save_pretrained(tiny_model(**BYTES), load_tokenizer("bytes"), empty, card="a card")
    assert empty.stat().st_ino == before
    assert sorted(path.name for path in empty.iterdir()) == sorted(moved)
    assert moved[-1] == "config.json"
    assert {"README.md", "model.safetensors", "tokenizer.json"} < set(moved)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_exported_directory_tells_how_its_model_was_trained(tiny_model, tmp_path):
    """Without it, an evaluation would give the model windows such as it never saw. ``transformers`` keeps the keys."""
    model, tokenizer = tiny_model(**BYTES), load_tokenizer("bytes")
    for trained_with in ({}, {"gpt2lab_sequence_length": 8, "gpt2lab_document_masking": True}):
        folder = tmp_path / str(len(trained_with))
        save_pretrained(model, tokenizer, folder, trained_with=trained_with)
        AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)
        stored = find_stored_model(str(folder), "checkpoint")
        assert (stored.context, stored.document_masking) == ((8, True) if trained_with else (12, False))
        assert stored.trained_with() == trained_with
        assert ("one document at a time" in model_card(stored, "x", 1, "transformers")) == bool(trained_with)
        assert ("context 12 tokens, trained on sequences of 8," in model_card(stored, "x", 1, "y")) == bool(
            trained_with
        )


@pytest.mark.parametrize("name", EXPORT_FORMATS)
def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tiny_model, tmp_path, name):
    """``transformers`` would end with an index error at the first text that has such an id."""
    with pytest.raises(UserError, match=r"^tokenizer=bytes: has 257 ids, model.vocab_size=256; expected the tokenizer"):
        EXPORT_FORMATS[name].save(tiny_model(vocab_size=256), load_tokenizer("bytes"), tmp_path / "out", None, {})
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_export_are_removed_by_the_next_one(tiny_model, tmp_path):
    (tmp_path / "empty").mkdir()
    killed = [tmp_path / "out.0a1b2c.tmp", tmp_path / "empty" / ".0a1b2c.tmp"]
    others = [tmp_path / "out.0a1b2d.tmp", tmp_path / "out.mine.tmp", tmp_path / "about.0a1b2c.tmp"]
    for folder in (*killed, *others):
        folder.mkdir()
        (folder / "model.safetensors").write_text("half of it")
    with locked(others[0], "no other process"):
        save_pretrained(tiny_model(**BYTES), load_tokenizer("bytes"), tmp_path / "out")
        save_pretrained(tiny_model(**BYTES), load_tokenizer("bytes"), tmp_path / "empty")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "out", tmp_path / "empty", *others])
    assert (tmp_path / "empty" / "config.json").is_file()


def test_the_card_of_an_export_into_the_current_folder_has_its_name(tmp_path, monkeypatch):
    gpt2(vocab_size=257, n_layer=1).save_pretrained(tmp_path / "model")
    write_tokenizer(load_tokenizer("bytes"), tmp_path / "model", 12)
    (tmp_path / "exported").mkdir()
    monkeypatch.chdir(tmp_path / "exported")
    export(ExportJob(checkpoint="../model", out="."))
    assert "\n# exported\n" in Path("README.md").read_text()


def test_a_failure_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("save_file", "write_tokenizer"):
        with monkeypatch.context() as patch:
            patch.setattr(f"gpt2lab.weights.export.{name}", full)
            with pytest.raises(UserError, match="No space"):
                save_pretrained(tiny_model(**BYTES), load_tokenizer("bytes"), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


def test_a_folder_below_others_that_are_yet_to_be_made(tiny_model, tmp_path):
    save_pretrained(tiny_model(**BYTES), load_tokenizer("bytes"), tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def theirs(request, tmp_path_factory):
    """What AutoTokenizer makes of the files, by tokenizer; the model beside them takes part in choosing the class."""
    tokenizers = {}
    for name in ("gpt2", "bytes"):
        folder = tmp_path_factory.mktemp(name)
        write_tokenizer(load_tokenizer(name), folder, 1024)
        (folder / "config.json").write_text(json.dumps({"model_type": request.param}))
        tokenizers[name] = AutoTokenizer.from_pretrained(folder)
    return tokenizers


TEXTS = [
    "Hello, I'm a language model,",
    "  two  spaces\n\n\ttabs and\r\nlines  ",
    "don't we'll they've I'd it's",
    "naïve café, 漢字, Ελληνικά, \U0001f600\u200d\U0001f525, e\u0301, \u00a0\u2028 \x00\x1f\x7f",
    "1234567 3.14 x_1 == y**2;",
    "",
    " ",
]


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
@pytest.mark.parametrize("text", TEXTS)
def test_auto_tokenizer_gives_our_ids(theirs, name, text):
    ours = load_tokenizer(name)
    assert theirs[name](text)["input_ids"] == ours.encode(text)
    assert theirs[name].decode(ours.encode(text)) == text


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=60))
def test_auto_tokenizer_gives_our_ids_for_any_text(theirs, name, text):
    ids = load_tokenizer(name).encode(text)
    assert theirs[name].encode(text) == ids
    assert theirs[name].decode(ids) == text


@pytest.mark.parametrize("name", ["gpt2", "bytes"])
def test_end_of_text(theirs, name):
    ours, tokenizer = load_tokenizer(name), theirs[name]
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == ours.eot_id
    assert tokenizer.encode("a<|endoftext|>b") == [*ours.encode("a"), ours.eot_id, *ours.encode("b")]
    assert tokenizer.decode([*ours.encode("a"), ours.eot_id], skip_special_tokens=True) == "a"
    assert len(tokenizer) == ours.vocab_size
    assert tokenizer.model_max_length == 1024


@pytest.mark.parametrize("make", [gpt2, llama])
def test_ids_are_recognized_by_number_or_by_their_files(make, tmp_path):
    """50,257 rows without tokenizer files are GPT-2's; with files, these decide, and further rows are cut off."""
    rows = {"gpt2": 50_257, "bytes": 257}
    for name, vocab_size in (("plain", 50_257), ("padded", 50_304), ("bytes", 320), ("foreign", 50_257)):
        make(vocab_size=vocab_size).save_pretrained(tmp_path / name)
    write_tokenizer(load_tokenizer("gpt2"), tmp_path / "padded", 12)
    write_tokenizer(load_tokenizer("bytes"), tmp_path / "bytes", 12)
    foreign = {f"piece {i}": i for i in range(50_257)}
    (tmp_path / "foreign" / "vocab.json").write_text(json.dumps(foreign))

    for name, expected in (("plain", "gpt2"), ("padded", "gpt2"), ("bytes", "bytes")):
        opened = open_model(str(tmp_path / name), CPU)
        assert opened.tokenizer.name == expected
        assert opened.model.config.vocab_size == opened.model.wte.weight.shape[0] == rows[expected]
    (tmp_path / "padded" / "tokenizer.json").unlink()  # vocab.json says the same
    assert open_model(str(tmp_path / "padded"), CPU).model.config.vocab_size == 50_257
    (tmp_path / "padded" / "vocab.json").unlink()
    for name, size in (("padded", 50_304), ("foreign", 50_257)):
        with pytest.raises(UserError, match=f"there is no tokenizer for its {size} token ids: expected tokenizer.json"):
            open_model(str(tmp_path / name), CPU)


def test_transformers_own_files_are_recognized(theirs, tmp_path):
    for name, rows in (("gpt2", 50_300), ("bytes", 300)):
        folder = tmp_path / name
        gpt2(vocab_size=rows).save_pretrained(folder)
        theirs[name].save_pretrained(folder)
        assert open_model(str(folder), CPU).tokenizer.name == name


@pytest.mark.parametrize(
    "broken", ['{"model": {"vocab": ["a", 1]}}', '{"model": {}}', '{"model": [], "added_tokens": 3}', "{}", "["]
)
def test_tokenizer_files_of_other_kinds(tmp_path, broken):
    gpt2().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(broken)
    with pytest.raises(UserError, match=r"tokenizer\.json: (not a|damaged: expected JSON)"):
        open_model(str(tmp_path), CPU)
