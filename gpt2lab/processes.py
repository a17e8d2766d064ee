"""The processor cores of this process, and processes that do not outlive the one that started them."""

import ctypes
import os
import platform
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def signal_at_parents_end(number: signal.Signals) -> Callable[[], None] | None:
    """A ``preexec_fn`` of ``subprocess.Popen``: the process gets this signal when this one ends, however it ends.

    None where there is no such call (it is Linux's: prctl(2), PR_SET_PDEATHSIG).
    """
    if platform.system() != "Linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def set_signal() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return set_signal
