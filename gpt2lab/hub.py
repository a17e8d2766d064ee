"""Models by name: NAME[@REVISION] -> the Hugging Face Hub (or its cache on this machine) -> a folder.

``huggingface_hub`` does the fetching. Its cache, its offline switch (HF_HUB_OFFLINE), its mirrors (HF_ENDPOINT) and its
login are the ones that are used.
"""

import re
import textwrap
from pathlib import Path

from gpt2lab.checkpoint import one_line
from gpt2lab.config import UserError

SHORT_NAMES = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
FILES = ["config.json", "model*.safetensors", "model.safetensors.index.json", "vocab.json", "tokenizer.json"]
"""the last two tell whose token ids they are"""


def is_hub_name(where: str) -> bool:
    """Whether ``where``, which is no file or folder, reads as a name on the Hub: gpt2, ORG/NAME, either @REVISION.

    A path into a local folder that is there (runs/typo) is a mistyped path, not a name.
    """
    name = where.partition("@")[0]
    organisation, _, _ = name.partition("/")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return not Path(organisation).exists()
    return name in SHORT_NAMES


def fetch(where: str, key: str) -> tuple[Path, dict[str, str]]:
    """The folder of a model on the Hub, and its full name and exact revision.

    Args:
        where: NAME or NAME@REVISION.
        key: the setting to type a folder for instead, where fetching fails.

    Raises:
        UserError: no network, no such model, ``huggingface_hub`` is not installed; it says which files to put where.
    """
    name, _, revision = where.partition("@")
    repository = SHORT_NAMES.get(name, name)
    mend = f"put config.json and model.safetensors of {repository} into a folder and type {key}=FOLDER"
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415
    except ImportError as error:
        raise UserError(f"{key}={where}: type pip install huggingface_hub, or {mend}") from error
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except Exception as error:  # of many kinds, of the library's and of its libraries'; the way out is the same
        reason = textwrap.shorten(one_line(error), 160, placeholder=" ...")
        raise UserError(f"{key}={where}: not fetched ({type(error).__name__}: {reason}): {mend}") from error
    return folder, {"checkpoint": repository, "revision": folder.name}
