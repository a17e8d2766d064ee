"""The interface of an architecture of Hugging Face."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from gpt2lab.config import ModelConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.weights.config_json import ConfigJson
from gpt2lab.weights.parameter_map import MappedTensor, TensorFormat, as_it_is

ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu": "gelu_erf",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}
"""Names of ``transformers`` -> gpt2lab's MLPs. Export writes the first name of each."""


class Modules(NamedTuple):
    """The modules of ``transformers`` that hold one of our modules, and the views of its parameters.

    N in a name is the number of the block.
    """

    names: Sequence[str]
    views: Callable[[Tensor, ModelConfig], Sequence[MappedTensor]] = as_it_is


class Architecture(TensorFormat):
    """An architecture of ``transformers``, read and written."""

    NAME: ClassVar[str]
    """in messages"""
    PREFIX: ClassVar[str]
    """of every tensor but the head; files of the headless model go without it"""
    BUFFERS: ClassVar[str]
    """pattern of the ends of the buffers' names"""
    MODULES: ClassVar[Mapping[str, Modules]]
    """by the name of our module"""

    def model_config(self, settings: ConfigJson) -> ModelConfig:
        """Return our settings for theirs; ``dropout`` is 0.

        Raises:
            UserError: a setting is missing, malformed, or asks for something that gpt2lab does not have.
        """
        settings.require("quantization_config", expected=None)
        try:
            return self._model_config(settings)
        except UserError as error:
            if str(settings.path) in str(error):
                raise
            raise UserError(f"{settings.path}: {error}") from error

    @abstractmethod
    def _model_config(self, settings: ConfigJson) -> ModelConfig: ...

    @abstractmethod
    def unsupported(self, config: ModelConfig) -> list[str]:
        """Return the settings of ``config``, as they are typed, that this architecture does not have."""

    @abstractmethod
    def config_json(self, model: GPT) -> dict[str, Any]:
        """Return the content of config.json, without the ids of special tokens."""

    def parameter_map(self, model: GPT) -> dict[str, MappedTensor]:
        """See ``TensorFormat``."""
        mapping = {}
        for name, parameter in model.named_parameters():
            module, kind = name.rsplit(".", 1)
            number = module.split(".")[1] if module.startswith("blocks.") else ""
            theirs, views = self.MODULES[module.replace(f"blocks.{number}.", "blocks.N.")]
            for their_module, mapped in zip(theirs, views(parameter.data, model.config), strict=True):
                mapping[f"{their_module.replace('.N.', f'.{number}.')}.{kind}"] = mapped
        return mapping

    def full_name(self, name: str) -> str:
        """See ``TensorFormat``; without ``_orig_mod`` and ``module``, which torch.compile and DDP add."""
        name = ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))
        return name if name == self.HEAD or name.startswith(self.PREFIX) else self.PREFIX + name

    def is_buffer(self, full_name: str) -> bool:
        """See ``TensorFormat``."""
        return re.search(rf"\.({self.BUFFERS})$", full_name) is not None


def activation_name(config: ModelConfig) -> str:
    """Return the name of ``transformers`` for the activation of ``config``."""
    return next(name for name, ours in ACTIVATIONS.items() if ours == config.mlp.name)


def unless(supported: bool, setting: str) -> list[str]:
    """Return the setting in a list if it is not supported, else an empty list."""
    return [] if supported else [setting]
