"""lm-evaluation-harness's own Hugging Face backend, with its own task files, beside ours on one random model."""

import dataclasses
import json
import re
import shutil
from functools import partial
from pathlib import Path

import lm_eval
import lm_eval.api.model
import lm_eval.tasks
import pytest
import tokenizers.processors
import torch
import yaml
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from scipy import stats

from gpt2lab.cli import lm_eval as command
from gpt2lab.config import CorpusConfig, EvalConfig, ModelConfig, TasksConfig, UserError
from gpt2lab.evaluation.perplexity.evaluate import prepare_perplexity
from gpt2lab.evaluation.tasks.blimp import PARADIGMS
from gpt2lab.evaluation.tasks.evaluate import evaluate_tasks
from gpt2lab.evaluation.tasks.lm_eval import as_lm, run_lm_eval
from gpt2lab.evaluation.tasks.tasks import TASKS
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.generation.decoder import Decoder
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import open_model, save_pretrained
from tests import hugging_face, tokenizer_files

CONTEXT = 24
TEXT = 'Homarus gammarus , known as the lobster . It may grow ( slowly ) to 60 @.@ 5 cm " in summer " and \'s'
WORDS = TEXT.split(" ")
PAGES = [
    f" \n = Title {i} = \n \n " + " ".join(WORDS[(i + j) % len(WORDS)] for j in range(length)) + " \n"
    for i, length in enumerate([3, 22, 23, 24, 60, 7, 90])
]
ENDINGS = [
    "puts it on a shelf .",
    "[substeps] runs away with  the ladder and three more of them .",
    "a",
    "and falls , slowly .",
]
QUESTIONS = [
    {
        "activity_label": "Cleaning [header]",
        "ctx_a": "A man climbs a ladder [title] and " * (1 + 3 * (i % 2)),
        "ctx_b": ["he then", "", "the dog"][i % 3],
        "endings": ENDINGS[i % 4 :] + ENDINGS[: i % 4],
        "label": str(i % 4),
    }
    for i in range(13)
]
PASSAGES = [
    {"text": f"{'It was late , and ' * (i % 5)}he asked for number {i} of his Homarus gammarus{'!' * (i % 2)}"}
    for i in range(11)
]
PASSAGES += [{"text": text} for text in ("two  spaces here", "ends with a space ", "a\nline is 12", "12 13", "[a] [b]")]


WORDS = ("the cat", "a man", "some dogs", "the teachers", "Mary", "people", "my friend", "this house")
PAIRS = [
    {"sentence_good": f"Who did {w} see?", "sentence_bad": f"Who did see {w}?", "linguistics_term": term, "UID": part}
    for part, term in (("island", "island_effects"), ("binding", "binding"))
    for w in (WORDS if part == "island" else WORDS[::-1][:7])
]
PAIRS.append({"sentence_good": "A tie.", "sentence_bad": "A tie.", "linguistics_term": "binding", "UID": "binding"})


