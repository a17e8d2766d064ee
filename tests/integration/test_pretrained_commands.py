"""Weights out and in again by the commands: a run and its export are the same model to each of them."""

import json

import pytest
from huggingface_hub import ModelCard

from tests.integration.conftest import TINY


def check_card(workplace):
    """The model card is read by the Hub's client and holds the run's own numbers, and no path of this machine."""
    card = ModelCard.load(workplace / "exported" / "README.md")
    assert card.data.to_dict() == {
        "license": "unknown", "library_name": "transformers", "pipeline_tag": "text-generation",
    }  # fmt: skip
    run_dir = workplace / "runs" / "trained"
    summary = json.loads((run_dir / "summary.json").read_text())
    task, text = json.loads((run_dir / "eval.json").read_text())["evaluations"][-2:]
    of_text = "protocol stream, stride 64, precision fp32"
    perplexities = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
    rows = {
        "corpus": "library",
        "tokenizer": "bytes",
        "SHA-256 of the prepared data": summary["data_fingerprint"],
        "tokens trained on": "2,048",
        "steps": "2",
        "peak learning rate": f"{summary['learning_rate']:.5g}",
        "optimizer": "adamw",
        "weight decay": "0.1",
        "schedule": "cosine",
        "tokens in a batch": "1024",
        "gradient clipping": "1.0",
        "dropout": "0.0",
        "seed": "1337",
        **{name: f"{summary[name]:.5g}" for name in ("val_loss", "val_perplexity", "val_bits_per_byte")},
        "val_tokens": f"{summary['val_tokens']:,}",
        **{f"{name} of text.txt, {of_text}": f"{text[name]:.5g}" for name in perplexities if text[name]},
        "acc of lambada_openai, questions: 1 of a local file, precision fp32": f"{task['lambada_openai']['acc']:.5g}",
    }
    found = [line.strip("| ").split(" | ") for line in card.text.splitlines() if line.startswith("| ")]
    assert dict(row for row in found if len(row) == 2) == rows
    for part in ("# exported", "## Data", "## Recipe", "## Evaluation", "## License\n\nNot stated. The license of the"):
        assert part in card.text
    assert f"{summary['parameters']:,} parameters: 2 blocks, 2 heads, width 32, context 64 tokens" in card.text
    assert str(workplace) not in card.content


def test_the_card_leaves_out_metrics_of_another_step(run, trained, workplace):
    run_dir = workplace / "runs" / "trained"
    (workplace / "text.txt").write_text("import argparse\n")
    run("eval.py", "checkpoint=runs/trained", "eval.text_file=text.txt")
    for name, path in (("steps", "summary.json"), ("step", "eval.json")):
        content = json.loads((run_dir / path).read_text())
        record = content["evaluations"][0] if name == "step" else content
        assert record[name] == 2
        record[name] = 1
        (run_dir / path).write_text(json.dumps(content))
    run("export.py", "checkpoint=runs/trained", "out=exported")
    assert "## Evaluation\n\nNot evaluated.\n" in (workplace / "exported" / "README.md").read_text()


def test_export_then_evaluate_sample_and_train(run, trained, workplace):
    (workplace / "text.txt").write_text("import argparse\n\nparser = argparse.ArgumentParser()\n")
    (workplace / "lambada_openai.jsonl").write_text('{"text": "import argparse"}\n')
    run("eval.py", "checkpoint=runs/trained", "eval=tasks", "eval.tasks.names=[lambada_openai]", "eval.tasks.folder=.")
    run("eval.py", "checkpoint=runs/trained", "eval.text_file=text.txt")
    shown = run("export.py", "checkpoint=runs/trained", "out=exported").stdout
    assert "GPT2LMHeadModel" in shown
    written = {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "README.md",
    }  # fmt: skip
    assert {path.name for path in (workplace / "exported").iterdir()} == written
    check_card(workplace)

    run("eval.py", "checkpoint=exported", "eval.text_file=text.txt")
    of_run, of_export = (
        json.loads((workplace / name).read_text())["evaluations"][-1]
        for name in ("runs/trained/eval.json", "eval.json")
    )
    assert of_export["checkpoint"] == str((workplace / "exported").resolve())
    assert "step" not in of_export
    for metric in ("token_perplexity", "bits_per_byte", "tokens", "parameters"):
        assert of_export[metric] == pytest.approx(of_run[metric], rel=1e-9)
    assert of_export["protocol"] == of_run["protocol"]

    arguments = ["prompt=def ", "sampling.max_new_tokens=40"]
    of_run, of_export = (
        run("sample.py", f"checkpoint={where}", *arguments).stdout
        for where in ("runs/trained", "exported/model.safetensors")
    )
    assert of_run == of_export

    # weights alone, into a shorter context and a padded embedding: the first step's loss is that of the run
    settings = ["training.max_steps=1", "optimizer.lr=1e-9", "model.vocab_multiple_of=64"]
    for name, where in (("from_run", "runs/trained"), ("from_export", "exported")):
        shown = run("train.py", *TINY, f"run_dir={name}", f"init_from={where}", *settings, "model.block_size=32").stdout
        assert "not known to be those" not in shown
    from_run, from_export = (
        json.loads((workplace / name / "summary.json").read_text()) for name in ("from_run", "from_export")
    )
    assert from_run["val_loss"] == pytest.approx(from_export["val_loss"], rel=1e-9)


def test_a_modern_model_is_exported_as_llama(run, workplace):
    swaps = ["model/positions=rope", "model/norm=rmsnorm", "model/mlp=swiglu", "model.bias=false", "model.n_kv_head=1"]
    run("train.py", *TINY, *swaps, "run_dir=runs/run", "training.max_steps=2")
    assert "LlamaForCausalLM" in run("export.py", "out=exported").stdout  # of the newest run
    shown = [run("sample.py", f"checkpoint={where}", "prompt=def ").stdout for where in ("runs/run", "exported")]
    assert shown[0] == shown[1] != ""
