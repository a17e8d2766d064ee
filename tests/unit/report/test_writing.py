"""The files of a report: all are written, the page stays small, curves are reduced, W&B gets a copy offline."""

import json

import numpy as np
import pytest

from gpt2lab.commands.reporting import report, report_sweep
from gpt2lab.config import ReportJob
from gpt2lab.report.analysis import analyze
from gpt2lab.report.html import as_html
from gpt2lab.report.loading import bin_means, curves_of
from tests.unit.report.synthetic import TOKENS, add_tuning, write_sweep


def test_sweep_gets_every_file(tmp_path):
    folder = write_sweep(tmp_path / "study")
    add_tuning(folder)
    result = report_sweep(folder)
    names = {path.name for path in result.files}
    plots = {"differences.png", "loss_by_tokens.png", "loss_by_time.png", "tuning.png"}
    assert names == {"report.md", "report.html", "runs.csv", "table.tex", *plots}
    assert all(path.stat().st_size for path in result.files)
    assert all((folder / name).with_suffix(".svg").exists() for name in plots)
    for name in plots:
        assert f"({name})" in (folder / "report.md").read_text()


def test_report_of_runs_goes_where_it_is_told(tmp_path):
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=2)
    runs = [str(path.parent) for path in folder.glob("*/config.yaml")]
    report(ReportJob(runs=runs, out=str(tmp_path / "out")))
    assert (tmp_path / "out" / "report.html").exists()


def test_same_sweep_gives_the_same_files(tmp_path):
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=3)
    pages = []
    for _ in range(2):
        report_sweep(folder)
        pages.append([(folder / name).read_bytes() for name in ("report.html", "report.md", "differences.svg")])
    assert pages[0] == pages[1]


def test_page_of_two_hundred_runs_is_below_three_megabytes(tmp_path):
    page = as_html(analyze(write_sweep(tmp_path / "study", seeds=50, lines=300)))
    assert len(page.encode()) < 3_000_000
    assert not any(f"{start}http" in page for start in ('src="', 'href="', "url(", 'url("', 'import "'))


def test_curves_are_means_of_bins_with_seconds_from_throughput():
    lines = [{"step": n, "tokens": 10 * n, "loss": float(n), "tokens_per_second": 5} for n in range(1, 10_001)]
    curves = curves_of([*lines, {"tokens": 100_000, "val_loss": 3.0}])
    assert len(curves.loss) == 240
    assert curves.loss.mean() == pytest.approx(5000.5, rel=1e-3)
    assert curves.val_seconds == pytest.approx([20_000])
    assert np.isfinite(bin_means(np.array([[1.0, 1.0, np.nan], [1.0, 2.0, 3.0]]))).all()


def test_page_escapes_names(tmp_path):
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=2, positions=("learned", "<script>alert(1)"))
    page = as_html(analyze(folder))
    assert "<script>alert" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["conditions"][1].startswith("positions=<script>alert(1)")
    assert json.loads(data)["grids"]["val"]["tokens"][-1] == TOKENS


def test_wandb_copy_is_a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=2)
    report(ReportJob(sweep=str(folder), wandb=True))
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
