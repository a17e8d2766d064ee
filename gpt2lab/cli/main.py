"""The entry points: ``python train.py ...`` and ``gpt2lab train ...``.

    arguments -> --help | a sweep (-m) | Hydra -> job -> several processes, or the command itself -> exit status

A mistake of the user's is one line and exit status 2. Commands are imported when they run, so that help, ``--cfg job``
and mistakes in the configuration do not wait for torch.
"""

import atexit
import errno
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2lab import __version__
from gpt2lab.cli.compose import (
    CONFIG_DIR,
    JOBS,
    explain_override,
    literal_text,
    refuse_unused_forms,
    settings_of,
    to_job,
)
from gpt2lab.cli.console import open_console, print_error, print_own_error, protect_streams
from gpt2lab.cli.help import help_page, summary
from gpt2lab.cli.launching import check_launch_variables, launch_processes, typed_command
from gpt2lab.cli.lazy_help import lazy_help_is_not_checked
from gpt2lab.cli.override_errors import no_such_option
from gpt2lab.cli.rerun import is_rerun, read_rerun
from gpt2lab.cli.single_run import refuse_study, refuse_sweep_settings
from gpt2lab.config import (
    EvalJob,
    RankFailedError,
    SampleJob,
    StoppedError,
    TrainJob,
    UserError,
    did_you_mean,
    one_line,
)
from gpt2lab.shell import command_line

log = logging.getLogger(__name__)

COMMANDS = {
    "train": ("gpt2lab.commands.training", "train"),
    "eval": ("gpt2lab.commands.evaluation", "evaluate"),
    "prepare": ("gpt2lab.commands.preparation", "prepare"),
    "sample": ("gpt2lab.commands.sampling", "sample"),
    "export": ("gpt2lab.commands.exporting", "export"),
    "report": ("gpt2lab.commands.reporting", "report"),
    "explain": ("gpt2lab.commands.explaining", "explain"),
}
"""module and function of each command"""

USER_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
HYDRA_OPTIONS = (
    "--cfg", "-c", "--info", "-i", "--resolve", "--package", "-p", "--hydra-help", "--version", "--run", "-r",
    "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--shell-completion", "-sc",
    "--experimental-rerun",
)  # fmt: skip
MULTIRUN = {"-m", "--multirun"}


def main() -> NoReturn:
    """``gpt2lab COMMAND ARGUMENTS``."""
    names = list(COMMANDS)
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(
            "usage: gpt2lab COMMAND KEY=VALUE ...\n",
            *(f"  {name:<10}{summary(name)}" for name in names),
            "\ngpt2lab COMMAND --help shows a command's main keys",
            sep="\n",
        )
        sys.exit(0 if len(sys.argv) > 1 else USER_ERROR_STATUS)
    name = sys.argv.pop(1)
    if name == "--version":
        print(f"gpt2lab {__version__}")
        sys.exit(0)
    if name not in COMMANDS:
        print_error(f"{name}: no such command; expected one of {', '.join(names)}{did_you_mean(name, names)}")
        sys.exit(USER_ERROR_STATUS)
    run_command(name)


def run_command(name: str) -> NoReturn:
    """Run the command ``name`` on the arguments of this process, and exit."""
    protect_streams(text_on_stdout=name == "sample")
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_page(name, min(shutil.get_terminal_size().columns, 120)))
        sys.exit(0)
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR  # one process tells for all
    open_console(level, stream=sys.stderr if name == "sample" else sys.stdout)  # the text alone goes down a pipe
    try:
        check_launch_variables()
        status = run_sweep(name) if MULTIRUN & set(sys.argv[1:]) else run_job(name)
    except UserError as error:
        print_own_error(one_line(error))
        status = USER_ERROR_STATUS
    except SystemExit as error:  # the main process failed (World.on_main), and has said why
        if "RANK" not in os.environ or not isinstance(error.code, int):
            raise
        _exit_beside_others(error.code)
    except RankFailedError as error:
        if str(error):
            print_error(str(error))
        status = error.status
    except StoppedError as error:
        print_error(str(error))
        status = 128 + error.signal
    except KeyboardInterrupt:
        print_error("interrupted")
        status = INTERRUPTED_STATUS
    except OSError as error:
        if error.filename is None and error.errno not in DISK_ERRORS:  # a defect of gpt2lab, which needs its traceback
            raise
        print_own_error(f"{error.filename or 'a file'}: {error.strerror}; expected a file that can be read or written")
        status = USER_ERROR_STATUS
    if status == USER_ERROR_STATUS and "RANK" in os.environ:
        _exit_beside_others(status)
    sys.exit(status)


