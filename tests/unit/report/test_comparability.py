"""Runs of synthetic sweeps that are not compared with the others, and why."""

import json
import shutil

import numpy as np
import pytest
import yaml

from gpt2lab.report.analysis import analyze
from gpt2lab.report.compare import SIGNED_RANKS
from gpt2lab.report.html import as_html
from gpt2lab.report.run_status import NO_SEED, OTHER_TOKENIZERS
from gpt2lab.report.text_formats import as_markdown
from tests.unit.report.synthetic import (
    ROPE,
    TOKENS,
    change_summary,
    of,
    read_record,
    write_record,
    write_run,
    write_sizes,
    write_sweep,
)


def validate_at(run, shares):
    """Replace the validations of a run by those at some shares of its training, the loss still falling."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    loss = json.loads((run / "summary.json").read_text())["val_loss"]
    validations = [
        {"step": int(800 * share), "tokens": int(TOKENS * share), "val_loss": loss + 2 * (1 - share)}
        for share in shares
    ]
    lines = [line for line in lines if "val_loss" not in line] + validations
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_average_of_other_moments_of_training_is_not_compared(tmp_path):
    """Of a loss that still falls, the last three of ten validations are lower than the last three of five."""
    folder = write_sweep(tmp_path / "s", norms=("layernorm",), effects={"rope": 0.0})
    for seed in range(5):
        validate_at(of(folder, "learned", seed), np.linspace(0.1, 1, 10))
        validate_at(of(folder, "rope", seed), np.linspace(0.2, 1, 5))
    assert analyze(folder).conditions[1].comparison.verdict == "equivalent"
    report = analyze(folder, average=3)
    assert {run.condition for run in report.runs if run.apart} == {ROPE}
    assert any(
        "the averaged validations differ: 327,680, 163,840, 0 tokens before the end, not 163,840, 81,920, 0" in warning
        for warning in report.warnings
    )
    report = analyze(folder, average=3, allow=["averaged"])
    assert report.conditions[1].comparison.mean == pytest.approx(0.2, abs=0.01)  # of 2 x (1 - share), 0.2 later


def change_config(run, **values):
    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    for key, value in values.items():
        section, _, name = key.partition("__")
        config.setdefault(section, {})[name] = value
    file.write_text(yaml.safe_dump(config))


def test_runs_of_a_condition_with_other_settings_are_shown_apart(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=6, norms=("layernorm",))
    for run in folder.glob("positions=*"):
        late = "rope" in run.name and run.name[-1] in "345"  # as many as the others of their condition
        change_config(run, optimizer__lr=0.02 if late else 0.005, model__n_embd=128 if late else 64)
        change_config(run, training__eval_every=int(run.name[-1]), runtime__profile=late)  # change no result
    report = analyze(folder)
    apart = [run for run in report.runs if run.apart]
    assert [(run.condition, run.seed) for run in apart] == [(ROPE, 3), (ROPE, 4), (ROPE, 5)]
    assert apart[0].apart == (
        "other settings than most runs of its condition: model.n_embd=128, not 64; optimizer.lr=0.02, not 0.005"
    )
    assert any("optimizer.lr=0.02, not 0.005" in warning for warning in report.warnings)
    assert report.conditions[1].comparison.seeds == [0, 1, 2]
    assert analyze(folder, allow=["settings"]).conditions[1].comparison.seeds == [0, 1, 2, 3, 4, 5]


def test_settings_may_differ_between_conditions_as_tuned_ones_do(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for run in folder.glob("positions=*"):
        change_config(run, optimizer__lr=0.02 if "rope" in run.name else 0.005)
    assert not any(run.apart for run in analyze(folder).runs)


def test_runs_that_are_not_compared_do_not_decide_the_settings_of_a_condition(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for seed in range(5):
        change_config(of(folder, "rope", seed), optimizer__lr=0.02 if seed > 1 else 0.005)
        if seed > 1:
            change_summary(of(folder, "rope", seed), data_fingerprint="other")
    report = analyze(folder)
    assert report.conditions[1].comparison.seeds == [0, 1]


def test_runs_without_a_seed_are_shown_apart(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    runs = sorted(map(str, folder.glob("positions=*")))
    for seed in (0, 1):
        file = of(folder, "rope", seed) / "config.yaml"
        file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "seed"}))
    report = analyze(runs=runs)
    assert [run.apart for run in report.runs if run.seed is None] == [NO_SEED] * 2
    assert report.conditions[1].comparison.seeds == [2, 3, 4]
    assert any("no seed in its config.yaml" in warning for warning in report.warnings)
    report = analyze(runs=[str(of(folder, "rope", seed)) for seed in (0, 1)])
    assert not any(run.is_counted for run in report.runs)
    as_markdown(report, [])
    as_html(report)


def stop_diverged(folder, names):
    """What a run leaves that diverged at a quarter of its length and stopped."""
    record = json.loads((folder / "sweep.json").read_text())
    for name in names:
        path = folder / name / "summary.json"
        summary = json.loads(path.read_text())
        kept = {key: value for key, value in summary.items() if not key.startswith(("val_", "unigram"))}
        stopped = {"status": "failed: step 40: loss nan: training diverged", "tokens": summary["tokens"] // 4}
        path.write_text(json.dumps(kept | stopped))
        for job in record["jobs"]:
            if job["run_dir"] == name:
                job |= {"status": "failed", "error": "exit status 2: step 40: loss nan: training diverged"}
    (folder / "sweep.json").write_text(json.dumps(record))


@pytest.mark.parametrize("as_sweep", [True, False])
def test_run_that_diverged_and_stopped_counts_as_the_worst(tmp_path, as_sweep):
    folder = write_sweep(tmp_path / "s", seeds=7, norms=("layernorm",), effects={"rope": -0.05})
    stop_diverged(folder, [of(folder, "rope", seed).name for seed in range(6)])
    report = analyze(folder) if as_sweep else analyze(runs=[str(run) for run in sorted(folder.glob("positions=*"))])
    rope = report.conditions[1]
    assert (rope.diverged, len(rope.values)) == (6, 1)
    assert rope.comparison.test == SIGNED_RANKS
    assert rope.comparison.verdict == "worse"
    assert not any(run.apart for run in report.runs)


def test_where_most_runs_diverged_and_stopped_the_finished_ones_are_the_reference(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=4, norms=("layernorm",), effects={"rope": -0.05})
    stop_diverged(folder, [of(folder, "rope", seed).name for seed in range(4)] + [of(folder, "learned", 0).name])
    report = analyze(folder)
    assert [(len(c.values), c.diverged) for c in report.conditions] == [(3, 1), (0, 4)]
    assert not any(run.apart for run in report.runs)


def test_run_that_diverged_in_a_longer_training_is_compared_with_the_longer_ones(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=4, norms=("layernorm",), lengths=(TOKENS, 2 * TOKENS))
    longer = [
        run
        for run in sorted(folder.glob("*rope*"))
        if json.loads((run / "summary.json").read_text())["tokens"] > TOKENS
    ]
    stop_diverged(folder, [longer[0].name])
    (run,) = [run for run in analyze(folder).runs if run.diverged]
    assert run.facts["tokens"] == str(2 * TOKENS)


def test_changes_of_code_since_a_commit_are_part_of_it(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for seed, (file, line) in enumerate(
        [("a.py", "x"), ("a.py", "x"), ("a.py", "x"), ("a.py", "y"), ("notes.md", "x")]
    ):
        path = of(folder, "rope", seed) / "environment.json"
        diff = f"diff --git a/{file} b/{file}\n+{line}\n"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"git_changed_files": f" M {file}", "git_diff": diff})
        )
    by_seed = {run.seed: run.facts["commit"] for run in analyze(folder).runs if "rope" in run.condition}
    assert by_seed[0] == by_seed[1] == by_seed[2] != by_seed[3]
    assert by_seed[4] == "1" * 12


@pytest.mark.parametrize("package", ["torch", "gpt2lab"])
def test_run_of_another_version_is_shown_apart(tmp_path, package):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for path in folder.glob("*/environment.json"):
        packages = {"torch": "2.9.0", "gpt2lab": "0.1.0", "scipy": "1.15.0"}
        if path.parent == of(folder, "rope", 2):
            packages |= {package: "9.9", "scipy": "1.16.0"}
        elif path.parent == of(folder, "rope", 3):
            packages |= {"scipy": "1.16.0"}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"packages": packages}))
    report = analyze(folder)
    (apart,) = [run for run in report.runs if run.apart]
    assert (apart.seed, "rope" in apart.condition) == (2, True)
    assert apart.apart.startswith("versions differ: torch ")
    assert f"{package} 9.9" in apart.apart
    assert report.conditions[1].comparison.seeds == [0, 1, 3, 4]
    assert analyze(folder, allow=["versions"]).conditions[1].comparison.seeds == [0, 1, 2, 3, 4]


def test_method_names_what_allowed_runs_differ_in(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=4, norms=("layernorm",))
    assert "(nats), at equal tokens and on the same validation windows." in analyze(folder).method[0]
    for seed in range(4):
        change_summary(of(folder, "rope", seed), tokens=2 * TOKENS, val_tokens=999)
    report = analyze(folder, allow=["tokens", "validation", "commit"])
    assert "after different numbers of tokens and on different validation windows." in report.method[0]
    assert f"Compared although tokens trained on differ (allow=[tokens]): {TOKENS}; {2 * TOKENS}." in report.warnings
    assert any("the validation windows differ (allow=[validation]): 32768 tokens" in w for w in report.warnings)
    assert not any("commit" in warning for warning in report.warnings)  # allowed, and equal
    for seed in range(4):
        change_config(of(folder, "rope", seed), optimizer__lr=seed // 2)
    report = analyze(folder, allow=["tokens", "validation", "settings"])
    assert f"{ROPE}: compared although its runs differ in optimizer.lr (allow=[settings])." in report.warnings


def test_method_of_runs_that_are_equally_long_for_their_size(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 1.7 + 300 * n**-0.4))
    assert "after 20 tokens for each parameter and on the same validation windows." in report.method[0]
    assert "equal tokens" not in as_markdown(report, [])


def test_curves_of_different_tokenizers_are_a_warning(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    assert not any("different tokenizers" in warning for warning in analyze(folder).warnings)
    for seed in range(5):
        change_config(of(folder, "rope", seed), model__vocab_size=8192)
        change_summary(of(folder, "rope", seed), data_fingerprint="other")
    assert OTHER_TOKENIZERS in analyze(folder).warnings
    report = analyze(folder, allow=["data"])
    assert OTHER_TOKENIZERS not in report.warnings
    assert any("different tokenizers" in warning for warning in report.warnings)
    assert "Compared although the data differs (allow=[data]): abc; other." in report.warnings


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"data_fingerprint": "other"}, "the data differs"),
        ({"tokens": 5}, "tokens trained on differ"),
        ({"val_tokens": 5}, "the validation windows differ"),
        ({"precision": "bf16"}, "the precision differs"),
        ({"device": "NVIDIA H200"}, "the device differs"),
    ],
)
def test_unequal_run_is_shown_apart(tmp_path, change, fact):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    change_summary(of(folder, "rope", 2), **change)
    report = analyze(folder)
    apart = [run for run in report.runs if run.apart]
    assert [run.seed for run in apart] == [2]
    assert apart[0].apart.startswith(fact)
    assert any(fact in warning for warning in report.warnings)
    assert report.conditions[1].comparison.seeds == [0, 1, 3, 4]
    key = {"data_fingerprint": "data", "val_tokens": "validation"}.get(next(iter(change)), next(iter(change)))
    assert analyze(folder, allow=[key]).conditions[1].comparison.seeds == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("data", "packing", "documents"), ("data", "document_masking", True), ("training", "sequence_length", 64)],
)
def test_runs_with_other_validation_targets_are_not_compared(tmp_path, section, key, value):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for seed in range(5):
        file = of(folder, "rope", seed) / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config[section][key] = value
        file.write_text(yaml.safe_dump(config))
    apart = [run for run in analyze(folder).runs if run.apart]
    assert len(apart) == 5
    assert all("the validation windows differ" in run.apart for run in apart)


def test_failed_run_is_named_and_not_counted(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    record = read_record(folder)
    record["jobs"][-1] |= {"status": "failed", "error": "out of memory"}
    write_record(folder, record)
    shutil.rmtree(folder / record["jobs"][-1]["run_dir"])
    report = analyze(folder)
    assert any("out of memory; rerun with the same seed" in warning for warning in report.warnings)
    assert report.conditions[1].unfinished == 1
    assert report.conditions[1].comparison.seeds == [0, 1, 2, 3]


def test_same_seed_run_twice_is_shown_apart(tmp_path):
    runs = [write_run(tmp_path / f"r{i}", 0, 3.1) for i in range(2)]
    report = analyze(runs=[str(run) for run in runs])
    assert [bool(run.apart) for run in report.runs] == [False, True]
    assert "with the same result" in report.runs[1].apart


def test_other_code_of_an_own_class_is_shown_apart(tmp_path):
    """Runs without such a class have no code of its module, and are compared with those of most runs that have."""
    folder = write_sweep(tmp_path / "s", positions=("learned",), norms=("layernorm", "own:Norm"), seeds=4)
    assert not any(run.apart for run in analyze(folder).runs)
    for path in folder.glob("*own:Norm*/environment.json"):
        code = ("b" if path.parent.name.endswith("3") else "a") * 64
        path.write_text(json.dumps(json.loads(path.read_text()) | {"own_code": {"own": code}}))
    (apart,) = [run for run in analyze(folder).runs if run.apart]
    assert apart.apart == f"the commit differs: {'1' * 12} + own bbbbbbb, not {'1' * 12} + own aaaaaaa"
    assert (apart.seed, "own:Norm" in apart.condition) == (3, True)
    report = analyze(folder, allow=["commit"])
    assert report.conditions[1].comparison.seeds == [0, 1, 2, 3]
    assert any("Compared although the commit differs" in warning for warning in report.warnings)
