"""What a rerun needs to know of a run: command, commit, changed files, versions, machine."""

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
"""folder of the checkout, if gpt2lab runs from one"""
CODE = ("*.py", "*.yaml")
"""files whose changes are kept whole, as they decide which runs can be compared"""
LONGEST_DIFF = 200_000
"""characters that are kept of the changes of other files"""


@dataclass(frozen=True)
class Hardware:
    """What a job computes on."""

    device: str
    """cpu, or the GPU's name"""
    cpu_threads: int


def environment(command: Sequence[str] | None, hardware: Hardware) -> dict[str, Any]:
    """The content of ``environment.json``."""
    requirements = importlib.metadata.requires("gpt2lab") or []
    names = [re.split(r"[^\w-]", requirement)[0] for requirement in requirements]
    packages = {name: _version(name) for name in ["gpt2lab", *names]}
    return {
        "command": list(command) if command is not None else None,
        "git_commit": git("rev-parse", "HEAD"),
        "git_changed_files": git("status", "--porcelain"),
        "git_diff": _diff(),
        "python": platform.python_version(),
        "packages": {name: version for name, version in packages.items() if version is not None},
        "platform": platform.platform(),
        "processor": processor(),
        **asdict(hardware),
    }


def _version(package: str) -> str | None:
    """The version that is installed; None if the package is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def git(*arguments: str) -> str | None:
    """What git says of the checkout; None where there is no git or no checkout.

    gpt2lab may be installed below a checkout of another project, such as in its .venv: git is not to look there.
    """
    command, variables = ["git", "-C", str(CHECKOUT), *arguments], {"GIT_CEILING_DIRECTORIES": str(CHECKOUT.parent)}
    try:
        result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _diff() -> str | None:
    """Changes since the commit; None where there is no git. Code and configurations come first, whole.

    New modules of the package, which git does not know yet, are among them.
    """
    code = git("diff", "HEAD", "--", *CODE)
    others = git("diff", "HEAD", "--", ".", *(f":(exclude){pattern}" for pattern in CODE))
    new_modules = git("ls-files", "-z", "--others", "--exclude-standard", "--", "gpt2lab/*.py")
    if code is None or others is None or new_modules is None:
        return None
    if len(others) > LONGEST_DIFF:
        others = f"{others[:LONGEST_DIFF]}\n[{len(others) - LONGEST_DIFF} characters left out]"
    added = [_as_added(path) for path in new_modules.split("\0") if path]
    return "\n".join(filter(None, [code, *added, others]))


def _as_added(path: str) -> str:
    """A file that git does not know, as it would stand in a diff."""
    lines = (CHECKOUT / path).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"diff --git a/{path} b/{path}", "new file", *(f"+{line}" for line in lines)])
