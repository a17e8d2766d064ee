"""Reports of synthetic sweeps whose effects are known; bad input."""

import dataclasses
import json
import shutil

import pytest

from gpt2lab.commands import reporting
from gpt2lab.config import ModelConfig, PositionsConfig, ReportJob, UserError
from gpt2lab.model import GPT
from gpt2lab.report.analysis import analyze
from gpt2lab.report.compare import DUNNETT
from gpt2lab.report.text_formats import as_csv, as_latex, as_markdown
from gpt2lab.training.throughput import flops_per_token
from tests.unit.report.synthetic import (
    BASELINE,
    RMSNORM,
    ROPE,
    TOKENS,
    change_summary,
    conditions_of,
    of,
    read_record,
    write_record,
    write_run,
    write_sweep,
)


def test_known_effects_are_found(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", effects={"rope": -0.05}))
    found = conditions_of(report)
    assert report.baseline == BASELINE
    assert found[ROPE].comparison.verdict == "better"
    assert found[ROPE].comparison.interval[0] < -0.05 < found[ROPE].comparison.interval[1]
    assert found[RMSNORM].comparison.verdict == "equivalent"
    assert found[ROPE].comparison.test == DUNNETT
    assert found[ROPE].throughput == pytest.approx(0.9)
    assert found[ROPE].numbers["parameters_without_embeddings"] == 470_000 - 4096 * 64
    assert found[BASELINE].numbers["parameters_without_embeddings"] == 470_000 - 4096 * 64 - 128 * 64
    main = {effect.name: effect for effect in report.effects}
    assert main["positions: rope − learned"].interval[0] < -0.05 < main["positions: rope − learned"].interval[1]
    assert report.verdict.startswith(ROPE)
    assert not report.banner


def test_average_takes_the_last_validations(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    report = analyze(folder, average=3)
    lines = [json.loads(line) for line in (of(folder, "rope", 2) / "metrics.jsonl").read_text().splitlines()]
    last = [line["val_loss"] for line in lines if "val_loss" in line][-3:]
    assert conditions_of(report)[ROPE].values[2] == pytest.approx(sum(last) / 3)
    assert any("as the mean of each run's last 3 validations" in line for line in report.method)
    with (of(folder, "rope", 2) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 800, "tokens": 819200, "val_loss": 3.0}\n')
    report = analyze(folder, average=11)
    assert any("fewer than average=11 finite validations" in warning for warning in report.warnings)
    with pytest.raises(UserError, match="average=3 and metric=val_perplexity: only val_loss"):
        ReportJob(sweep="s", average=3, metric="val_perplexity")


def test_named_baseline_by_its_name_or_its_values(tmp_path):
    folder = write_sweep(tmp_path / "s")
    for name in ("positions=rope, norm=layernorm", "positions=rope,norm=layernorm", "rope,layernorm"):
        report = analyze(folder, baseline=name)
        assert report.baseline == ROPE
        assert conditions_of(report)[BASELINE].comparison.verdict == "worse"


def test_loss_above_unigram_entropy_is_diverged(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    change_summary(of(folder, "rope", 0), val_loss=6.0)
    report = analyze(folder)
    assert report.conditions[1].diverged == 1
    why = "(ended at a validation loss of 6.0000, above what token frequencies alone score (5.5000)). A diverged run"
    assert any(why in warning for warning in report.warnings)
    assert not any("curves end" in warning for warning in report.warnings)


def test_short_runs_of_a_study_of_lengths_are_not_said_to_be_all_of_it(tmp_path):
    """The rule on the unigram entropy and its banner are about the runs of one length, which are compared."""
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS)
    folder = write_sweep(tmp_path / "s", norms=("layernorm",), lengths=lengths)
    for summary in folder.glob("*/summary.json"):
        if f"max_steps={TOKENS // 1024}," not in summary.parent.name:
            change_summary(summary.parent, unigram_loss=1.0)
    change_summary(folder / f"positions=rope,norm=layernorm,max_steps={TOKENS // 1024},seed=1", val_loss=6.0)
    report = analyze(folder)
    assert "Untrained" not in report.banner
    mixed = analyze(folder, allow=["tokens"])
    assert any("another length of" in warning for warning in mixed.warnings)
    assert not any("a rerun of" in warning for warning in mixed.warnings)
    assert [condition.diverged for condition in report.conditions] == [0, 1]


@pytest.mark.parametrize(("change", "finished"), [("none", [5, 5]), ("pending", [2, 2]), ("diverged", [5, 0])])
def test_short_study_that_stays_above_unigram_entropy_is_not_diverged_and_says_so(tmp_path, change, finished):
    """Also while most of its jobs are pending, and where the other half did diverge."""
    folder = write_sweep(tmp_path / "s", norms=("layernorm",), effects={"rope": 0.0}, noise=0.001)
    record = read_record(folder)
    for job in record["jobs"]:
        run = folder / job["run_dir"]
        change_summary(run, unigram_loss=1.0)
        if change == "pending" and run.name[-1] in "234":
            shutil.rmtree(run)
            job["status"] = "pending"
        elif change == "diverged" and "rope" in run.name:
            change_summary(run, val_loss=None)
    write_record(folder, record)
    report = analyze(folder)
    assert [c.diverged for c in report.conditions] == [0, 5 if change == "diverged" else 0]
    assert [len(c.values) for c in report.conditions] == finished
    assert report.banner.startswith(f"Untrained: all {sum(finished)} runs ended above the loss")
    assert "(1.0000 nats)" in as_markdown(report, [])
    assert "Untrained" not in analyze(folder, metric="tokens_per_second").banner


def test_chaotic_training_is_named(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for seed, (learned, rope) in enumerate([(3.10, 3.05), (3.12, 3.02), (3.08, 3.06), (3.11, 3.04), (3.09, 3.05)]):
        change_summary(of(folder, "learned", seed), val_loss=learned)
        change_summary(of(folder, "rope", seed), val_loss=rope)
    report = analyze(folder)
    assert report.conditions[1].comparison.correlation < 0.2
    assert any("Pairing fails, training is chaotic" in warning for warning in report.warnings)
    for seed in (3, 4):
        shutil.rmtree(of(folder, "rope", seed))
    few = [warning for warning in analyze(folder).warnings if "r is below" in warning]
    assert len(few) == 1
    assert few[0].startswith("Pairing gained nothing over 3 seeds")
    assert "chaotic takes 5" in few[0]


def test_runs_that_were_no_sweep_are_told_apart_by_their_configs(tmp_path):
    runs = [
        write_run(tmp_path / f"{positions}{seed}", seed, loss, positions)
        for positions, loss in (("learned", 3.1), ("rope", 3.0))
        for seed in range(3)
    ]
    report = analyze(runs=[str(run) for run in runs])
    assert [c.name for c in report.conditions] == ["positions=learned", "positions=rope"]
    assert report.conditions[1].comparison.mean == pytest.approx(-0.1)


def test_one_seed_for_each_condition_gives_no_test(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", seeds=1, norms=("layernorm",)))
    comparison = report.conditions[1].comparison
    assert (comparison.interval, comparison.p, comparison.verdict) == (None, None, "undecided")
    assert "one seed gives no interval" in report.verdict
    assert report.banner
    as_markdown(report, [])


def test_broken_metrics_line_is_a_warning(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    with (of(folder, "rope", 0) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "los')
    report = analyze(folder)
    assert any("1 line of metrics.jsonl cannot be parsed" in warning for warning in report.warnings)
    assert len(report.runs[5].curves.loss) == 40


def test_broken_summary_is_a_warning(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    (of(folder, "rope", 0) / "summary.json").write_text("{")
    assert any("summary.json: damaged" in warning for warning in analyze(folder).warnings)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"jobs": 3}', b'{"jobs": [1]}'])
def test_damaged_sweep_record_is_an_error(tmp_path, content):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    (folder / "sweep.json").write_bytes(content)
    with pytest.raises(UserError, match="sweep.json: damaged"):
        analyze(folder)


def test_sweep_that_has_no_result_yet_compares_nothing(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",), positions=("learned", "rope", "alibi"))
    values = {run: json.loads((run / "summary.json").read_text())["val_loss"] for run in folder.glob("positions=*")}
    for run in values:
        change_summary(run, status="pending", val_loss="remove")
    report = analyze(folder)
    assert report.warnings[0] == "No run has val_loss yet."
    assert report.verdict == "Nothing to compare yet: no condition has a result."
    assert any("(status pending; continue the sweep)" in warning for warning in report.warnings)
    assert "undecided" not in report.verdict
    as_markdown(report, [])
    of_runs = analyze(runs=list(map(str, values)))
    assert any("(status pending; continue the run)" in warning for warning in of_runs.warnings)
    for position, verdict in (("rope", "only positions=rope"), ("alibi", "the baseline, positions=learned")):
        for seed in range(5):
            run = of(folder, position, seed)
            change_summary(run, status="completed", val_loss=values[run])
        assert analyze(folder).verdict.startswith(f"Nothing to compare yet: {verdict}")


def test_metric_that_no_completed_run_has_is_an_error_and_writes_nothing(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",), seeds=2)
    change_summary(of(folder, "rope", 1), status="running", val_loss="remove")
    for settings, message in (
        (
            {"metric": "val_los"},
            "metric=val_los: no completed run has it; expected one of val_.*; did you mean val_loss",
        ),
        ({"metric": "device"}, "metric=device: no completed run has it"),
        ({"average": 11}, "average=11: the runs have 10 validations; expected 1 to 10"),
    ):
        with pytest.raises(UserError, match=message):
            reporting.report(ReportJob(sweep=str(folder), **settings))
    assert not (folder / "report.md").exists()


def test_bad_input_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ({"sweep": tmp_path / "empty"}, "no run directory below it"),
        ({"sweep": tmp_path / "nowhere"}, "no such folder"),
        ({"runs": [str(tmp_path / "empty")]}, "expected run directories"),
        ({"runs": [str(tmp_path / "x*")]}, "expected run directories, such as .* or a glob of them"),
        ({"sweep": write_sweep(tmp_path / "s"), "baseline": "positions=rop"}, "no such condition"),
    ):
        with pytest.raises(UserError, match=message):
            analyze(**arguments)
    for settings in ({}, {"sweep": "a", "runs": ["b"]}, {"sweep": "a", "margin": 0}, {"sweep": "a", "allow": ["all"]}):
        with pytest.raises(UserError):
            ReportJob(**settings)


def test_text_formats_hold_every_run_and_condition(tmp_path):
    folder = write_sweep(tmp_path / "s")
    report = analyze(folder)
    text = as_csv(report)
    assert len(text.splitlines()) == 21
    assert text.splitlines()[0].startswith("run,positions,norm,condition,seed,status")
    markdown = as_markdown(report, ["differences.png"])
    assert markdown.index(report.verdict) < markdown.index("| condition |") < markdown.index("![differences]")
    tables = [line for line in markdown.splitlines() if line.startswith("| condition")]
    assert all(name in markdown for name in conditions_of(report))
    assert tables[0].count("|") == 13
    assert r"\begin{tabular}{lrrrrrr}" in as_latex(report)


def test_names_have_no_escapes_of_hydra_and_latex_prints_every_character(tmp_path):
    folder = write_sweep(tmp_path / "s", positions=("learned",), norms=(r"my_own\:Norm", "layernorm"), seeds=2)
    report = analyze(folder)
    assert [c.name for c in report.conditions] == ["positions=learned, norm=my_own:Norm", BASELINE]
    assert "norm=my_own:Norm" in as_csv(report)
    assert r"norm=my\_own:Norm" in as_latex(report)
    report.conditions[1] = dataclasses.replace(report.conditions[1], name=r"a\b {c} ~^")
    assert r"a\textbackslash{}b \{c\} \textasciitilde{}\textasciicircum{}" in as_latex(report)


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_sizes_that_a_summary_lacks_are_those_of_the_model(tmp_path, positions):
    run = write_run(tmp_path / "run", positions=positions)
    config = ModelConfig(
        n_layer=4, n_head=4, n_embd=64, block_size=128, vocab_size=4096, positions=PositionsConfig(positions)
    )
    model = GPT(config)
    change_summary(run, parameters=model.num_parameters())
    (found,) = analyze(runs=[str(run)]).runs
    assert found.numbers["parameters_without_embeddings"] == model.num_parameters_without_embeddings()
    vectors = sum(parameter.numel() for parameter in model.blocks.parameters() if parameter.ndim == 1)
    extra = 6 * (vectors + 2 * 64)  # the configuration does not tell vectors from matrices; they are few
    assert found.numbers["flops_per_token"] == flops_per_token(model, 128) + extra
    change_summary(run, parameters_without_embeddings=7, flops_per_token=8)
    (found,) = analyze(runs=[str(run)]).runs
    assert (found.numbers["parameters_without_embeddings"], found.numbers["flops_per_token"]) == (7, 8)