def _exit_beside_others(status: int) -> NoReturn:
    """Exit without the destructors of C++: those of a process group that still has threads would abort the process."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_sweep(name: str) -> int:
    """``-m``: many jobs, each a process of its own; returns the exit status."""
    options = [argument for argument in sys.argv[1:] if argument.startswith("-") and argument not in MULTIRUN]
    if options:
        if options[0].partition("=")[0] not in HYDRA_OPTIONS:
            raise UserError(no_such_option(options[0], settings_of(name)))
        raise UserError(f"{options[0]}: no option of a sweep (-m); expected KEY=VALUE; try sweep.dry_run=true")
    if name != "train":
        raise UserError(f"-m: only train.py runs sweeps; {name}.py takes one job")
    if "RANK" in os.environ:
        raise UserError(
            "-m under torchrun: expected one job; a sweep starts the processes of each job itself: type "
            + command_line("train", "-m", f"runtime.num_processes={os.environ['WORLD_SIZE']}")
            + " and your other arguments"
        )
    status: int = importlib.import_module("gpt2lab.cli.sweeping").run(sys.argv)
    return status


def run_job(name: str) -> int:
    """Compose the job and run it, or do what ``--cfg`` or ``--info`` ask of Hydra; returns the exit status."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us, not Hydra's own printer
    typed = sys.argv[1:]
    if name == "train":
        refuse_sweep_settings(typed)
    if name == "train" and is_rerun(typed):
        rerun = read_rerun(typed)
        if rerun.followed:
            log.info(rerun.describe())
        run_composed(name, rerun.job, typed)
        return 0
    refuse_unused_forms(typed)
    sys.argv[1:] = [literal_text(argument) for argument in options_first(name, typed)]

    errors: list[BaseException] = []
    parsing = ExitStack()

    def task(values: DictConfig) -> None:
        parsing.close()
        try:
            refuse_study(HydraConfig.get().sweeper.get("params") or {}, typed)
            if OmegaConf.get_type(values) is not JOBS[name]:
                raise UserError(
                    f"--config-name={HydraConfig.get().job.config_name}: no configuration of {command_line(name)}; "
                    f"expected one whose defaults begin with {name}; leave the option out"
                )
            run_composed(name, to_job(values), typed)
        except Exception as error:
            errors.append(error)  # raised below: Hydra would add lines of its own

    try:
        with parsing:
            parsing.enter_context(lazy_help_is_not_checked())
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=name)(task)()
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:  # a group set to null or a list
        raise explain_override(error, name, sys.argv[1:]) from error
    for raised in errors:
        if isinstance(raised, HydraException | OmegaConfBaseException):
            raise explain_override(raised, name, sys.argv[1:]) from raised
        raise raised
    return 0


def options_first(name: str, arguments: Sequence[str]) -> list[str]:
    """Hydra's options before the overrides of the command ``name``: its parser takes no option after an override.

    Raises:
        UserError: an option that Hydra does not have.
    """
    for argument in arguments:
        if argument.startswith("-") and argument.partition("=")[0] not in HYDRA_OPTIONS:
            raise UserError(no_such_option(argument, settings_of(name)))
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    return [*(argument for argument in arguments if argument not in overrides), *overrides]


def run_composed(name: str, job: Any, typed: Sequence[str]) -> None:
    """Run a job: here, or in as many processes as it asks for.

    Args:
        name: of the command.
        job: what it is to do.
        typed: its arguments as they were typed: each process quotes literal text in them itself.
    """
    if isinstance(job, TrainJob | EvalJob | SampleJob) and job.runtime.num_processes > 1 and "RANK" not in os.environ:
        launch_processes(job.runtime.num_processes, name, typed)
        return
    module, function = COMMANDS[name]
    run: Any = getattr(importlib.import_module(module), function)
    run(job, command=[*typed_command(name, sys.argv[0]), *typed])
