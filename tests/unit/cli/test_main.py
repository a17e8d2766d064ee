"""Start-up without torch, help, and errors of several processes."""

import os
import subprocess
import sys
import time
from importlib import metadata

import pytest

from gpt2lab.cli import launching, main
from gpt2lab.cli.help import MAIN_KEYS, field_docs, help_page
from gpt2lab.cli.launching import LAUNCH_VARIABLES, check_launch_variables
from gpt2lab.cli.main import options_first
from gpt2lab.config import RankFailedError, TrainingConfig, UserError
from tests.conftest import imported_by
from tests.integration.conftest import ROOT

HEAVY = ("torch", "datasets", "wandb", "matplotlib", "pandas", "scipy", "transformers")
WITHOUT = """
import runpy, sys
sys.argv = {arguments!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    status = end.code
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["--cfg", "job"], 0), (["model.n_layers=2"], 2), (["--info", "config"], 0)],
)
def test_start_up_imports_nothing_heavy(tmp_path, arguments, status):
    code = WITHOUT.format(arguments=[str(ROOT / "train.py"), *arguments], heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert not list(tmp_path.iterdir())
    if "config" in arguments:
        assert result.stdout.count("Config search path") == 1


def test_training_and_evaluation_start_without_slow_packages():
    """``scipy.stats`` alone takes most of a second."""
    slow = ("scipy.stats", "transformers", "datasets", "wandb", "pandas", "ray")
    assert imported_by("import gpt2lab.commands.training, gpt2lab.commands.evaluation", *slow) == []


@pytest.mark.parametrize("name", MAIN_KEYS)
def test_help_gives_the_meaning_of_every_main_key(name):
    page = help_page(name, 100)
    for line in page.splitlines():
        assert not line.startswith("  ") or line.strip().partition("=")[2].strip() or not line.rstrip().endswith("=")
    if name == "train":
        meaning = field_docs(TrainingConfig)["checkpoint_every"]
        assert meaning in " ".join(page.split())


FAILING = """
from gpt2lab.cli import console
console.WAIT_SECONDS = {seconds}
console.print_own_error("not this way")
raise SystemExit(2)
"""


@pytest.mark.parametrize(("rank", "shown"), [("0", "error: not this way"), ("3", "error in process 3: not this way")])
def test_process_prints_an_error_of_its_own(monkeypatch, rank, shown):
    monkeypatch.setenv("RANK", rank)
    code = FAILING.format(seconds=0)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == shown


def test_process_that_is_ended_while_it_waits_prints_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    code = FAILING.format(seconds=60)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.terminate()
        assert process.stderr.read() == ""


TALKATIVE = """
import logging, sys
from gpt2lab.cli.console import open_console, print_error, protect_streams
from gpt2lab.runs import log_into
from pathlib import Path
from tqdm import tqdm
protect_streams()
open_console()
log_into(Path(sys.argv[1]))
for _ in tqdm(range(5000), mininterval=0):
    logging.getLogger("gpt2lab").info("caf\u00e9 %s", "x" * 100)
