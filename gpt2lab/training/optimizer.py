"""Optimizers: ``OPTIMIZERS[name](model, config, lr)``, with weight decay on matrices only."""

from collections.abc import Callable

from torch import nn
from torch.optim import AdamW, Optimizer

from gpt2lab.config import OptimizerConfig, UserError


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Named parameter groups: matrices (embeddings included) decay; biases, gains and other vectors do not."""
    named = list(model.named_parameters())
    return [
        {"params": [(name, p) for name, p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [(name, p) for name, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, config: OptimizerConfig, lr: float) -> Optimizer:
    """Fused AdamW. Loshchilov and Hutter 2019, algorithm 2."""
    groups = [group for group in decay_groups(model, config.weight_decay) if group["params"]]
    return AdamW(groups, lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizerConfig, float], Optimizer]] = {"adamw": adamw}


class NamedOptimizer:
    """An optimizer whose saved state carries parameter names, which are compared when it is loaded.

    PyTorch matches moments to parameters by their place in the list; a changed order would swap them silently.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, object]:
        """The optimizer's state; its groups list ``param_names``."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take the moments and step counts back; decay, betas and eps stay those of the present configuration.

        Raises:
            UserError: the parameters' names or their order differ.
        """
        saved, own = (_param_names(s) for s in (state, self.optimizer.state_dict()))
        if saved != own:
            differing = next(
                (pair for pair in zip(saved, own, strict=False) if pair[0] != pair[1]), (len(saved), len(own))
            )
            raise UserError(
                f"the optimizer's saved parameters are not the model's: {differing[0]} against {differing[1]}"
            )
        # PyTorch's state holds the settings too, and would put the saved run's in the place of this one's
        settings = [
            {key: value for key, value in group.items() if key not in ("params", "param_names")}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state)
        for group, own_settings in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own_settings)


def _param_names(state: dict[str, object]) -> list[str]:
    groups = state["param_groups"]
    assert isinstance(groups, list)
    return [name for group in groups for name in group["param_names"]]