def tasks_of(folder):
    """lm_eval's own task files, reading local files."""
    theirs = Path(lm_eval.__file__).parent / "tasks"
    for name, path, split, rows in (
        ("wikitext", "wikitext/wikitext.yaml", "test", [{"page": page} for page in PAGES]),
        ("hellaswag", "hellaswag/hellaswag.yaml", "validation", QUESTIONS),
        ("lambada_openai", "lambada/lambada_openai.yaml", "test", PASSAGES),
        ("lambada_standard", "lambada/lambada_standard.yaml", "test", PASSAGES),
        ("blimp/island", "blimp/_template_yaml", "validation", [pair for pair in PAIRS if pair["UID"] == "island"]),
        ("blimp/binding", "blimp/_template_yaml", "validation", [pair for pair in PAIRS if pair["UID"] == "binding"]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        elsewhere = ("dataset_", "training_split", "validation_split", "test_split")
        kept = [line for line in (theirs / path).read_text().splitlines() if not line.startswith(elsewhere)]
        files = json.dumps({"data_files": {split: str(folder / f"{name}.jsonl")}, "cache_dir": str(folder)})
        local = ["dataset_path: json", f"dataset_kwargs: {files}", f"{split}_split: {split}"]
        (folder / f"{name}.yaml").write_text("\n".join([*kept, *local]).replace(f"task: {name}", f"task: local_{name}"))
    for part in ("island", "binding"):
        file = folder / "blimp" / f"{part}.yaml"
        file.write_text(f"task: local_blimp_{part}\n{file.read_text()}")
    shutil.copy(theirs / "wikitext" / "preprocess_wikitext.py", folder)
    shutil.copy(theirs / "hellaswag" / "utils.py", folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Task files, questions, and an exported model."""
    place = tmp_path_factory.mktemp("lm_eval")
    (place / "blimp").mkdir()
    tasks_of(place)
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=CONTEXT, vocab_size=50_257))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    save_pretrained(model, load_tokenizer("gpt2"), place / "model")
    return place


@pytest.fixture(scope="module")
def loaded(folder):
    """Our model."""
    checkpoint = open_model(str(folder / "model"), torch.device("cpu"))
    return TextModel(checkpoint.model, checkpoint.tokenizer, checkpoint.source, Runtime(torch.device("cpu"), "fp32"))


@pytest.fixture(scope="module")
def theirs(folder):
    """lm_eval's own backend on the same weights."""
    return HFLM(str(folder / "model"), device="cpu", batch_size=3, dtype="float32")


@pytest.fixture(scope="module")
def expected(folder, theirs):
    """What lm_eval makes of it."""
    manager = lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False)
    names = ["local_wikitext", "local_hellaswag", "local_lambada_openai", "local_blimp_island", "local_blimp_binding"]
    results = lm_eval.simple_evaluate(theirs, tasks=names, task_manager=manager, bootstrap_iters=0)
    return {name.removeprefix("local_"): values for name, values in results["results"].items()}


def pages_of(folder):
    return CorpusConfig(
        name="pages", format="documents", file=str(folder / "wikitext.jsonl"), column="page", detokenizer="wikitext"
    )


def test_perplexity(folder, loaded, expected):
    for batch_size in (1, 4):
        config = EvalConfig(protocol="lm_eval", corpus=pages_of(folder), batch_size=batch_size)
        metrics = prepare_perplexity(loaded, config)().metrics.to_dict()
        for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
            assert metrics[name] == pytest.approx(expected["wikitext"][f"{name},none"], rel=1e-5)


def test_multiple_choice(folder, loaded, expected):
    config = EvalConfig(tasks=TasksConfig(names=["hellaswag"], folder=str(folder)))
    metrics = evaluate_tasks(loaded, config).metrics.to_dict()
    for name in ("acc", "acc_norm", "acc_stderr", "acc_norm_stderr"):
        theirs = expected["hellaswag"].get(f"{name},none")
        if isinstance(theirs, float):
            assert metrics["hellaswag"][name] == pytest.approx(theirs, abs=1e-9)
    assert 0 < metrics["hellaswag"]["acc"] < 1


def test_minimal_pairs(folder, loaded, expected):
    result = evaluate_tasks(loaded, EvalConfig(tasks=TasksConfig(names=["blimp"], folder=str(folder))))
    metrics = result.metrics.to_dict()["blimp"]
    theirs = {part: expected[f"blimp_{part}"]["acc,none"] * 8 for part in ("island", "binding")}
    ties = 1  # of the binding part, which lm_eval counts as right
    assert metrics["acc island_effects"] * 8 == pytest.approx(theirs["island"])
    assert metrics["acc binding"] * 8 == pytest.approx(theirs["binding"] - ties)
    assert metrics["acc"] * 16 == pytest.approx(sum(theirs.values()) - ties)
    assert 0 < metrics["acc"] < 1
    assert [row.label for row in result.rows] == ["blimp acc", "blimp acc binding", "blimp acc island_effects"]
    assert all(row.interval is not None for row in result.rows)
    limited = evaluate_tasks(loaded, EvalConfig(tasks=TasksConfig(names=["blimp"], folder=str(folder), limit=3)))
    assert limited.metrics.to_dict()["blimp"]["questions"] == 6


def test_blimp_has_the_parts_that_lm_eval_has():
    files = (Path(lm_eval.__file__).parent / "tasks" / "blimp").glob("*.yaml")
    theirs = [line.split()[1] for file in files for line in file.read_text().splitlines() if "dataset_name" in line]
    assert sorted(PARADIGMS) == sorted(theirs)
    assert len(set(PARADIGMS)) == 67


class RecordingModel(lm_eval.api.model.LM):
    """Keeps the texts that lm_eval asks it about."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def loglikelihood(self, requests):
        self.asked += [request.args for request in requests]
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "local", "rows"),
    [
        ("lambada_openai", ["lambada_openai"], PASSAGES),
        ("lambada_standard", ["lambada_standard"], PASSAGES),
        ("hellaswag", ["hellaswag"], QUESTIONS),
        ("blimp", ["blimp_island", "blimp_binding"], PAIRS),
    ],
)
def test_requests_are_the_strings_of_lm_eval(folder, name, local, rows):
    recorded = RecordingModel()
    manager = lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False)
    for task in local:
        lm_eval.simple_evaluate(recorded, tasks=[f"local_{task}"], task_manager=manager, bootstrap_iters=0)
    assert [tuple(request) for row in rows for request in TASKS[name]().requests(row)] == recorded.asked


def test_last_words(folder, loaded, expected):
    metrics = evaluate_tasks(
        loaded, EvalConfig(tasks=TasksConfig(names=["lambada_openai"], folder=str(folder)))
    ).metrics.to_dict()
    assert metrics["lambada_openai"]["perplexity"] == pytest.approx(
        expected["lambada_openai"]["perplexity,none"], rel=1e-4
    )
    assert metrics["lambada_openai"]["acc"] == expected["lambada_openai"]["acc,none"]


def test_our_model_under_lm_eval(folder, loaded, expected, monkeypatch):
    monkeypatch.setattr(
        lm_eval.tasks, "TaskManager", partial(lm_eval.tasks.TaskManager, include_defaults=False)
    )  # its 14,683 own tasks take nine seconds to list
    settings = TasksConfig(lm_eval=["local_wikitext", "local_hellaswag"], folder=str(folder), batch_size=5)
    result = run_lm_eval(loaded, settings)
    for task, metric in (("wikitext", "word_perplexity"), ("hellaswag", "acc"), ("hellaswag", "acc_norm")):
        ours = result.metrics.to_dict()[f"local_{task}"][metric]
        assert ours == pytest.approx(expected[task][f"{metric},none"], rel=1e-4)
    intervals = {row.label: row.interval for row in result.rows}
    right = round(expected["hellaswag"]["acc_norm,none"] * len(QUESTIONS))
    wilson = stats.binomtest(right, len(QUESTIONS)).proportion_ci(method="wilson")
    assert intervals["local_hellaswag acc_norm"] == pytest.approx((wilson.low, wilson.high))
    assert intervals["local_wikitext word_perplexity"] is None
    with pytest.raises(UserError, match="lm_eval=no_such_task"):
        run_lm_eval(loaded, dataclasses.replace(settings, lm_eval=["no_such_task"]))
    broken = yaml.safe_load((folder / "lambada_openai.yaml").read_text())
    broken |= {"task": "broken", "dataset_kwargs": {"data_files": {"test": "/nowhere.jsonl"}}}
    (folder / "broken.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(UserError, match="lm_eval=broken: not fetched"):
        run_lm_eval(loaded, dataclasses.replace(settings, lm_eval=["broken"]))


def test_a_task_of_both_has_both_results(folder, loaded, monkeypatch):
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", partial(lm_eval.tasks.TaskManager, include_defaults=False))
    ours = folder / "both"
    ours.mkdir()
    shutil.copy(folder / "lambada_openai.jsonl", ours)
    (ours / "it.yaml").write_text((folder / "lambada_openai.yaml").read_text().replace("local_", ""))
    names = ["lambada_openai"]
    result = evaluate_tasks(loaded, EvalConfig(tasks=TasksConfig(names, lm_eval=names, folder=str(ours), limit=4)))
    metrics = result.metrics.to_dict()
    own, theirs = metrics["lambada_openai"], metrics["lm_eval/lambada_openai"]
    assert own["questions"] == 4
    assert own["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-4)
    labels = [row.label for row in result.rows]
    assert "lambada_openai perplexity" in labels
    assert "lm_eval/lambada_openai perplexity" in labels
    tasks = [json.loads(line)["task"] for line in result.files["questions.jsonl"].splitlines()]
    assert [tasks.count(name) for name in ("lambada_openai", "lm_eval/lambada_openai")] == [4, 4]


CONTEXTS = [
    ("", " a b"),
    ("Hello", " world"),
    ("Hello ", "world"),
    ("x " * 40, "the end"),
    ("a", "\n\nb"),
    ("one two ", " three"),
]


def check_likelihoods(loaded, theirs):
    ours = as_lm(loaded, batch_size=4)
    assert isinstance(ours, lm_eval.api.model.LM)
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(CONTEXTS)]
    for (log_p, greedy), (their_log_p, their_greedy) in zip(
        ours.loglikelihood(requests), theirs.loglikelihood(requests), strict=True
    ):
        assert log_p == pytest.approx(their_log_p, rel=1e-5)
        assert greedy == their_greedy
    texts = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate([*PAGES, "a"])]
    assert ours.loglikelihood_rolling(texts) == pytest.approx(theirs.loglikelihood_rolling(texts), rel=1e-5)


def test_requests_of_every_kind(loaded, theirs):
    check_likelihoods(loaded, theirs)


def random_llama(where, form, bos, adds_bos):
    """Ours and lm_eval's: a Llama whose tokenizer puts ``bos`` before each text, or only has it."""
    tokenizer_files.MAKERS[form](where)
    settings = json.loads((where / "tokenizer_config.json").read_text())
    (where / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": bos}))
    library = tokenizers.Tokenizer.from_file(str(where / "tokenizer.json"))
    if adds_bos:
        library.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, library.token_to_id(bos))]
        )
    library.save(str(where / "tokenizer.json"))
    torch.manual_seed(0)
    hugging_face.llama(vocab_size=library.get_vocab_size(), max_position_embeddings=CONTEXT).save_pretrained(where)
    opened = open_model(str(where), torch.device("cpu"))
    assert opened.tokenizer.adds_bos is adds_bos
    ours = TextModel(opened.model, opened.tokenizer, opened.source, Runtime(torch.device("cpu"), "fp32"))
    return ours, HFLM(str(where), device="cpu", batch_size=1, dtype="float32")


