"""A variant by its name: of a registry, or a class in a module of the user's, written MODULE:CLASS.

The module is imported from Python's path without the working folder, unless ``PYTHONPATH`` names it, and never from a
model's folder: a model from elsewhere names code, but cannot bring it. A module that is already imported is found.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from torch import nn

from gpt2lab.config import UserError, choose, one_line

Variant = TypeVar("Variant", bound=Callable[..., nn.Module])
SEPARATOR = ":"


def find_variant(registry: Mapping[str, Variant], name: str, key: str, base: type[nn.Module] = nn.Module) -> Variant:
    """Return the variant that the setting ``key`` names.

    Args:
        registry: the variants of gpt2lab.
        name: one of them, or MODULE:CLASS.
        key: the setting to blame.
        base: what the class must be derived from.

    Raises:
        UserError: there is no such variant, module or class, or the class is constructed in another way.
    """
    if SEPARATOR not in name:
        return choose(registry, name, key)
    module_name, _, class_name = name.partition(SEPARATOR)
    try:
        with _without_working_folder():
            module = importlib.import_module(module_name)
        found = getattr(module, class_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0]:
            raise UserError(f"{key}={name}: {module_name} needs a module that is missing: {error.name}") from error
        raise UserError(
            f"{key}={name}: there is no module {module_name} on Python's path, on which the working folder is only if "
            f"PYTHONPATH names it; expected MODULE:CLASS; try PYTHONPATH=FOLDER, the folder of {error.name}.py, or "
            f"import {error.name} first"
        ) from None
    except (AttributeError, ImportError, SyntaxError, ValueError) as error:
        raise UserError(f"{key}={name}: expected MODULE:CLASS with a class in it ({one_line(error)})") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{key}={name}: expected a class derived from {base.__module__}.{base.__name__}")
    parameters = list(inspect.signature(next(iter(registry.values()))).parameters)  # of any: all take the same
    try:
        inspect.signature(found).bind(*parameters)
    except TypeError:
        raise UserError(
            f"{key}={name}: its constructor takes {inspect.signature(found)}; expected one that can be called with "
            f"({', '.join(parameters)}), as those of {', '.join(registry)} are (docs/add_a_variant.md)"
        ) from None
    return found  # type: ignore[return-value]


@contextmanager
def _without_working_folder() -> Iterator[None]:
    """Take the working folder off Python's path where Python itself has put it there.

    It is the entry ``""`` in a notebook and under ``python -c``. It is the first entry under ``python -m`` and for a
    script in the working folder, unless ``-P`` or ``PYTHONSAFEPATH`` prevents it.
    """
    entries: list[str] = []
    if "" in sys.path:
        entries = [""]
    elif sys.path and not sys.flags.safe_path and Path(sys.path[0]).resolve() == Path.cwd().resolve():
        entries = [sys.path.pop(0)]
    sys.path[:] = filter(None, sys.path)
    try:
        yield
    finally:
        sys.path[:0] = entries  # in place: the module may have added others
