"""What the plot of a run shows."""

import json

from gpt2lab.report import run_plots


def test_a_run_without_a_training_loss_shows_its_validation_alone(tmp_path, monkeypatch):
    """As a branch has it that ends where it begins; matplotlib would take the style for a category of losses."""
    lines = [{"step": 1, "tokens": 10, "loss": None}, {"step": 2, "tokens": 20, "val_loss": 3.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    drawn = []
    monkeypatch.setattr(run_plots, "save_figure", lambda figure, path, **_: drawn.append(figure))
    run_plots.plot_loss(tmp_path)
    training, validation = drawn[0].axes[0].get_lines()
    assert len(training.get_xdata()) == 0
    assert (list(validation.get_xdata()), list(validation.get_ydata())) == ([20], [3.5])