@pytest.fixture(scope="module", params=[True, False], ids=["adds_bos", "names_bos"])
def llama(request, tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("llama"), "llama", "<s>", request.param)


def test_begin_token_is_there_where_the_tokenizer_puts_it(llama):
    check_likelihoods(*llama)


@pytest.mark.parametrize("adds_bos", [True, False])
def test_generation_begins_with_the_begin_token_where_the_tokenizer_puts_it(tmp_path, adds_bos):
    ours, theirs = random_llama(tmp_path, "smollm", "<|im_start|>", adds_bos)
    settings = {"until": [], "max_gen_toks": 8, "do_sample": False}
    requests = [Instance("generate_until", {}, (context, settings), 0) for context in ("the fox", "a dog", "one " * 40)]
    assert as_lm(ours, batch_size=2).generate_until(requests) == theirs.generate_until(requests)


def test_perplexity_where_the_tokenizer_puts_a_begin_token(folder, llama):
    ours, theirs = llama
    manager = lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False)
    results = lm_eval.simple_evaluate(theirs, tasks=["local_wikitext"], task_manager=manager, bootstrap_iters=0)
    config = EvalConfig(protocol="lm_eval", corpus=pages_of(folder))
    metrics = prepare_perplexity(ours, config)().metrics.to_dict()
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert metrics[name] == pytest.approx(results["results"]["local_wikitext"][f"{name},none"], rel=1e-5)


