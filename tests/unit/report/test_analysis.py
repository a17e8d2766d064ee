"""Reports of synthetic sweeps whose effects are known; divergence, unequal runs and bad input."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
import yaml
from scipy import stats

from gpt2lab.config import ModelConfig, PositionsConfig, ReportJob, UserError
from gpt2lab.model import GPT
from gpt2lab.report import plots
from gpt2lab.report.analysis import analyze
from gpt2lab.report.compare import DUNNETT, HOLM, SIGNED_RANKS, WELCH, Outcomes, compare_all
from gpt2lab.report.html import as_html
from gpt2lab.report.run_status import NO_SEED, OTHER_TOKENIZERS
from gpt2lab.report.tables import tuning_table
from gpt2lab.report.text_formats import as_csv, as_latex, as_markdown
from gpt2lab.report.words import speed_up_text
from gpt2lab.statistics.paired import detectable_difference
from gpt2lab.statistics.scaling import SpeedUp
from gpt2lab.training.throughput import flops_per_token
from tests.unit.report.synthetic import (
    TOKENS,
    add_tuning,
    change_summary,
    read_record,
    write_record,
    write_run,
    write_sweep,
)

ROPE, RMSNORM = "positions=rope, norm=layernorm", "positions=learned, norm=rmsnorm"
BASELINE = "positions=learned, norm=layernorm"


def conditions_of(report):
    return {condition.name: condition for condition in report.conditions}


def of(folder, positions, seed, norm="layernorm"):
    return folder / f"positions={positions},norm={norm},seed={seed}"


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


def test_the_verdict_of_one_comparison_has_size_interval_and_p(tmp_path):
    one = analyze(write_sweep(tmp_path / "one", norms=("layernorm",), seeds=3, noise=0.01))
    mean, interval, p = (getattr(one.conditions[1].comparison, name) for name in ("mean", "interval", "p"))
    assert one.verdict == (
        f"{ROPE} is better than {BASELINE}: its validation loss is {-mean:.4f} nats lower (95 % interval "
        f"{-interval[1]:.4f} to {-interval[0]:.4f}, p = {p:.3f}, 3 paired seeds)."
    )
    assert one.banner.startswith("Every comparison is decided")


def test_undecided_is_never_called_equal(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", seeds=3, noise=0.05, block=0.01, norms=("layernorm",)))
    assert conditions_of(report)["positions=rope, norm=layernorm"].comparison.verdict == "undecided"
    assert "does not show that they are equal" in report.verdict
    assert "no difference" not in as_markdown(report, [])
    assert report.banner.startswith("Under-powered")
    assert any("cannot reach 0.05" in line for line in report.method)


def test_study_without_any_answer_says_so_first(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", seeds=4, noise=0.3, block=0.01, effects={"rope": 0.0}, seed=1))
    assert report.verdict.startswith("Undecided: this study cannot tell any of the 3 other conditions")


def test_runs_without_a_common_seed_are_compared_as_independent_ones(tmp_path):
    values = {"learned": [3.0, 3.02, 2.99, 3.01], "rope": [2.9, 2.91, 2.93]}
    runs = [
        write_run(tmp_path / f"{positions}{n}", 10 * len(positions) + n, loss, positions)
        for positions, losses in values.items()
        for n, loss in enumerate(losses)
    ]
    report = analyze(runs=list(map(str, runs)))
    comparison = report.conditions[1].comparison
    expected = stats.ttest_ind(values["rope"], values["learned"], equal_var=False)
    assert comparison.test == WELCH
    assert (comparison.mean, comparison.p) == pytest.approx((2.74 / 3 + 2 - 3.005, expected.pvalue))
    bounds = expected.confidence_interval()
    assert comparison.interval == pytest.approx((bounds.low, bounds.high))
    assert comparison.verdict == "better"
    assert "3 and 4 runs, not paired" in report.verdict
    assert any("compared as independent runs, by Welch's t" in warning for warning in report.warnings)
    assert "Welch's t" in as_markdown(report, [])
    assert as_html(report)


def test_all_pairs_are_those_of_tukey_on_the_block_model(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", noise=0.01))
    names = [condition.name for condition in report.conditions]
    y_CS = np.array([[c.values[s] for s in range(5)] for c in report.conditions])
    # scipy's Tukey works on independent groups: fit the blocks by hand and use its distribution
    residual = y_CS - y_CS.mean(1, keepdims=True) - y_CS.mean(0) + y_CS.mean()
    error = math.sqrt((residual**2).sum() / 12 / 5)
    assert len(report.pairs) == 6
    for pair in report.pairs:
        difference = np.diff(y_CS[[names.index(pair.other), names.index(pair.condition)]].mean(1))[0]
        assert pair.mean == pytest.approx(difference)
        assert pair.p == pytest.approx(stats.studentized_range.sf(abs(difference) / error, 4, 12), abs=1e-9)
        half = stats.studentized_range.ppf(0.95, 4, 12) * error
        assert pair.interval == pytest.approx((difference - half, difference + half))
    assert "## All pairs" in as_markdown(report, [])
    assert not analyze(write_sweep(tmp_path / "two", norms=("layernorm",))).pairs


def test_an_interaction_above_the_margin_is_a_warning(tmp_path):
    folder = write_sweep(tmp_path / "s")
    assert not [warning for warning in analyze(folder).warnings if "Interaction" in warning]
    for seed in range(5):
        run = of(folder, "rope", seed, "rmsnorm")
        change_summary(run, val_loss=json.loads((run / "summary.json").read_text())["val_loss"] + 0.08)
    (warning,) = [warning for warning in analyze(folder).warnings if "Interaction" in warning]
    assert "read the conditions, not the main effects" in warning


def test_average_takes_the_last_validations(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    report = analyze(folder, average=3)
    lines = [json.loads(line) for line in (of(folder, "rope", 2) / "metrics.jsonl").read_text().splitlines()]
    last = [line["val_loss"] for line in lines if "val_loss" in line][-3:]
    assert conditions_of(report)[ROPE].values[2] == pytest.approx(sum(last) / 3)
    assert any("as the mean of each run's last 3 validations" in line for line in report.method)
    report = analyze(folder, average=11)
    assert any("fewer than average=11 finite validations" in warning for warning in report.warnings)
    with pytest.raises(UserError, match="average=3 and metric=val_perplexity: only val_loss"):
        ReportJob(sweep="s", average=3, metric="val_perplexity")


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


def test_named_baseline_by_its_name_or_its_values(tmp_path):
    folder = write_sweep(tmp_path / "s")
    for name in ("positions=rope, norm=layernorm", "positions=rope,norm=layernorm", "rope,layernorm"):
        report = analyze(folder, baseline=name)
        assert report.baseline == ROPE
        assert conditions_of(report)[BASELINE].comparison.verdict == "worse"


def test_higher_is_better_turns_the_verdict(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",)), metric="tokens_per_second", margin=1.0)
    assert report.conditions[1].comparison.verdict == "worse"


def test_unequal_spread_is_tested_by_holm(tmp_path):
    folder = write_sweep(tmp_path / "s")
    for seed in range(5):
        change_summary(of(folder, "rope", seed), val_loss=3.0 + 0.2 * seed)
    report = analyze(folder)
    assert all(c.comparison.test == HOLM for c in report.conditions[1:])


def test_diverged_run_counts_as_the_worst(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=7, norms=("layernorm",), effects={"rope": -0.05})
    for seed in range(6):
        change_summary(of(folder, "rope", seed), val_loss=None)
    report = analyze(folder)
    rope = report.conditions[1]
    assert rope.comparison.test == SIGNED_RANKS
    assert (rope.diverged, len(rope.values)) == (6, 1)
    assert rope.comparison.verdict == "worse"
    assert rope.comparison.mean < 0  # conditional on finishing, which the sentence says
    assert "where both finished" in rope.comparison.sentence
    assert rope.comparison.fisher_p < 0.01
    assert sum(math.isinf(d) for d in rope.comparison.differences) == 6
    assert any("6 of 7 runs diverged" in warning for warning in report.warnings)


@pytest.mark.parametrize(("seeds", "enough"), [(5, False), (7, True)])
def test_power_with_a_diverged_run_is_that_of_signed_ranks(tmp_path, seeds, enough):
    """With two comparisons 2 x 2/2^6 = 0.0625 and 2 x 2/2^7 = 0.031, so it takes seven seeds."""
    folder = write_sweep(
        tmp_path / "s", seeds=seeds, norms=("layernorm",), positions=("learned", "rope", "none"), effects={"none": 0.03}
    )
    change_summary(of(folder, "none", 1), status="failed: training diverged", val_loss="remove")
    report = analyze(folder)
    assert [c.comparison.detectable for c in report.conditions[1:]] == [None, None]
    assert all(("signed ranks reach 0.05 with 7 seeds or more" in line) for line in report.noise[1:])
    assert [c.comparison.verdict for c in report.conditions[1:]] == (
        ["better", "worse"] if enough else ["undecided"] * 2
    )
    assert bool(report.banner) != enough
    if not enough:
        assert "with 5 paired seeds and 2 comparisons their p cannot fall below 0.05" in report.banner


def test_verdict_of_signed_ranks_has_the_direction_of_their_sums():
    """Sixteen small losses against fourteen large gains: scipy's one-sided test says which way."""
    d = np.r_[np.arange(1, 17) * 0.001, -np.arange(17, 30) * 0.01]
    baseline = {i: 3.0 + 0.001 * i for i in range(30)}
    variant = {**{i: baseline[i] + d[i] for i in range(29)}, 29: 3.0}
    baseline[29] = math.nan
    (comparison,), test = compare_all(
        [Outcomes("v", variant)], Outcomes("b", baseline), "val_loss", 0.01, lower_is_better=True
    )
    assert test == SIGNED_RANKS
    assert stats.wilcoxon([*d, -1.0], alternative="less").pvalue < 0.025
    assert comparison.verdict == "better"


