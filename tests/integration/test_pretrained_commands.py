"""Weights out and in again by the commands: a run and its export are the same model to each of them."""

import json

import pytest

from tests.integration.conftest import TINY


def test_export_then_evaluate_sample_and_train(run, trained, workplace):
    shown = run("export.py", "checkpoint=runs/trained", "out=exported").stdout
    assert "GPT2LMHeadModel" in shown
    written = {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert {path.name for path in (workplace / "exported").iterdir()} == written

    (workplace / "text.txt").write_text("import argparse\n\nparser = argparse.ArgumentParser()\n")
    run("eval.py", "checkpoint=runs/trained", "eval.text_file=text.txt", "out=run.json")
    run("eval.py", "checkpoint=exported", "eval.text_file=text.txt")
    of_run, of_export = (
        json.loads((workplace / name).read_text())["evaluations"][-1] for name in ("run.json", "eval.json")
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
