"""Which runs of a folder are evaluated."""

import json

from gpt2lab.commands.evaluation import is_sweep, sweep_runs


def test_runs_of_a_sweep_are_found_without_links(tmp_path):
    """As they are in a copy by ``rsync -r``, which leaves links out."""
    for name, status in (("a", "completed"), ("b", "stopped"), ("c", "completed"), ("without_checkpoint", "completed")):
        (tmp_path / name / "checkpoints" / "step_00000001").mkdir(parents=True)
        (tmp_path / name / "summary.json").write_text(json.dumps({"status": status}))
        (tmp_path / name / "config.yaml").write_text("seed: 1")
    (tmp_path / "without_checkpoint" / "checkpoints" / "step_00000001").rmdir()
    (tmp_path / "a" / "checkpoints" / "last").symlink_to("step_00000001")
    assert is_sweep(tmp_path)
    assert not is_sweep(tmp_path / "c")
    assert [run.name for run in sweep_runs(tmp_path)] == ["a", "c"]
