"""How this process starts gpt2lab again: the processes of a job, and the jobs of a sweep.

``python -m`` imports from the current folder first, where a file ``numpy.py`` beside a text would be executed. ``-P``
prevents that, unless the user typed ``python -m`` and may have gpt2lab there.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpt2lab.config import STOP_SIGNALS, RankFailedError, UserError, stop_signals
from gpt2lab.processes import signal_at_parents_end

POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0
"""how long the other processes have to end when one has failed"""


LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""what torchrun tells each process"""


def check_launch_variables() -> None:
    """Raise ``UserError`` if the environment has some of the variables of several processes, but not all."""
    rank = os.environ.get("RANK")
    if rank is None:
        return
    missing = [name for name in LAUNCH_VARIABLES if name not in os.environ]
    wrong = [name for name in LAUNCH_VARIABLES if name != "MASTER_ADDR" and not os.environ.get(name, "0").isdecimal()]
    if missing or wrong:
        problem = f"{missing[0]} is not set" if missing else f"{wrong[0]}={os.environ[wrong[0]]} is not a number"
        raise UserError(
            f"RANK={rank} in the environment: {problem}; expected all of {', '.join(LAUNCH_VARIABLES)}, which torchrun "
            "sets; type unset RANK, or torchrun --nproc_per_node=N train.py ..."
        )


def is_script(program: str) -> bool:
    """Whether ``program`` is a file such as train.py; else it is the console script or ``python -m gpt2lab.cli``."""
    return program.endswith(".py") and Path(program).name != "__main__.py"


def python_arguments(name: str, program: str) -> list[str]:
    """Arguments on which Python runs the command ``name`` again, as ``program`` did."""
    if is_script(program):
        return [program]
    is_module = Path(program).name == "__main__.py"  # python -m gpt2lab.cli
    return [*([] if is_module else ["-P"]), "-m", "gpt2lab.cli", name]


def typed_command(name: str, program: str) -> list[str]:
    """What a user types to run the command ``name``."""
    return ["python", program] if is_script(program) else ["gpt2lab", name]


def launch_processes(num_processes: int, name: str, arguments: Sequence[str]) -> None:
    """Run ``name`` in several processes on this machine and wait for them.

    Stop signals are passed on, so that the processes save and end. When one fails the others are ended, and all end
    when this process is killed.

    Raises:
        RankFailedError: a process failed or was stopped; the message is empty if the process has reported why.
    """
    command = [sys.executable, *python_arguments(name, sys.argv[0]), *arguments]
    ranks = [_start(command, environment) for environment in rank_environments(num_processes)]
    with _passing_signals_on(ranks):
        rank, status = _wait(ranks)
    if status < 0:
        raise RankFailedError(
            f"process {rank} of {num_processes} was killed by {signal.Signals(-status).name}, by you or for lack of "
            f"memory: type the command again{' with resume=auto' if name == 'train' else ''}",
            128 - status,
        )
    if status:
        raise RankFailedError("", status)


def rank_environments(num_processes: int) -> list[Mapping[str, str]]:
    """The variables by which torch.distributed finds the other processes, for each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # free now
    common = dict(os.environ) | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
    }
    common.setdefault("OMP_NUM_THREADS", "1")
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: signals of the terminal come from this process alone, and once."""
    at_end = signal_at_parents_end(signal.SIGKILL)
    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=at_end)


@contextmanager
def _passing_signals_on(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Within the block, stop signals reach ``ranks`` instead of ending this process."""
    before = {number: signal.signal(number, lambda number, frame: _send(ranks, number)) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Wait until all have ended; return rank and status of the first that failed, (0, 0) if none did.

    Of several that failed at once, the one that was killed comes first: it is why the others failed.
    """
    orderly = {0, *(128 + number for number in STOP_SIGNALS)}  # one that was stopped leaves the saving to rank 0
    first: tuple[int, int] | None = None
    deadline = float("inf")
    while True:
        statuses = [rank.poll() for rank in ranks]
        failed = [(number, status) for number, status in enumerate(statuses) if status]
        first = first or min(failed, key=lambda one: one[1] != -signal.SIGKILL, default=None)
        if None not in statuses:
            return first or (0, 0)
        if deadline == float("inf") and any(status not in orderly for _, status in failed):
            deadline = time.monotonic() + GRACE_SECONDS
            _send(ranks, signal.SIGTERM)
        elif time.monotonic() > deadline:
            _send(ranks, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _send(ranks: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for rank in ranks:
        rank.send_signal(number)  # does nothing to one that has ended
