"""Where the jobs of a sweep run: ``LAUNCHERS[name](SweepConfig, folder)``.

Every launcher runs the same command of the same job as a process of its own and gives back a ``RunningJob``. A launcher
on other machines expects the run folders on a disk that they share. Jobs there are stopped through a file on that disk.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gpt2lab.config import UserError, not_installed, one_line
from gpt2lab.config.sweep import SweepConfig
from gpt2lab.processes import available_cores, signal_at_parents_end

Item = TypeVar("Item")

STOP_FILE = ".stop"
POLL_SECONDS = 0.5


class RunningJob(Protocol):
    """A job that was started."""

    def poll(self) -> int | None:
        """Exit status, negative for a signal's number; None while the job runs."""
        ...

    def stop(self) -> None:
        """Ask the job to save its state and end."""
        ...


class Launcher(ABC):
    """Runs commands, ``slots`` of them at a time."""

    def __init__(self, sweep: SweepConfig, folder: Path) -> None:
        self.sweep, self.folder, self.slots = sweep, folder, sweep.parallel

    @classmethod  # noqa: B027  (most launchers need nothing)
    def require(cls, sweep: SweepConfig) -> None:
        """Raise ``UserError`` where this machine lacks what the launcher needs; called before a folder is made."""

    @abstractmethod
    def start(self, command: Sequence[str], console: Path, slot: int) -> RunningJob:
        """Start a job.

        Args:
            command: program and arguments.
            console: file that takes what the job prints.
            slot: number of this job among those that run at the same time, 0 <= slot < slots.
        """

    def close(self) -> None:  # noqa: B027  (most launchers hold nothing)
        """Give back what the launcher holds; all jobs have ended."""


class LocalLauncher(Launcher):
    """This machine: each slot has its own share of the cores, and of the GPUs if there are any.

    A job uses as many threads as its share has cores, so jobs do not wait for each other's threads.
    """

    def __init__(self, sweep: SweepConfig, folder: Path) -> None:
        super().__init__(sweep, folder)
        self.cores = divide(available_cores(), self.slots)
        self.gpus = divide(available_gpus(), self.slots)

    def start(self, command: Sequence[str], console: Path, slot: int) -> RunningJob:
        """See ``Launcher.start``."""
        environment = dict(os.environ)
        cores, gpus = self.cores[slot], self.gpus[slot]
        if self.slots > 1:
            environment["OMP_NUM_THREADS"] = str(len(cores))
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return LocalJob(command, console, environment, cores)


class LocalJob:
    """A process on this machine, in a process group of its own: Ctrl-C at the terminal reaches the sweep alone."""

    def __init__(
        self, command: Sequence[str], console: Path, environment: Mapping[str, str], cores: Sequence[int]
    ) -> None:
        self.asked_to_stop = False
        with console.open("a") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=signal_at_parents_end(signal.SIGTERM),  # a job whose sweep was killed saves and ends
            )
        if hasattr(os, "sched_setaffinity"):
            try:
                os.sched_setaffinity(self.process.pid, cores)  # threads started from here on inherit it
            except ProcessLookupError:  # it has ended already
                return

    def poll(self) -> int | None:
        """See ``RunningJob.poll``."""
        return self.process.poll()

    def stop(self) -> None:
        """See ``RunningJob.stop``."""
        if self.process.poll() is None and not self.asked_to_stop:  # a second signal would cut the saving short
            self.process.send_signal(signal.SIGTERM)
            self.asked_to_stop = True


class RayLauncher(Launcher):
    """A Ray cluster: the one this machine belongs to, else one that is started here."""

    def __init__(self, sweep: SweepConfig, folder: Path) -> None:
        super().__init__(sweep, folder)
        import ray  # noqa: PLC0415

        self.ray = ray
        self.stop_file = fresh_stop_file(folder)
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)

    @classmethod
    def require(cls, sweep: SweepConfig) -> None:
        """See ``Launcher.require``."""
        _require_package("ray", "ray")

    def start(self, command: Sequence[str], console: Path, slot: int) -> RunningJob:
        """See ``Launcher.start``."""
        remote = self.ray.remote(max_retries=0, **({"num_cpus": 1} | self.sweep.ray))(run_until_stopped)
        return RemoteJob(
            self.stop_file,
            self._status_of(remote.remote(list(command), str(console), str(self.stop_file), str(Path.cwd())), console),
        )

    def _status_of(self, reference: Any, console: Path) -> Callable[[], int | None]:
        def status() -> int | None:
            finished, _ = self.ray.wait([reference], timeout=0)
            if not finished:
                return None
            try:
                return int(self.ray.get(reference))
            except self.ray.exceptions.RayError as error:  # the worker died, or its machine
                return lost_worker(console, error)

        return status

    def close(self) -> None:
        """See ``Launcher.close``."""
        self.ray.shutdown()