print_error("the end")
raise SystemExit(2)
"""


@pytest.mark.parametrize("redirection", ["| head -1", "> /dev/full 2>&1", ">&- 2>&-", "2>&1 | true"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_console_trouble_stops_nothing(tmp_path, redirection, encoding):
    program, log = tmp_path / "program.py", tmp_path / "log.txt"
    program.write_text(TALKATIVE)
    shell = f"set -o pipefail; {sys.executable} {program} {log} {redirection}"
    settings = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["bash", "-c", shell], env=settings, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stdout + result.stderr
    assert "Exception ignored" not in result.stdout + result.stderr
    assert log.read_text().count("caf\u00e9") == 5000
    assert log.read_text().endswith("ERROR the end\n")


def test_configuration_of_another_command_is_one_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config-name", "eval"])
    with pytest.raises(
        UserError, match=r"^--config-name=eval: no configuration of python train.py; expected one whose"
    ):
        main.run_job("train")
    assert list(tmp_path.iterdir()) == []


def test_options_come_before_overrides():
    assert options_first("train", ["seed=1", "--cfg", "job", "a=2"]) == ["--cfg", "job", "seed=1", "a=2"]


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--foo=3", "--help lists the main keys"),
        ("--batch_size=12", "did you mean training.batch_tokens (in tokens: sequences x model.block_size)?"),
        ("--seed=3", "try seed=3"),
        ("--model", "did you mean model=NAME?"),
        ("--norm=rmsnorm", "did you mean model/norm=rmsnorm?"),
    ],
)
def test_option_of_another_program_leads_to_the_key(monkeypatch, option, hint):
    with pytest.raises(UserError) as error:
        options_first("train", ["seed=1", option])
    assert str(error.value) == f"{option}: no such option; expected KEY=VALUE; {hint}"
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=1,2", option])
    with pytest.raises(UserError) as error:
        main.run_sweep("train")
    assert str(error.value).endswith(hint)


@pytest.mark.parametrize(
    "arguments", [["prompt=King"], ["prompt="], ["prompt=-"], ["prompt=it's, a", "checkpoint=a=b"]]
)
def test_processes_of_a_job_get_its_arguments_as_typed(monkeypatch, arguments):
    """Each process quotes literal text itself: text quoted twice would be continued with its quotes."""
    launched = []
    typed = [*arguments, "runtime.num_processes=2"]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["sample.py", *typed])
    monkeypatch.setattr(main, "launch_processes", lambda number, name, passed_on: launched.extend(passed_on))
    assert main.run_job("sample") == 0
    assert launched == typed


def test_a_process_that_leaves_with_the_main_one_skips_the_destructors(monkeypatch):
    """Those of a process group with threads abort the process, and "killed by SIGABRT" would hide the mistake."""

    def leave(status):
        raise KeyError(status)  # in place of os._exit

    for name in ("protect_streams", "open_console"):  # which would change this process for the tests after it
        monkeypatch.setattr(main, name, lambda *_, **__: None)
    monkeypatch.setattr(main, "run_job", lambda name: sys.exit(0))
    monkeypatch.setattr(main, "_exit_beside_others", leave)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        main.run_command("train")
    monkeypatch.setenv("RANK", "1")
    for name, value in {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(KeyError, match="0"):
        main.run_command("train")


WITH_A_KILLED_PROCESS = """
import os, signal, time
if os.environ["RANK"] == "{killed}":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep({others_wait})
raise SystemExit(1)
"""


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize(("others_wait", "poll"), [(1, 3), (60, 0.05)])  # both have ended at the first look, or one
def test_killed_process_is_named_and_ends_the_others(monkeypatch, killed, others_wait, poll):
    code = WITH_A_KILLED_PROCESS.format(killed=killed, others_wait=others_wait)
    monkeypatch.setattr(launching, "python_arguments", lambda name, program: ["-c", code])
    monkeypatch.setattr(launching, "POLL_SECONDS", poll)
    began = time.monotonic()
    for name, advice in (("train", "type the command again with resume=auto"), ("sample", "type the command again")):
        with pytest.raises(RankFailedError) as raised:
            launching.launch_processes(2, name, [])
        message = f"process {killed} of 2 was killed by SIGKILL, by you or for lack of memory: {advice}"
        assert (str(raised.value), raised.value.status) == (message, 137)
    assert time.monotonic() - began < 30


CHECKING_HELP = """
import argparse, sys

def expand_help(self, action):  # what follows is the check of Python 3.14
    text = self._get_help_string(action)
    return text % {**vars(action), "prog": self._prog} if "%" in text else text

def check_help(self, action):
    if action.help and hasattr(self, "_get_formatter"):
        try:
            self._get_formatter()._expand_help(action)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("badly formed help string") from error

def add_argument(self, *names, **settings):
    action = add(self, *names, **settings)
    check_help(self, action)
    return action

add = argparse._ActionsContainer.add_argument
argparse._ActionsContainer.add_argument = add_argument
argparse.HelpFormatter._expand_help = expand_help
sys.argv = ["gpt2lab", "prepare", *sys.argv[1:]]
from gpt2lab.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("option", "shown"), [("--cfg=job", "source: state_of_the_union"), ("--hydra-help", "--shell-completion")]
)
def test_hydra_starts_where_argparse_checks_help_as_python_3_14_does(tmp_path, option, shown):
    """Simulated: the check is put into this Python's argparse."""
    command = [sys.executable, "-c", CHECKING_HELP, option]
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert shown in result.stdout


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"RANK": "0"}, "RANK=0 in the environment: WORLD_SIZE is not set"),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
        (dict.fromkeys(LAUNCH_VARIABLES, "x"), "RANK=x is not a number"),
    ],
)
def test_half_a_launcher_is_an_error(monkeypatch, variables, shown):
    for name in LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    check_launch_variables()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=shown):
        check_launch_variables()


def test_another_python_says_which_environment_is_expected(tmp_path):
    """-S: no installed package is found."""
    command = [sys.executable, "-S", ROOT / "train.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "type source .venv/bin/activate" in result.stderr


def test_version_is_that_of_the_package(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpt2lab", "--version"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"gpt2lab {metadata.version('gpt2lab')}\n")
