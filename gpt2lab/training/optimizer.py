"""Optimizers: ``OPTIMIZERS[name](model, config, lr, dtype)`` returns one or several by name, which cover the model.

Only matrices have weight decay.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from gpt2lab.config import OptimizerConfig, UserError
from gpt2lab.training.muon import Muon
from gpt2lab.training.sharding import copy_like

NamedParameter = tuple[str, Tensor]


def adamw(
    model: nn.Module, config: OptimizerConfig, lr: float, dtype: torch.dtype = torch.float32
) -> dict[str, Optimizer]:
    """Fused AdamW for all parameters, which multiplies no matrices. Loshchilov and Hutter 2019, algorithm 2."""
    return {"adamw": _adamw(list(model.named_parameters()), config, lr)}


def muon_and_adamw(
    model: nn.Module, config: OptimizerConfig, lr: float, dtype: torch.dtype = torch.float32
) -> dict[str, Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, head and vectors. Jordan et al. 2024.

    Muon's update is scaled to the size of AdamW's, so that one learning rate and decay serve both (Liu et al. 2025,
    section 2.2). The fused query-key-value matrix is one matrix to it. Its products are in ``dtype``, but for float16,
    whose range they leave.
    """
    named = list(model.named_parameters())
    hidden = {name for name, parameter in named if name.startswith("blocks.") and parameter.ndim == 2}
    return {
        "muon": Muon(
            [(name, parameter) for name, parameter in named if name in hidden],
            lr=lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            dtype=torch.float32 if dtype == torch.float16 else dtype,
        ),
        "adamw": _adamw([(name, parameter) for name, parameter in named if name not in hidden], config, lr),
    }


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizerConfig, float, torch.dtype], dict[str, Optimizer]]] = {
    "adamw": adamw,
    "muon": muon_and_adamw,
}


def decay_groups(named: Iterable[NamedParameter], weight_decay: float) -> list[dict[str, Any]]:
    """Named parameter groups: matrices (embeddings included) decay; biases, gains and other vectors do not."""
    named = list(named)
    groups = [
        {"params": [(name, p) for name, p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [(name, p) for name, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _adamw(named: list[NamedParameter], config: OptimizerConfig, lr: float) -> AdamW:
    groups = decay_groups(named, config.weight_decay)
    return AdamW(groups, lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


class Optimizers:
    """The run's optimizers as one; the saved state holds parameter names, which are compared when it is loaded.

    PyTorch matches moments to parameters by their index in the list; a changed order would swap them silently.
    """

    def __init__(self, parts: dict[str, Optimizer]) -> None:
        self.parts = parts
        for group in self.groups:
            group["initial_lr"] = group["lr"]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all parts."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def set_lr(self, share: float) -> None:
        """Set each group to this share of its peak learning rate."""
        for group in self.groups:
            group["lr"] = share * group["initial_lr"]

    @property
    def skips_on_device(self) -> bool:
        """Whether ``step_unless`` works: every part reads a flag on the device, and no parameter is split by FSDP."""
        split = any(isinstance(p, DTensor) for group in self.groups for p in group["params"])
        return not split and all(part.defaults.get("fused") or isinstance(part, Muon) for part in self.parts.values())

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for part in self.parts.values():
            part.step()

    def step_unless(self, skip: Tensor) -> None:
        """``step``, without effect where the device finds the scalar ``skip`` true; the host does not wait for it.

        PyTorch's fused optimizers have this for ``GradScaler``, and so does ``Muon``: they test ``found_inf`` and leave
        parameters, moments and step counts as they are when it is 1.
        """
        found_inf = skip.float()
        for part in self.parts.values():
            part.found_inf = found_inf  # type: ignore[attr-defined]
            part.step()
            del part.found_inf  # type: ignore[attr-defined]

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for part in self.parts.values():
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The state of each part; its groups list ``param_names``."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy whole moments and step counts; rate, decay, betas and eps stay those of the present configuration.

        Raises:
            UserError: the saved optimizers, or their parameters' names or order, differ.
        """
        if state.keys() != self.parts.keys():
            raise UserError(
                f"the optimizer's saved state is of {' and '.join(state)}, this run's optimizer is "
                f"{' and '.join(self.parts)}; expected the same; resume with the old one, or take the weights alone "
                "with init_from="
            )
        for name, part in self.parts.items():
            _require_same_parameters(state[name], part.state_dict())
            # PyTorch's state includes the settings; loading it would replace this run's by the saved run's
            settings = [
                {key: value for key, value in group.items() if key not in ("params", "param_names")}
                for group in part.param_groups
            ]
            part.load_state_dict(state[name] | {"state": _own_copies(state[name]["state"], part)})
            for group, own_settings in zip(part.param_groups, settings, strict=True):
                group.update(own_settings)


def _own_copies(saved: dict[int, dict[str, Tensor]], optimizer: Optimizer) -> dict[int, dict[str, Tensor]]:
    """The saved tensors of each parameter, moments on its device and split as it is.

    PyTorch would keep the saved ones, which may be pages of a checkpoint's file.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        number: {
            name: copy_like(value, parameters[number]) if value.shape == parameters[number].shape else value.clone()
            for name, value in tensors.items()
        }
        for number, tensors in saved.items()
    }


def _require_same_parameters(saved_state: dict[str, Any], own_state: dict[str, Any]) -> None:
    saved, own = ([n for group in s["param_groups"] for n in group["param_names"]] for s in (saved_state, own_state))
    if saved != own:
        differing = next((pair for pair in zip(saved, own, strict=False) if pair[0] != pair[1]), (len(saved), len(own)))
        raise UserError(f"the optimizer's saved parameters are not the model's: {differing[0]} against {differing[1]}")