def test_generation(loaded, theirs):
    ours = as_lm(loaded, batch_size=2)
    free = {"until": [], "max_gen_toks": 8, "do_sample": False}
    contexts = ["Hello, I'm a", "The", "one two three " * 20, "A man"]
    requests = [Instance("generate_until", {}, (context, free), i) for i, context in enumerate(contexts)]
    texts = ours.generate_until(requests)
    assert texts == theirs.generate_until(requests)
    stop = texts[0][3:6]
    later = texts[0].partition(stop)[2][1:3]
    stops = {**free, "until": [later, stop, "\0"]}
    stopped = [Instance("generate_until", {}, (context, stops), 0) for context in contexts]
    assert ours.generate_until([*requests[1:], *stopped]) == [
        *texts[1:],
        *(re.split(f"{re.escape(stop)}|{re.escape(later)}", text)[0] for text in texts),
    ]
    assert ours.generate_until(stopped) == theirs.generate_until(stopped)


@pytest.mark.parametrize("key", ["max_gen_toks", "max_new_tokens", "max_tokens"])
def test_generation_settings_are_read_as_lm_eval_reads_them(loaded, theirs, key):
    ours = as_lm(loaded, batch_size=2)

    def write(model, **settings):
        return model.generate_until([Instance("generate_until", {}, ("The man", settings), 0)])

    assert write(ours, **{key: 5}) == write(theirs, **{key: 5})
    drawn = write(ours, **{key: 5}, temperature=0.9)
    assert drawn == write(ours, **{key: 5}, temperature=0.9, do_sample=True) != write(ours, **{key: 5})
    assert write(ours, **{key: 5}, temperature=0.9, do_sample=False) == write(ours, **{key: 5})
    with pytest.raises(UserError, match=f"up to {CONTEXT} tokens; expected fewer than {CONTEXT}"):
        write(ours, **{key: CONTEXT})  # no token of the question would be left


