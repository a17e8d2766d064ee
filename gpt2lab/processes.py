"""A process that is started does not outlive the one that started it."""

import ctypes
import os
import platform
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


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
