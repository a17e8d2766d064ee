"""The code of variants in a module of the user's (MODULE:CLASS): its hash, and whether it is still that of a run."""

import logging
import sys
from pathlib import Path
from typing import Any

from gpt2lab.config import UserError
from gpt2lab.files import file_sha256
from gpt2lab.runs.layout import ENVIRONMENT
from gpt2lab.runs.records import read_object, written_at_each_start

log = logging.getLogger(__name__)

OWN_CODE = "own_code"
"""key of ``environment.json``: SHA-256 by module"""


def own_code(model: dict[str, Any]) -> dict[str, str | None]:
    """The SHA-256 of the file of each module that a part of the model is a class of; None for one without a file.

    Args:
        model: settings of a model that is built, so that the modules are imported.
    """
    names = [str(part.get("name")) for part in model.values() if isinstance(part, dict)]
    modules = dict.fromkeys(module for module, separator, _ in (name.partition(":") for name in names) if separator)
    return {module: _file_hash(module) for module in modules}


def warn_of_other_code(run_dir: Path, model: dict[str, Any]) -> None:
    """Warn of the modules of a model's own variants whose code is not that of the newest start of its run."""
    code = own_code(model)
    if not code:
        return
    written = written_at_each_start(run_dir / ENVIRONMENT)
    try:
        recorded = read_object(written[-1]).get(OWN_CODE) if written else None
    except UserError:  # a damaged record says nothing of the code
        recorded = None
    for module, now in code.items():
        before = recorded.get(module) if isinstance(recorded, dict) else None
        if before and now and before != now:
            log.warning(
                "%s: trained with other code of %s (SHA-256 %s..., now %s...); its results may be others now",
                run_dir, module, before[:12], now[:12],
            )  # fmt: skip


def _file_hash(module: str) -> str | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return file_sha256(Path(file)) if file and Path(file).is_file() else None