class SlurmLauncher(Launcher):
    """SLURM through submitit; ``sweep.slurm`` holds the executor's settings, ``cluster: local`` runs without SLURM."""

    def __init__(self, sweep: SweepConfig, folder: Path) -> None:
        super().__init__(sweep, folder)
        import submitit  # noqa: PLC0415

        settings = dict(sweep.slurm)
        self.stop_file = fresh_stop_file(folder)
        try:
            self.executor = submitit.AutoExecutor(folder / "submitit", cluster=settings.pop("cluster", "slurm"))
            self.executor.update_parameters(**{"name": f"gpt2lab-{folder.name}"} | settings)
        except (NameError, RuntimeError, ValueError) as error:
            raise UserError(f"sweep.slurm={sweep.slurm}: {error}; expected settings of submitit's executor") from error

    @classmethod
    def require(cls, sweep: SweepConfig) -> None:
        """See ``Launcher.require``."""
        _require_package("slurm", "submitit")
        if sweep.slurm.get("cluster", "slurm") == "slurm" and shutil.which("srun") is None:
            raise UserError(
                "sweep.launcher=slurm: no srun on this machine; expected one that submits jobs to SLURM; to try it "
                "without SLURM, add 'sweep.slurm={cluster: local}'"
            )

    def start(self, command: Sequence[str], console: Path, slot: int) -> RunningJob:
        """See ``Launcher.start``."""
        job = self.executor.submit(run_until_stopped, list(command), str(console), str(self.stop_file), str(Path.cwd()))

        def status() -> int | None:
            if not job.done():
                return None
            failure = job.exception()
            return int(job.result()) if failure is None else lost_worker(console, failure)

        return RemoteJob(self.stop_file, status)


class RemoteJob:
    """A job on another machine."""

    def __init__(self, stop_file: Path, status: Callable[[], int | None]) -> None:
        self.stop_file, self.status = stop_file, status

    def poll(self) -> int | None:
        """See ``RunningJob.poll``."""
        return self.status()

    def stop(self) -> None:
        """See ``RunningJob.stop``."""
        self.stop_file.touch()


def lost_worker(console: Path, error: BaseException) -> int:
    """The exit status of a job whose worker failed; the job's console says why."""
    with console.open("a") as output:
        output.write(f"error: the worker of this job was lost: {type(error).__name__}: {one_line(error)[:300]}\n")
    return 1


def _require_package(launcher: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise not_installed(f"sweep.launcher={launcher}", package, f"'gpt2lab[{launcher}]'")


LAUNCHERS: dict[str, type[Launcher]] = {
    "local": LocalLauncher,
    "ray": RayLauncher,
    "slurm": SlurmLauncher,
}


def run_until_stopped(command: list[str], console: str, stop_file: str, folder: str) -> int:
    """Run ``command`` in ``folder``; when ``stop_file`` appears, ask it to save and end. Returns its exit status."""
    with open(console, "a") as output:  # noqa: PTH123  (this function runs on other machines)
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=signal_at_parents_end(signal.SIGTERM),  # a job whose worker was killed saves and ends
        )
    asked = False
    while process.poll() is None:
        if not asked and os.path.exists(stop_file):  # noqa: PTH110
            process.send_signal(signal.SIGTERM)
            asked = True
        time.sleep(POLL_SECONDS)
    return process.returncode


def fresh_stop_file(folder: Path) -> Path:
    """Path of the file that stops remote jobs; one left by an earlier stop is removed."""
    path = (folder / STOP_FILE).resolve()
    path.unlink(missing_ok=True)
    return path


def available_gpus() -> list[str]:
    """Identifiers of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES, found without importing torch.

    Where GPUs are divided (Multi-Instance GPU), those of the parts: a process can use one part, not the GPU as a whole.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except OSError:
        return []
    if listed.returncode != 0:
        return []
    # lines: "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-...)"; below it "  MIG 3g.20gb  Device 0: (UUID: MIG-...)"
    parts = re.findall(r"^\s*MIG .*\(UUID: (\S+)\)", listed.stdout, re.MULTILINE)
    gpus = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return parts or [str(number) for number in range(len(gpus))]


def divide(items: Sequence[Item], slots: int) -> list[list[Item]]:
    """Disjoint shares of equal size, one a slot; with fewer items than slots, slots take turns."""
    if len(items) < slots:
        return [[items[slot % len(items)]] if items else [] for slot in range(slots)]
    share = len(items) // slots
    return [list(items[slot * share : (slot + 1) * share]) for slot in range(slots)]
