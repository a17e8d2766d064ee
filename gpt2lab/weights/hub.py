"""Models by name on the Hugging Face Hub: NAME[@REVISION] -> a folder with its files."""

import re
from pathlib import Path

from gpt2lab.hub import fetch_or_explain

SHORT_NAMES = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
WEIGHT_FILES = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
TOKENIZER_FILES = [
    "vocab.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
]


def is_hub_name(where: str) -> bool:
    """Whether ``where``, which is not a file or folder, reads as a name on the Hub: gpt2, ORG/NAME, either @REVISION.

    A path into an existing local folder (runs/typo) is a mistyped path, not a name.
    """
    name = where.partition("@")[0]
    organization, _, _ = name.partition("/")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return not Path(organization).exists()
    return name in SHORT_NAMES


def fetch_model(where: str, key: str) -> tuple[Path, dict[str, str]]:
    """Return the folder of a model on the Hub, and its full name and exact revision.

    Args:
        where: NAME or NAME@REVISION.
        key: the setting to type a folder for instead, where fetching fails.

    Raises:
        UserError: no network, no such model, ``huggingface_hub`` is not installed; it says which files to put where.
    """
    name, _, revision = where.partition("@")
    repository = SHORT_NAMES.get(name, name)

    def download() -> Path:
        from huggingface_hub import snapshot_download  # noqa: PLC0415

        files = WEIGHT_FILES + TOKENIZER_FILES
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))

    instead = f"put config.json and model.safetensors of {repository} into a folder and type {key}=FOLDER"
    folder = fetch_or_explain(f"{key}={where}", download, instead)
    return folder, {"checkpoint": repository, "revision": folder.name}
