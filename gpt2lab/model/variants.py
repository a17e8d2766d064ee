"""A variant by its name: of a registry, or a class in a module of the user's, written MODULE:CLASS.

The module is imported from Python's path, on which neither the working folder nor a model's folder is: a model from
elsewhere names code, but cannot bring it.
"""

import importlib
from collections.abc import Callable, Mapping
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
        UserError: there is no such variant, module or class.
    """
    if SEPARATOR not in name:
        return choose(registry, name, key)
    module_name, _, class_name = name.partition(SEPARATOR)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0]:
            raise UserError(f"{key}={name}: {module_name} needs a module that is missing: {error.name}") from error
        raise UserError(
            f"{key}={name}: there is no module {module_name} on Python's path; expected MODULE:CLASS; try "
            f"PYTHONPATH=FOLDER, the folder of {module_name.partition('.')[0]}.py"
        ) from None
    except (AttributeError, ImportError, SyntaxError, ValueError) as error:
        raise UserError(f"{key}={name}: expected MODULE:CLASS with a class in it ({one_line(error)})") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{key}={name}: expected a class derived from {base.__module__}.{base.__name__}")
    return found  # type: ignore[return-value]
