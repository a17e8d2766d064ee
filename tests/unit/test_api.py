"""Three lines for a notebook: load, generate, perplexity, against the modules below and a float64 sum."""

import math
import subprocess
import sys

import pytest
import torch

import gpt2lab
from gpt2lab import commands, compose_config, generate, load_model, load_tokenizer, perplexity
from gpt2lab.config import UserError
from gpt2lab.evaluation.tasks.lm_eval import as_lm
from tests import hugging_face, tokenizer_files

TEXT = "the fox isn't there, 日本, but the dog: he jumps over 1234 lazy brown cafés"


@pytest.fixture(scope="module", params=["smollm", "llama"])
def folder(request, tmp_path_factory):
    """A random Llama with a tokenizer of its own."""
    folder = tokenizer_files.MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    ids = load_tokenizer(folder / "tokenizer.json").vocab_size
    torch.manual_seed(0)
    hugging_face.llama(vocab_size=ids, max_position_embeddings=16).save_pretrained(folder)
    return folder


@pytest.fixture
def model(folder):
    return load_model(folder, device="cpu", precision="fp32")


def test_perplexity_equals_a_float64_sum_with_transformers(folder, model):
    from transformers import AutoModelForCausalLM

    tokenizer = model.tokenizer
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ids = [tokenizer.bos_id, *tokenizer.encode(TEXT)]
    assert len(ids) > 16, "the text has to be longer than the context"
    nll = 0.0
    for i in range(1, len(ids)):  # with stride 1, each token sees all that the context holds
        context = torch.tensor([ids[max(0, i - 16) : i]])
        nll -= theirs(context).logits[0, -1].double().log_softmax(-1)[ids[i]].item()
    result = perplexity(model, TEXT, stride=1)
    assert result.nll == pytest.approx(nll, rel=1e-5)
    assert result.token_perplexity == pytest.approx(math.exp(nll / (len(ids) - 1)), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(nll / math.log(2) / len(TEXT.encode()), rel=1e-5)


def test_generate_gives_the_continuation_and_stops(model):
    text = generate(model, "the fox", max_new_tokens=20, seed=3)
    assert text == generate(model, "the fox", max_new_tokens=20, seed=3)
    assert text != generate(model, "the fox", max_new_tokens=20, seed=4)
    middle = text[len(text) // 2]
    assert generate(model, "the fox", max_new_tokens=20, seed=3, stop=[middle]) == text[: text.index(middle)]
    assert generate(model, "the fox", max_new_tokens=20, seed=3, stop="never seen") == text, (
        "a string is one stop string"
    )
    with pytest.raises(UserError, match=r"^stop=\[''\]: expected strings that are not empty$"):
        generate(model, "the fox", stop=[""])
    assert isinstance(generate(model, "", max_new_tokens=2, temperature=0), str)
    with pytest.raises(UserError, match=r"^prompt=\['the fox'\]: expected one text"):
        generate(model, ["the fox"])
    with pytest.raises(UserError, match=r"^stop=\[1\]: expected strings that are not empty$"):
        generate(model, "the fox", stop=[1])
    assert generate(model, "the fox", max_new_tokens=20, seed=3, stop=None) == text
    with pytest.raises(UserError, match=r"sampling\.top_p=2"):
        generate(model, "the", top_p=2)


def test_perplexity_by_auto_is_in_float32_as_that_of_the_command(folder, monkeypatch):
    """On a CPU with bf16 products, where text is generated in bf16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    auto, exact, rounded = (load_model(folder, device="cpu", precision=name) for name in ("auto", "fp32", "bf16"))
    assert auto.runtime.precision == "bf16"
    assert perplexity(auto, TEXT) == perplexity(exact, TEXT) != perplexity(rounded, TEXT)
    assert as_lm(auto, batch_size=1).loaded.runtime.precision == "fp32"


def test_perplexity_without_memory_says_what_to_type(model, monkeypatch):
    def full(*arguments, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.model, "hidden", full)
    with pytest.raises(UserError, match=r"^out of memory in scoring 8 windows at once: type batch_size=4$"):
        perplexity(model, TEXT)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "text='': expected a text to score"),
        (None, {}, "text=None: expected a text to score"),
        ("a", {"stride": 17}, "stride=17: expected 1 to 16 tokens, the model's context, or None"),
        ("a", {"stride": 0}, "stride=0: expected 1 to 16 tokens, the model's context, or None"),
        ("a", {"stride": 2.5}, "stride=2.5: expected 1 to 16 tokens, the model's context, or None"),
        ("a", {"batch_size": 0}, "batch_size=0: expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_scored_is_an_error_by_the_names_of_the_arguments(model, text, options, message):
    with pytest.raises(UserError) as error:
        perplexity(model, text, **options)
    assert str(error.value) == message


def test_load_tokenizer_takes_names_files_and_models(folder, model):
    assert load_tokenizer("gpt2").encode("Hello world") == [15496, 995]
    assert load_tokenizer("bytes").vocab_size == 257
    assert load_tokenizer(folder).fingerprint == load_tokenizer(folder / "tokenizer.json").fingerprint
    assert load_tokenizer(folder).fingerprint == model.tokenizer.fingerprint


def test_compose_config_gives_a_job():
    assert compose_config("train", ["model/positions=rope"]).model.positions.name == "rope"
    with pytest.raises(UserError, match=r"^command=evl: expected one of train, .*; did you mean eval\?"):
        compose_config("evl", [])


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gpt2lab.nothing  # noqa: B018
    assert set(gpt2lab.__all__) == {"compose_config", "generate", "load_model", "load_tokenizer", "perplexity"}


def test_import_does_not_import_torch():
    program = "import sys, gpt2lab; print(sorted({'torch', 'hydra', 'numpy'} & set(sys.modules)), gpt2lab.__version__)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("[] ")


def test_what_python_code_can_get_wrong_is_one_line(model):
    with pytest.raises(UserError, match=r"^top_k=2\.5: expected a whole number, or None$"):
        generate(model, "the fox", top_k=2.5)
    with pytest.raises(UserError, match=r"^text='\\ud800' at character 1: .*expected whole characters"):
        perplexity(model, "x\ud800x")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: generate(model, "the", stop=3), r"^stop=\[3\]: expected strings that are not empty$"),
        (lambda model: generate("runs/mine", "the"), r"^model=str: expected a TextModel; try load_model\(\.\.\.\)$"),
        (lambda model: perplexity(model.model, "the"), r"^model=GPT: expected a TextModel"),
        (lambda model: compose_config("train", "seed=3"), r"^overrides=seed=3: expected a list of texts"),
        (lambda model: compose_config("train", None), r"^overrides=None: expected a list of texts"),
        (lambda model: compose_config("train", {"seed": 3}), r"^overrides=\{'seed': 3\}: expected a list of texts"),
        (lambda model: compose_config("train", [3]), r"^overrides=\[3\]: expected a list of texts"),
    ],
)
def test_what_is_no_model_or_list_is_one_line(model, call, message):
    with pytest.raises(UserError, match=message):
        call(model)


@pytest.mark.parametrize("name", ["train", "evaluate", "prepare", "sample", "export", "report", "explain"])
def test_a_command_refuses_what_is_not_its_job(name):
    with pytest.raises(UserError, match=r"^job=list: expected a \w+Job; try compose_config\("):
        getattr(commands, name)(["seed=3"])