def test_seeds_needed_are_those_of_the_test_in_use(tmp_path):
    folder = write_sweep(tmp_path / "s", noise=0.01)
    for seed in range(5):
        change_summary(of(folder, "rope", seed), val_loss=3.0 + 0.2 * seed)
    report = analyze(folder)
    rmsnorm = conditions_of(report)[RMSNORM].comparison
    assert rmsnorm.test == HOLM
    needed = next(
        n
        for n in range(2, 1000)
        if detectable_difference(rmsnorm.sd / math.sqrt(n), n - 1, stats.t.ppf(1 - 0.025 / 3, n - 1)) <= 0.01
    )
    (line,) = [line for line in report.noise if line.startswith(RMSNORM)]
    assert line.endswith(f"seeds needed for ±0.01: {needed}.")


def test_one_shared_seed_is_a_warning_as_none_is(tmp_path):
    runs = [
        write_run(tmp_path / f"{positions}{seed}", seed, loss + 0.01 * (seed % 3), positions)
        for positions, seeds, loss in (("learned", (0, 1, 2, 3), 3.1), ("rope", (3, 4, 5, 6), 3.0))
        for seed in seeds
    ]
    report = analyze(runs=list(map(str, runs)))
    assert report.conditions[1].comparison.test == WELCH
    assert (
        "positions=rope: 1 seed in common with the baseline, compared as independent runs, by Welch's t."
        in report.warnings
    )


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


