"""gpt2lab.runs.directory: one process at a time, and records that a resume keeps."""

import json
import subprocess
import sys
from random import Random

import pytest
import yaml

from gpt2lab.config import UserError
from gpt2lab.runs import (
    Hardware,
    append_lines,
    check_can_start_again,
    check_unused,
    open_run_dir,
    read_lines,
    rewind_lines,
    write_json,
)
from gpt2lab.runs.records import parse_lines

CPU = Hardware("cpu", 1)
HOLD = """
import sys
from pathlib import Path
from gpt2lab.runs import Hardware, open_run_dir
open_run_dir(Path(sys.argv[1]), {}, None, Hardware("cpu", 1))
print("held", flush=True)
sys.stdin.read()
"""


def test_open_run_dir_refuses_a_directory_that_another_process_has(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run_dir=.*run: another process is at work there"):
            open_run_dir(tmp_path / "run", {}, None, CPU)
        other.kill()
    for _ in range(2):  # the process that has it may open it again
        open_run_dir(tmp_path / "run", {}, None, CPU)


def test_open_run_dir_keeps_the_records_of_the_first_start(tmp_path):
    for seed in (1, 2, 3):
        command = [sys.executable, "-c", HOLD.replace("{}", f"{{'seed': {seed}}}"), tmp_path / "run"]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    records = [json.loads((tmp_path / "run" / f"environment{n}.json").read_text()) for n in ("", ".2", ".3")]
    assert [record["start_step"] for record in records] == [0, 0, 0]
    seeds = [yaml.safe_load((tmp_path / "run" / f"config{n}.yaml").read_text())["seed"] for n in ("", ".2", ".3")]
    assert seeds == [1, 2, 3]


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "book.txt"])
def test_a_folder_of_the_users_is_no_run_dir(tmp_path, name):
    (tmp_path / name).write_text("mine: 1")
    for check in (check_unused, check_can_start_again):
        with pytest.raises(UserError, match=rf"holds {name}, which no run has written; expected a new or empty folder"):
            check(tmp_path)


def test_a_record_without_its_checkpoints_is_not_replaced(tmp_path):
    """A run that was killed before its first checkpoint may start again; what it recorded is kept."""
    open_run_dir(tmp_path, {}, None, CPU)
    check_unused(tmp_path)
    lines = [{"step": 1, "tokens": 8}, {"step": 2, "tokens": 16}]
    append_lines(tmp_path / "metrics.jsonl", lines)
    write_json(tmp_path / "summary.json", {"status": "completed"})
    for check in (check_unused, check_can_start_again):
        with pytest.raises(UserError, match=r"holds the record of a run \(metrics.jsonl\), but no checkpoint"):
            check(tmp_path)
    write_json(tmp_path / "summary.json", {"status": "running"})
    check_can_start_again(tmp_path)
    rewind_lines(tmp_path / "metrics.jsonl", 0)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert read_lines(tmp_path / "metrics.2.jsonl") == lines


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl", "summary.json", "log.txt"])
def test_a_folder_in_the_place_of_a_record_is_found_before_anything_is_written(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name}: is not a file; expected the record of a run; move it away"):
        open_run_dir(tmp_path, {"seed": 1}, None, CPU)
    assert not (tmp_path / "config.yaml").exists()


DAMAGED = {
    "metrics.jsonl": [b'{"step": 2, "tokens": 16, "te', b'{"step": 2}', b'{"step": 2, "tokens": 16, "loss": "x"}',
                      b'{"step": 2, "tokens": 16, "loss": [1]}', b'{"step": 2, "tokens": null}',
                      b'{"step": 2.5, "tokens": 16}'],
    "samples.jsonl": [b'{"step": 2, "text": null}', b'{"step": "2", "text": "a"}', b'{"text": "a"}'],
}  # fmt: skip
OF_BOTH = [b"\xff\xfe", b"3", b"null", b'{"no": "step"}', b"[" * 100_000]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_lines_are_left_out(tmp_path, name, caplog):
    path = tmp_path / name
    damaged = [*DAMAGED[name], *OF_BOTH]
    lines = [{"step": step, "tokens": 8 * step} for step in (1, 2, 3)]
    texts = [json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join([texts[0], *damaged, *texts[1:]]))
    assert parse_lines(path) == (lines, len(damaged))
    rewind_lines(path, 2)
    assert read_lines(path) == lines[:2]
    assert f"{len(damaged)} damaged lines are left out" in caplog.text


def test_a_record_that_is_missing_has_no_lines(tmp_path):
    assert parse_lines(tmp_path / "metrics.jsonl") == ([], 0)


def test_lines_are_read_as_json_reads_them(tmp_path):
    random = Random(0)
    lines = [
        {
            "step": n,
            "loss": random.gauss(0, 1) * 10.0 ** random.randint(-300, 300),
            "text": chr(random.randint(32, 999)),
        }
        for n in range(5_000)
    ]
    path = tmp_path / "documents.jsonl"
    append_lines(path, lines)
    assert parse_lines(path) == (lines, 0)
    others = [{"count": 10**30, "loss": None, "list": [1, {"a": True}]}]
    append_lines(path, others)
    assert parse_lines(path) == (lines + others, 0)
