"""Wrong commands and damaged files by the hundred.

    python -m tests.integration.fault_campaign [--every 1] [--first 0] [--only WORD]

A small run, sweep, dataset and export are made once. Each case copies them, damages one file or limits the size of
files, and runs one command in a process of its own, forked from one that has imported torch. A command must end with

    status 0, and nothing written but the results it is for, or
    status 2, one line "error: ..." that names the value or file, and no file written, changed or removed.

A traceback, another status, more than ``SECONDS``, or a changed file is a fault; faults are printed and counted.
"""

import argparse
import collections
import contextlib
import gc
import hashlib
import importlib
import os
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from gpt2lab.cli.main import COMMANDS
from tests.integration.conftest import FILES, ROOT
from tests.integration.fault_cases import Case, all_cases, make_workplace

SECONDS = 60
USERS_OWN = ("mine/", *FILES)
MOST_MEMORY = 8 * 2**30
PRELOADED = ("hydra", "torch", "torch._dynamo", "matplotlib.pyplot", "scipy.stats", "safetensors.torch", "tokenizers")


def contents(folder: Path) -> dict[str, str]:
    """Hash of each file below a folder, and the target of each link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run_case(case: Case, folder: Path, stderr: Path) -> int | None:
    """Run a command in a forked process with ``folder`` as its working directory; its status, None if it hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            os.chdir(folder)
            for descriptor, path in ((0, os.devnull), (1, os.devnull), (2, stderr)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            if case.file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (case.file_limit, case.file_limit))
            sys.argv = list(case.command)
            runpy.run_path(str(ROOT / case.command[0]), run_name="__main__")
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, result = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(result)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def fault_of(case: Case, status: int | None, text: str, before: dict[str, str], after: dict[str, str]) -> str | None:
    """What is wrong with the end of a command; None if nothing is."""
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if lost := [name for name in changed if name in before and name.startswith(USERS_OWN)]:
        return f"overwritten: {lost[0]}"
    if status is None:
        return "hang"
    if "Traceback" in text:
        return "traceback"
    if status == 0:
        foreign = [name for name in changed if not name.startswith(case.may_write)]
        return f"overwritten: {foreign[0]}" if foreign else None
    if status != 2:
        return f"status {status}"
    if changed and not case.may_leave:
        return f"half-written: {changed[0]}"
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if len(errors) != 1 or lines[-1] != errors[0]:
        return "not one line"
    if case.names and not any(name.lower() in errors[0].lower().replace("e+", "e") for name in case.names):
        return f"does not name {case.names[0]}"
    return None


def campaign(cases: list[Case], workplace: Path, scratch: Path) -> collections.Counter[str]:
    """Run the cases; returns how many ended how, faults by their kind."""
    counts: collections.Counter[str] = collections.Counter()
    for number, case in enumerate(cases):
        folder = scratch / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(workplace, folder, symlinks=True)
        if case.damage is not None:
            case.damage(folder)
        before = contents(folder)
        status = run_case(case, folder, scratch / "stderr.txt")
        text = (scratch / "stderr.txt").read_text(errors="replace")
        fault = fault_of(case, status, text, before, contents(folder))
        if fault is None:
            counts["refused in one line" if status == 2 else "done"] += 1
            continue
        counts[f"FAULT {fault.split(':')[0]}"] += 1
        print(f"{number} {case.label}: {fault}\n    {' '.join(case.command)}\n    {text.strip()[-300:]}", flush=True)
    return counts


def main() -> None:
    """Run every n-th case and print the counts; the status is 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take every n-th case only")
    parser.add_argument("--first", type=int, default=0, help="begin with this case")
    parser.add_argument("--only", default="", help="take the cases with this word in their name only")
    arguments = parser.parse_args()
    cases = [case for case in all_cases() if arguments.only in case.label][arguments.first :: arguments.every]
    with tempfile.TemporaryDirectory() as folder:
        workplace = Path(folder) / "workplace"
        workplace.mkdir()
        make_workplace(workplace)
        for module in (*PRELOADED, *(module for module, _ in COMMANDS.values())):
            importlib.import_module(module)
        gc.freeze()  # a forked process then copies less
        started = time.monotonic()
        counts = campaign(cases, workplace, Path(folder))
    print(f"{len(cases)} cases in {time.monotonic() - started:.0f} s: {dict(sorted(counts.items()))}")
    sys.exit(any(name.startswith("FAULT") for name in counts))


if __name__ == "__main__":
    main()
