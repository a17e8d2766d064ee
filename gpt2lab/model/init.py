"""GPT-2's initialization: N(0, 0.02) matrices, smaller residual projections and positions, zero biases, unit gains.

And models before it: with shapes only, then with memory but without values.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from gpt2lab.config import UserError

INIT_STD = 0.02
POSITION_STD = 0.01
"""of learned position embeddings in OpenAI's code (``src/model.py`` of github.com/openai/gpt-2); nanoGPT and
``transformers`` take 0.02"""


def initial_std(name: str, n_layer: int) -> float:
    """Return the standard deviation of the normal distribution that a matrix starts from, by its full name."""
    if name.endswith("c_proj.weight"):
        return INIT_STD / math.sqrt(2 * n_layer)
    return POSITION_STD if name.endswith("wpe.weight") else INIT_STD


@torch.no_grad()
def init_weights(model: nn.Module, n_layer: int, generator_of: Callable[[str], Generator] | None = None) -> None:
    """Set every parameter of ``model`` in place.

    Matrices are drawn from N(0, 0.02), position embeddings (``wpe``) from N(0, 0.01), and the projections that end a
    residual branch (``c_proj``) from N(0, 0.02 / sqrt(2L)), because 2L of them add up in the residual stream (Radford
    et al. 2019, section 2.3).
    A module may name numbers that its own parameters start from: ``initial_values = {"alpha": 0.5}``.

    Args:
        model: the module.
        n_layer: L, the number of its blocks.
        generator_of: the generator of a parameter's name, on the parameters' device. With a generator for each name,
            models that differ in one part start from equal weights in all others. None: torch's own generator.

    Raises:
        UserError: a parameter of a kind this function does not know, which would stay unset.
    """
    for path, module in model.named_modules():
        initial_values: Mapping[str, float] = getattr(module, "initial_values", {})
        for kind, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{kind}"
            if kind in initial_values:
                parameter.fill_(initial_values[kind])
            elif kind == "bias":
                parameter.zero_()
            elif parameter.ndim == 1 and kind == "weight":
                parameter.fill_(1.0)
            elif parameter.ndim == 2:
                generator = generator_of(name) if generator_of else None
                parameter.normal_(0.0, initial_std(name, n_layer), generator=generator)
            else:
                raise UserError(
                    f"{name}: no initial value for a parameter of shape {list(parameter.shape)}; expected a vector "
                    "called weight (starts at 1), one called bias (0), a matrix (drawn), or a number of its own; type "
                    f'initial_values = {{"{kind}": 1.0}} in the class {type(module).__name__}'
                )


@contextmanager
def shapes_only() -> Iterator[None]:
    """Models made in this block have parameters with names and shapes, but without memory and values (meta device).

    Buffers, which a variant computes from its settings, have their values; random ones are the same in every process.
    """
    with torch.random.fork_rng(devices=[]), _NoValues():
        torch.default_generator.manual_seed(0)  # and not those of the GPUs
        yield


def allocate(model: nn.Module, device: torch.device | str) -> None:
    """Give the parameters of a ``shapes_only`` model memory without values, and move its buffers to the same device.

    Raises:
        UserError: a buffer that checkpoints would hold, which are of parameters only, or that has no values.
    """
    buffers = dict(model.named_buffers())
    for name in model.state_dict().keys() & buffers.keys():
        raise UserError(
            f"{name}: a buffer that is saved; expected one that is computed from the settings: type "
            "register_buffer(..., persistent=False), or make it a parameter if it is learned"
        )
    for name, buffer in buffers.items():
        if buffer.is_meta:
            raise UserError(
                f"{name}: a buffer made by torch.empty has no values here; expected torch.zeros or the like"
            )
    model.to_empty(device=device)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])


class _NoValues(TorchFunctionMode):
    """Gives new parameters no memory, and draws no values for them.

    The modules of PyTorch make their parameters by ``torch.empty``. Drawing on the meta device would import torch's
    compiler, which takes a second.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            return torch.empty(*args, **kwargs | {"device": "meta"})
        if func in _DRAWS:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


_DRAWS = {Tensor.normal_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
"""how GPT, ``nn.Embedding`` and ``nn.Linear`` draw their weights"""
