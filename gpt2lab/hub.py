"""The Hugging Face Hub: fetch, or explain in one line why not and what to do instead.

The libraries' own cache, offline switch (HF_HUB_OFFLINE), mirrors (HF_ENDPOINT) and login are used.
"""

import logging
import textwrap
from collections.abc import Callable
from typing import TypeVar

from gpt2lab.config import UserError, one_line

Fetched = TypeVar("Fetched")

LIBRARIES = ("datasets", "fsspec", "httpx", "huggingface_hub")
"""The loggers of these libraries report each request and each retry."""


def fetch_or_explain(setting: str, fetch: Callable[[], Fetched], instead: str) -> Fetched:
    """Return ``fetch()``, which asks the Hub.

    Args:
        setting: what the user typed, for example ``checkpoint=gpt2``.
        fetch: imports the library that it needs and returns what it fetched.
        instead: what the user can do where fetching fails.

    Raises:
        UserError: the library is not installed, there is no network, or the Hub does not have it.
    """
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return fetch()
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"{setting}: package {error.name} is not installed: type pip install {error.name}, or {instead}"
        ) from error
    except Exception as error:  # the libraries raise many kinds; the way out is the same for all of them
        reason = textwrap.shorten(one_line(error), 160, placeholder=" ...")
        raise UserError(f"{setting}: not fetched ({type(error).__name__}: {reason}): {instead}") from error