def test_loss_above_unigram_entropy_is_diverged(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    change_summary(of(folder, "rope", 0), val_loss=6.0)
    assert analyze(folder).conditions[1].diverged == 1


def test_short_study_that_stays_above_unigram_entropy_is_not_diverged(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for run in folder.glob("positions=*"):
        change_summary(run, unigram_loss=1.0)
    assert not any(run.diverged for run in analyze(folder).runs)


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


def test_chaotic_training_is_named(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for seed, (learned, rope) in enumerate([(3.10, 3.05), (3.12, 3.02), (3.08, 3.06), (3.11, 3.04), (3.09, 3.05)]):
        change_summary(of(folder, "learned", seed), val_loss=learned)
        change_summary(of(folder, "rope", seed), val_loss=rope)
    report = analyze(folder)
    assert report.conditions[1].comparison.correlation < 0.2
    assert any("Pairing fails, training is chaotic" in warning for warning in report.warnings)


def test_two_kinds_of_outcome_are_flagged(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=7, norms=("layernorm",), noise=0.001, block=0.002)
    for seed in (1, 4):
        change_summary(of(folder, "learned", seed), val_loss=3.6)
    report = analyze(folder)
    assert report.conditions[0].two_modes.upper == 2
    assert any("two kinds of outcome" in warning for warning in report.warnings)


def test_speed_up_from_runs_of_several_lengths(tmp_path):
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS, 2 * TOKENS)
    as_good_as_more_tokens = 60 * ((1.7 * TOKENS) ** -0.3 - TOKENS**-0.3)  # within the baseline's lengths
    effects = {"rope": as_good_as_more_tokens}
    sizes = {"noise": 0.0002, "block": 0.0002}
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",), lengths=lengths, effects=effects, **sizes))
    rope = report.conditions[1]
    assert rope.name == "positions=rope, norm=layernorm"  # the length is no factor
    assert rope.comparison.seeds == [0, 1, 2, 3, 4]
    assert sum(bool(run.apart) for run in report.runs) == 30  # of the other lengths
    assert rope.speed_up.factor == pytest.approx(1.7, rel=0.05)
    assert rope.speed_up.interval[0] < rope.speed_up.factor < rope.speed_up.interval[1] * 1.0001
    assert speed_up_text(rope.speed_up).startswith(("1.6", "1.7", "1.8"))


@pytest.mark.parametrize(
    ("speed_up", "text"),
    [
        (SpeedUp(1.7, (1.5, math.inf), TOKENS), "1.70 [1.50, above the longest] at 819k tokens"),
        (SpeedUp(0.0, (0.0, 0.4), TOKENS), "below the shortest [below the shortest, 0.40] at 819k tokens"),
        (SpeedUp(math.inf, None, 2e6), "above the longest at 2M tokens"),
    ],
)
def test_speed_up_names_the_length_and_the_side_of_those_measured(speed_up, text):
    assert speed_up_text(speed_up) == text


def test_speed_up_is_of_the_longest_runs_within_the_measured_lengths(tmp_path):
    """At the full length the variant is better than the baseline's longest run, at half of it it is not."""
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS)
    as_good_as_more_tokens = 60 * ((0.8 * TOKENS) ** -0.3 - (TOKENS // 2) ** -0.3)
    effects, sizes = {"rope": as_good_as_more_tokens}, {"noise": 0.0002, "block": 0.0002}
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",), lengths=lengths, effects=effects, **sizes))
    found = report.conditions[1].speed_up
    assert (found.tokens, found.factor) == (TOKENS // 2, pytest.approx(1.6, rel=0.05))
    assert "at 410k tokens" in as_markdown(report, [])


def test_main_effects_say_over_how_many_seeds(tmp_path):
    folder = write_sweep(tmp_path / "s")
    change_summary(of(folder, "rope", 3), status="stopped")
    report = analyze(folder)
    assert {effect.seeds for effect in report.effects} == {4}
    assert "over the 4 seeds that all cells have" in as_markdown(report, [])
    assert "over the 4 seeds that all cells have" in as_html(report)


def test_reruns_do_not_enter_the_speed_up(tmp_path):
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS)
    folder = write_sweep(tmp_path / "s", seeds=3, norms=("layernorm",), lengths=lengths, noise=0.01)
    expected = analyze(folder).conditions[1].speed_up
    record = read_record(folder)
    for job in list(record["jobs"]):
        if "learned" in job["name"] and job["name"].endswith("seed=0"):
            name = f"z-{job['name']}"
            shutil.copytree(folder / job["name"], folder / name)
            change_summary(folder / name, val_loss=2.0)
            record["jobs"].append({**job, "name": name, "run_dir": name})
    write_record(folder, record)
    report = analyze(folder)
    assert sum("a rerun of" in run.apart for run in report.runs) == 1  # those of other lengths are apart anyway
    assert report.conditions[1].speed_up == expected


def test_speed_up_without_several_lengths_says_what_it_needs(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",)))
    assert report.conditions[1].speed_up is None
    assert "runs of several lengths" in report.speed_up_note


def write_sizes(folder, loss_of, widths=(32, 64, 128, 256, 512), seeds=3):
    """Runs of several widths with 20 tokens for each of their parameters."""
    rng, paths = np.random.default_rng(0), []
    for width, seed in itertools.product(widths, range(seeds)):
        parameters = 2_000 * width + 48 * width**2
        path = write_run(
            folder / f"n_embd={width},seed={seed}", seed, loss_of(parameters) + rng.normal(0, 0.003),
            tokens=20 * parameters,
        )  # fmt: skip
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["model"]["n_embd"], config["training"]["tokens_per_parameter"] = width, 20
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        change_summary(path, parameters=parameters)
        paths.append(str(path))
    return paths


def test_loss_by_size_is_fitted_where_tokens_follow_parameters(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 1.7 + 300 * n**-0.4))
    assert not any(run.apart for run in report.runs)  # they are equally long for their sizes
    (row,) = report.scaling
    assert row.fit.curve.exponent == pytest.approx(0.4, abs=0.02)
    assert row.fit.exponent_interval[0] < 0.4 < row.fit.exponent_interval[1]
    assert "within noise" in row.sentence
    assert "## Scaling" in as_markdown(report, [])
    assert "<h2>Scaling</h2>" in as_html(report)


def test_bad_fit_of_the_loss_by_size_is_called_one(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 1.7 + 300 * max(n, 2e6) ** -0.4 + n * 1e-9))
    assert "Bad fit" in report.scaling[0].sentence


def test_three_sizes_that_the_curve_misses_are_a_bad_fit(tmp_path):
    """A concave loss has no exponent: with a floor of 0 the curve misses the mean of the middle size."""
    widths = (24, 64, 144)
    concave = dict(zip(widths, (3.5, 3.45, 3.2), strict=True))
    by_parameters = {2_000 * width + 48 * width**2: loss for width, loss in concave.items()}
    report = analyze(runs=write_sizes(tmp_path / "bad", by_parameters.get, widths))
    assert "Bad fit: the means deviate" in report.scaling[0].sentence
    assert "bad fit" in str([line.get_label() for line in plots.plot_scaling(report).axes[0].lines])
    report = analyze(runs=write_sizes(tmp_path / "good", lambda n: 1.7 + 300 * n**-0.4, widths))
    assert "goes through three sizes (here it misses their means by up to 0.000" in report.scaling[0].sentence


def test_exponent_at_the_bound_of_the_search_is_not_determined(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 3.5 if n < 1e5 else 3.2, (24, 64, 144)))
    assert "at the bound of the search (0.005 to 8), so it is not determined" in report.scaling[0].sentence


def test_sizes_with_equal_tokens_have_no_scaling(tmp_path):
    assert analyze(write_sweep(tmp_path / "s")).scaling == []


def test_tuning_is_shown_with_a_warning_at_the_edge(tmp_path):
    folder = write_sweep(tmp_path / "s")
    add_tuning(folder)
    report = analyze(folder)
    own, other = report.tuning
    assert (own.at_edge, other.at_edge) == (False, True)
    assert other.at_baseline_rate == pytest.approx(np.interp(np.log(0.0042), np.log([0.004, 0.008]), [3.1, 3.05]))
    assert any("edge" in warning for warning in report.warnings)


SAME_TUNING = "Each condition had the same values and seeds."


def add_tuning_jobs(folder):
    """Completed tuning jobs of every condition: two values, two seeds."""
    record = read_record(folder)
    conditions = list(dict.fromkeys(job["condition"] for job in record["jobs"]))
    for condition, value, seed in itertools.product(conditions, ("0.001", "0.002"), ("101", "102")):
        name = f"tuning/{condition},lr={value},seed={seed}"
        overrides = [*condition.split(","), f"optimizer.lr={value}", f"seed={seed}"]
        job = {"name": name, "condition": condition, "overrides": overrides, "run_dir": name, "status": "completed"}
        record["jobs"].append({**job, "attempts": 1, "error": None, "tuning": True})
    write_record(folder, record)


def test_tuning_says_whether_conditions_had_the_same_runs_and_names_missing_ones(tmp_path):
    folder = write_sweep(tmp_path / "s")
    add_tuning(folder)
    add_tuning_jobs(folder)
    report = analyze(folder)
    assert report.tuning_note.endswith(SAME_TUNING)
    assert SAME_TUNING in as_html(report)
    assert not any("Without a result" in warning for warning in report.warnings)

    record = read_record(folder)
    record["jobs"][-1] |= {"status": "failed", "error": "exit status 2: step 9: loss nan; training diverged"}
    write_record(folder, record)
    assert analyze(folder).tuning_note.endswith(SAME_TUNING)  # a diverged run is a result

    record["jobs"][-1]["error"] = "killed by SIGKILL"
    write_record(folder, record)
    report = analyze(folder)
    (warning,) = (warning for warning in report.warnings if "Without a result" in warning)
    assert f"1 of 16 tuning runs ({record['jobs'][-1]['name']})" in warning
    assert "The conditions did not all have the same values and seeds." in as_markdown(report, [])
    assert SAME_TUNING not in as_markdown(report, [])


def test_tuning_is_labelled_with_the_validation_loss_under_every_metric(tmp_path):
    folder = write_sweep(tmp_path / "s")
    for run in folder.glob("positions=*"):
        change_summary(run, val_bits_per_byte=json.loads((run / "summary.json").read_text())["val_loss"] / 3)
    add_tuning(folder)
    report = analyze(folder, metric="val_bits_per_byte")
    (axes,) = plots.plot_tuning(report).axes
    assert (max(axes.lines[0].get_ydata()), axes.get_ylabel()) == (3.4, "val_loss (nats per token)")
    assert tuning_table(report).headings[2] == "lowest mean val_loss"
    assert "val_loss 3.020 to 3.400 nats per token" in as_html(report)


@pytest.mark.parametrize(("metric", "edge"), [("val_loss", 1), ("tokens_per_second", 0)])
def test_diverged_seeds_are_counted_at_the_edge_of_the_differences(tmp_path, metric, edge):
    folder = write_sweep(tmp_path / "s", seeds=6, norms=("layernorm",))
    for seed in (1, 2):
        change_summary(of(folder, "rope", seed), status="failed: training diverged", val_loss="remove")
    report = analyze(folder, metric=metric)
    (axes,) = plots.plot_differences(report).axes
    (text,) = axes.texts
    assert text.get_text().strip() == "2 diverged"
    assert text.get_position()[0] == edge  # a share of the width
    assert "seed 1: this condition diverged" in as_html(report)


def test_documents_are_compared_in_pairs(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",))
    rng = np.random.default_rng(0)
    tokens, hard = rng.integers(50, 500, 30), rng.normal(3, 0.5, 30)
    for positions, shift in (("learned", 0.0), ("rope", -0.05)):
        for seed in range(2):
            lines = [
                {"document": i, "nats": float(t * (h + shift)), "tokens": int(t), "bytes": int(4 * t)}
                for i, (t, h) in enumerate(zip(tokens, hard, strict=True))
            ]
            text = "\n".join(json.dumps(line) for line in lines)
            (of(folder, positions, seed) / "documents.jsonl").write_text(text)
    (row,) = analyze(folder).documents
    assert (row.documents, row.nats_per_token) == (30, pytest.approx(-0.05))
    assert row.interval == pytest.approx((-0.05, -0.05))


def test_documents_of_other_evaluations_are_not_mixed(tmp_path):
    """Evaluations of another stride or step, and of runs that are not compared, say nothing of the difference."""
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",), lengths=(TOKENS // 2, TOKENS))
    for run in folder.glob("positions=*"):
        steps = json.loads((run / "summary.json").read_text())["steps"]
        shift = 0.0 if steps == TOKENS // 1024 else 1.0  # shorter runs are not compared
        lines = [
            {"evaluation": name, "step": step, "corpus": "c", "protocol": "stream", "settings": settings, "document": i,
             "nats": 100.0 * (3 + own + i / 10), "tokens": 100}
            for name, step, settings, own in (
                ("a", steps, "one", shift), ("b", steps - 1, "one", 5.0 * ("rope" in run.name)),
                ("c", steps, "two" if "rope" in run.name else "three", 7.0),
            )
            for i in range(9)
        ]  # fmt: skip
        (run / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (row,) = analyze(folder).documents
    assert (row.documents, row.nats_per_token) == (9, pytest.approx(0.0))


def test_evaluations_of_the_same_documents_are_rows_of_their_own(tmp_path):
    """A document scored under two strides is one document; the interval is that of one evaluation."""
    rng = np.random.default_rng(0)
    tokens, hard, effect = rng.integers(200, 2000, 20), rng.normal(4, 0.4, 20), rng.normal(-0.05, 0.12, 20)

    def rows_with(name, evaluations):
        folder = write_sweep(tmp_path / name, seeds=2, norms=("layernorm",))
        for run in folder.glob("positions=*"):
            lines = [
                {"evaluation": settings, "corpus": corpus, "protocol": "stream", "settings": settings, "document": i,
                 "nats": float(tokens[i] * (hard[i] + times * effect[i] * ("rope" in run.name))),
                 "tokens": int(tokens[i])}
                for corpus, settings, times in evaluations
                for i in range(20)
            ]  # fmt: skip
            (run / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        report = analyze(folder)
        return {row.evaluation: row for row in report.documents}, report

    (alone,) = rows_with("one", [("val", "a", 1)])[0].values()
    rows, report = rows_with("three", [("val", "a", 1), ("val", "b", 1), ("wikitext2", "c", -3)])
    assert list(rows) == ["val, stream, a", "val, stream, b", "wikitext2, stream, c"]
    assert all(row.documents == 20 for row in rows.values())
    for name in ("val, stream, a", "val, stream, b"):
        assert (rows[name].nats_per_token, rows[name].interval) == (alone.nats_per_token, alone.interval)
    other = rows["wikitext2, stream, c"]
    assert other.nats_per_token == pytest.approx(-3 * alone.nats_per_token)
    ratios = [np.delete(tokens * effect, d).sum() / np.delete(tokens, d).sum() for d in range(20)]
    half = stats.t.ppf(0.975, 19) * math.sqrt(19 / 20 * ((ratios - np.mean(ratios)) ** 2).sum())
    assert alone.interval == pytest.approx((alone.nats_per_token - half, alone.nats_per_token + half))
    assert "| val, stream, b | 20 |" in as_markdown(report, [])
    assert "val, stream, b" in as_html(report)
    assert sum("fewer than 60 are too narrow" in warning for warning in report.warnings) == 3


def test_evaluations_that_cannot_be_told_apart_are_left_out(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",))
    for run in folder.glob("positions=*"):
        lines = [
            {"evaluation": name, "corpus": "c", "protocol": "stream", "document": i, "nats": nats, "tokens": 100}
            for name, nats in (("a", 300.0), ("b", 280.0 if "rope" in run.name else 300.0))
            for i in range(9)
        ]
        (run / "documents.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert analyze(folder).documents == []


def test_runs_that_were_no_sweep_are_told_apart_by_their_configs(tmp_path):
    runs = [
        write_run(tmp_path / f"{positions}{seed}", seed, loss, positions)
        for positions, loss in (("learned", 3.1), ("rope", 3.0))
        for seed in range(3)
    ]
    report = analyze(runs=[str(run) for run in runs])
    assert [c.name for c in report.conditions] == ["positions=learned", "positions=rope"]
    assert report.conditions[1].comparison.mean == pytest.approx(-0.1)


def test_same_seed_run_twice_is_shown_apart(tmp_path):
    runs = [write_run(tmp_path / f"r{i}", 0, 3.1) for i in range(2)]
    report = analyze(runs=[str(run) for run in runs])
    assert [bool(run.apart) for run in report.runs] == [False, True]
    assert "with the same result" in report.runs[1].apart


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


def test_sweep_that_has_no_result_yet(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for run in folder.glob("positions=*"):
        change_summary(run, status="running", val_loss="remove")
    report = analyze(folder)
    assert report.warnings[0] == "No run has val_loss yet."
    as_markdown(report, [])


def test_bad_input_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ({"sweep": tmp_path / "empty"}, "no run directory below it"),
        ({"sweep": tmp_path / "nowhere"}, "no such folder"),
        ({"runs": [str(tmp_path)]}, "expected run directories"),
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
