"""Tasks and further texts scored while a model trains."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from gpt2lab.checkpoint import newest_complete
from gpt2lab.commands import evaluate
from gpt2lab.config import EvalConfig, EvalJob, RuntimeConfig, TrainingConfig, UserError
from gpt2lab.data import TokenStream
from gpt2lab.runs import read_lines
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.training.resume import resume_training

SENTENCES = ["she said so", "he did not see it", "they came home"]
TEXT = "a text of its own, which fills exactly four windows of the model"
"""64 bytes, a token each"""


@pytest.fixture
def scored(tmp_path):
    """Settings that score a task and a text."""
    folder = tmp_path / "questions"
    folder.mkdir()
    (folder / "lambada_openai.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in SENTENCES))
    (tmp_path / "other.txt").write_text(TEXT)
    return {
        "eval_tasks": ["lambada_openai"],
        "eval_tasks_folder": str(folder),
        "eval_texts": [str(tmp_path / "other.txt")],
    }


def lines_with(trainer, name):
    return [line for line in read_lines(trainer.metrics.path) if name in line]


def last_word_perplexity(model):
    """exp of the mean nats of the last words, one forward pass for each sentence."""
    tokenizer, nats = load_tokenizer("bytes"), []
    for sentence in SENTENCES:
        context = sentence.rpartition(" ")[0]
        ids, begin = torch.tensor(tokenizer.encode(sentence)), len(tokenizer.encode(context))
        begin, ids = begin - max(0, len(ids) - 17), ids[-17:]
        with torch.no_grad():
            logits = model(ids[None, :-1])[0]
        nats.append(F.cross_entropy(logits[begin - 1 :], ids[begin:], reduction="sum").item())
    return math.exp(sum(nats) / len(nats))


def text_loss(model):
    """Nats per token of the text after an end-of-text, in windows of 16 targets."""
    tokenizer = load_tokenizer("bytes")
    ids = torch.tensor([tokenizer.eot_id, *tokenizer.encode(TEXT)])
    nll = 0.0
    for first in range(0, len(ids) - 1, 16):
        window = ids[first : first + 17]
        with torch.no_grad():
            nll += F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum").item()
    return nll / (len(ids) - 1)


def test_training_takes_the_same_steps_and_the_metrics_are_those_of_the_weights(make_trainer, scored):
    plain = make_trainer("plain", model={"dropout": 0.2}, eval_every=2)
    tested = make_trainer("tested", model={"dropout": 0.2}, eval_every=2, **scored)
    for trainer in (plain, tested):
        trainer.run()
    for name in ("loss", "val_loss"):
        assert [line[name] for line in lines_with(plain, name)] == [line[name] for line in lines_with(tested, name)]
    for one, other in zip(plain.model.parameters(), tested.model.parameters(), strict=True):
        assert torch.equal(one, other)

    lines = lines_with(tested, "tasks/lambada_openai/acc")
    assert [line["step"] for line in lines] == [2, 4]
    assert not lines_with(plain, "tasks/lambada_openai/acc")
    model = tested.model.eval()
    assert lines[-1]["tasks/lambada_openai/perplexity"] == pytest.approx(last_word_perplexity(model), rel=1e-4)
    assert lines[-1]["val/other/loss"] == pytest.approx(text_loss(model), rel=1e-5)
    assert lines[-1]["val/other/perplexity"] == pytest.approx(math.exp(text_loss(model)), rel=1e-5)
    assert lines[-1]["val/other/bits_per_byte"] == pytest.approx(text_loss(model) / math.log(2), rel=1e-5)


def test_a_run_with_document_masking_is_scored_as_it_was_trained(make_trainer, tmp_path, caplog):
    """Its validation split as a text and by ``eval.py``; documents are shorter than its context, so none is cut."""
    runtime = RuntimeConfig(device="cpu", precision="fp32")
    settings = {"packing": "documents", "model": {"block_size": 64}, "eval_tokens": 10**6, "max_steps": 40}
    make_trainer("unmasked", **settings).run()
    trainer = make_trainer("draft", masking=True, **settings)
    (folder,) = tmp_path.glob("t/*/")
    stream, tokenizer = TokenStream(folder, trainer.manifest, "val"), load_tokenizer("bytes")
    texts = tokenizer.decode(stream.read(0, len(stream)).tolist()).split("<|endoftext|>")[1:]
    (tmp_path / "docs.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))
    trainer = make_trainer("masked", masking=True, eval_texts=[str(tmp_path / "docs.jsonl")], **settings)
    val_loss = trainer.run().validation.loss
    assert lines_with(trainer, "val/docs/loss")[-1]["val/docs/loss"] == pytest.approx(val_loss, rel=1e-5)

    def score(**changes):
        job = EvalJob(checkpoint=str(tmp_path / "masked"), runtime=runtime, eval=EvalConfig(**changes))
        job.baseline = str(tmp_path / "unmasked") if not changes else None
        (result,) = evaluate(job)
        return result

    result = score()
    assert result.parts["perplexity"].metrics.perplexity.loss == pytest.approx(val_loss, rel=1e-5)
    assert result.comparison.nats_per_token is not None
    assert result.parts["perplexity"].protocol["attention"] == "within documents"
    assert "several documents at once" not in caplog.text
    score(protocol="gpt2_paper")
    assert "eval.protocol=gpt2_paper: its windows hold several documents at once" in caplog.text
    with pytest.raises(UserError, match="trained with data.document_masking=true, and long contexts"):
        score(parts=["context"])


def test_a_resumed_run_has_the_same_metrics(make_trainer, scored):
    settings = {"eval_every": 1, "checkpoint_every": 1, "keep_checkpoints": 9, **scored}
    straight, cut = make_trainer("straight", **settings), make_trainer("cut", **settings)
    straight.run()
    cut.total_steps = 2
    cut.run()
    again = make_trainer("again", **settings)
    resume_training(again, again.job, newest_complete(cut.checkpoints.folder), again.manifest)
    again.run()
    name = "val/other/loss"
    expected = [line[name] for line in lines_with(straight, name)]
    assert [line[name] for line in [*lines_with(cut, name), *lines_with(again, name)]] == expected
    assert len(expected) == 4


def test_tasks_are_scored_after_every_nth_validation_and_the_last(make_trainer, scored):
    trainer = make_trainer("run", max_steps=5, eval_every=1, eval_tasks_every=2, **scored)
    trainer.run()
    assert [line["step"] for line in lines_with(trainer, "val/other/loss")] == [2, 4, 5]


def test_mistakes_are_found_before_the_first_step(make_trainer, scored, tmp_path):
    with pytest.raises(UserError, match=r"training.eval_tasks=lambada: .*lambada_openai"):
        TrainingConfig(max_steps=1, eval_tasks=["lambada"])
    long_word = json.dumps({"text": "a " + 30 * "b"})
    (tmp_path / "questions" / "lambada_openai.jsonl").write_text(f"{long_word}\n")
    with pytest.raises(UserError, match=r"eval_tasks=lambada_openai: question 1 has an answer of 31 tokens; expected"):
        make_trainer("long", **scored)
    with pytest.raises(UserError, match="training.eval_texts=missing.txt: no such file"):
        make_trainer("missing", eval_texts=["missing.txt"])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.txt").write_text("x")
    with pytest.raises(UserError, match="both would be logged as val/other"):
        make_trainer("twice", eval_texts=[*scored["eval_texts"], str(tmp_path / "b" / "other.txt")])
