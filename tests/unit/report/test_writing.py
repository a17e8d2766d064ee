"""The files of a report: all are written, the page stays small, curves are reduced, W&B gets a copy offline."""

import csv
import json
import math

import numpy as np
import pytest
import yaml

from gpt2lab.commands.reporting import report, report_sweep
from gpt2lab.config import ReportJob
from gpt2lab.report.analysis import analyze
from gpt2lab.report.html import as_html
from gpt2lab.report.loading import bin_means, curves_of
from gpt2lab.report.text_formats import as_csv
from gpt2lab.runs import read_lines
from tests.unit.report.synthetic import TOKENS, add_tuning, change_summary, of, write_run, write_sweep


def test_sweep_gets_every_file(tmp_path):
    folder = write_sweep(tmp_path / "study")
    add_tuning(folder)
    result = report_sweep(folder)
    names = {path.name for path in result.files}
    plots = {"differences.png", "loss_by_tokens.png", "loss_by_time.png", "tuning.png"}
    assert names == {"report.md", "report.html", "runs.csv", "curves.csv", "table.tex", *plots}
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


def test_csv_files_have_every_final_metric_and_every_recorded_loss(tmp_path):
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=2)
    run = of(folder, "rope", 1)
    change_summary(run, val_bits_per_byte=1.25, val_perplexity=20.5, best_val_loss=2.9, learning_rate=0.002)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": 900, "tokens": 921600, "loss": null}\n{"step": 901, "tokens": 922624, "tasks/blimp/acc": 1}\n'
        )
    report(ReportJob(sweep=str(folder), metric="val_bits_per_byte"))

    def rows(name):
        with (folder / name).open() as file:
            return [row for row in csv.DictReader(file) if row["run_path"] == str(run)]

    (final,) = rows("runs.csv")
    expected = {"val_bits_per_byte": "1.25", "val_perplexity": "20.5", "best_val_loss": "2.9", "learning_rate": "0.002"}
    expected |= {"val_loss": str(json.loads((run / "summary.json").read_text())["val_loss"]), "steps": "800"}
    assert final | expected == final
    lines = [line for line in read_lines(run / "metrics.jsonl") if "loss" in line or "val_loss" in line]
    curves = rows("curves.csv")
    assert [int(row["step"]) for row in curves] == [line["step"] for line in lines]
    for key in ("loss", "val_loss"):
        written = [float(row[key]) for row in curves if row[key]]
        assert written == pytest.approx([line[key] or math.nan for line in lines if key in line], nan_ok=True)
    assert curves[-1]["loss"] == "nan"
    assert {(row["condition"], row["seed"]) for row in curves} == {("positions=rope, norm=layernorm", "1")}
    assert float(curves[-2]["seconds"]) == pytest.approx(TOKENS / 18_000)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No W&B account, whatever the machine has."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_wandb_copy_is_in_the_project_and_group_of_the_runs_and_online_as_they(tmp_path, monkeypatch, offline):
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=2)
    opened = []

    def init(**settings):
        opened.append([settings[key] for key in ("project", "group", "mode")])
        raise OSError("no network")

    monkeypatch.setattr("wandb.init", init)
    report(ReportJob(sweep=str(folder), wandb=True))
    (tmp_path / ".netrc").touch(mode=0o600)
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")  # as wandb login leaves it
    for seed, names in ((0, ["wandb"]), (1, ["wandb", "tensorboard"])):
        path = of(folder, "rope", seed) / "config.yaml"
        logger = {"names": names, "project": "mine", "group": "g"}
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"logger": logger}))
    report(ReportJob(sweep=str(folder), wandb=True))
    assert opened == [["gpt2lab", "study", "offline"], ["mine", "g", "online"]]


def test_wandb_copy_is_a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = write_sweep(tmp_path / "study", norms=("layernorm",), seeds=2)
    report(ReportJob(sweep=str(folder), wandb=True))
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1


def test_csv_tells_a_factor_from_the_fact_of_its_name(tmp_path):
    runs = [
        write_run(tmp_path / f"{precision}{seed}", seed, precision=precision)
        for precision in ("fp32", "bf16")
        for seed in (0, 1)
    ]
    headings, *rows = csv.reader(as_csv(analyze(runs=list(map(str, runs)))).splitlines())
    assert headings[1:3] == ["factor_precision", "condition"]
    assert len(set(headings)) == len(headings)
    assert [row[1] for row in rows] == [row[headings.index("precision")] for row in rows] == ["bf16"] * 2 + ["fp32"] * 2