def test_generation_ends_at_the_stop_string(loaded, monkeypatch):
    """Not at the limit: a step more than the tokens of the text would be one too many."""
    steps, step = [], Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda decoder, *given: steps.append(1) or step(decoder, *given))
    ours = as_lm(loaded, batch_size=2)
    (free,) = ours.generate_until([Instance("generate_until", {}, ("The", {"max_gen_toks": 8}), 0)])
    assert len(steps) == 8 - 1
    steps.clear()
    ids = loaded.tokenizer.encode(free)
    until = {"max_gen_toks": 8, "until": [loaded.tokenizer.decode(ids[2:3])]}
    ours.generate_until([Instance("generate_until", {}, ("The", until), 0)])
    assert len(steps) <= 2


def test_the_harness_command_opens_our_model(folder, expected, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        lm_eval.tasks, "TaskManager", partial(lm_eval.tasks.TaskManager, include_defaults=False)
    )  # its 14,683 own tasks take nine seconds to list
    arguments = f"--model gpt2lab --model_args checkpoint={folder}/model,device=cpu --tasks local_hellaswag "
    cache = ["--use_cache", str(tmp_path / "answers")]
    typed = ["lm_eval", *arguments.split(), "--include_path", str(folder), "--batch_size", "3", *cache]
    monkeypatch.setattr("sys.argv", typed)
    command.main()
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    found = {cells[5].strip(): float(cells[7]) for cells in lines[2:]}
    assert found["acc"] == pytest.approx(expected["hellaswag"]["acc,none"], abs=6e-4)
    assert found["acc_norm"] == pytest.approx(expected["hellaswag"]["acc_norm,none"], abs=6e-4)
