"""Which settings tell conditions apart, and those that a report says differ besides."""

import yaml

from gpt2lab.report.analysis import analyze
from tests.unit.report.synthetic import read_record, write_record, write_run, write_sweep

ALSO = "The conditions also differ in {}: a difference between them is that of all these settings together."


def change(run, **sections):
    """Set keys of sections of ``config.yaml``: ``optimizer={"lr": 1}``."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for section, values in sections.items():
        config[section] = config.get(section, {}) | values
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def of_two_positions(folder, seeds=6):
    """Runs that were no sweep."""
    return [
        write_run(folder / f"{positions}{seed}", seed, loss + 0.001 * (seed % 2), positions)
        for positions, loss in (("learned", 3.1), ("rope", 3.0))
        for seed in range(seeds)
    ]


def test_settings_that_change_with_a_factor_are_named(tmp_path):
    runs = of_two_positions(tmp_path)
    for run in runs:
        rope = "rope" in run.name
        change(run, optimizer={"lr": 0.02 if rope else 0.01}, model={"norm": {"name": "rms" if rope else "layer"}})
    report = analyze(runs=list(map(str, runs)))
    (warning,) = (warning for warning in report.warnings if "also differ" in warning)
    (name,) = report.factors
    assert warning == ALSO.format(f"model.{'positions' if name == 'norm' else 'norm'}.name, optimizer.lr")


def test_the_conditions_of_a_sweep_differ_in_its_axes_and_what_was_tuned(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    for run in folder.glob("positions=*"):
        change(run, optimizer={"lr": 0.02 if "rope" in run.name else 0.01}, model={"vocab_size": len(run.name)})
    assert ALSO.format("optimizer.lr") in analyze(folder).warnings
    write_record(folder, read_record(folder) | {"tuning_key": "optimizer.lr"})
    assert not any("also differ" in warning for warning in analyze(folder).warnings)


def test_two_machines_make_no_two_conditions_unless_nothing_else_differs(tmp_path):
    runs = of_two_positions(tmp_path)
    for run in runs:
        second = int(run.name[-1]) > 2
        change(run, data={"root": "/b" if second else "/a"}, training={"micro_batch_size": 4 if second else 8})
    report = analyze(runs=list(map(str, runs)))
    assert report.conditions[1].comparison.seeds == [0, 1, 2, 3, 4, 5]
    assert list(report.factors) == ["positions"]
    assert list(analyze(runs=list(map(str, runs[:6]))).factors) == ["root"]
