"""MLP variants: ``MLPS[name](config)`` maps [B, T, C] to [B, T, C], each position separately.

Legend: B = batch, T = tokens, C = n_embd, M = hidden width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from gpt2lab.config import ModelConfig


class MLP(nn.Module, ABC):
    """GPT-2's MLP: project to M (default 4C), apply the activation, project back to C, dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_dim = config.mlp.hidden_dim or 4 * config.n_embd
        self.c_fc = nn.Linear(config.n_embd, hidden_dim, bias=config.bias)
        self.c_proj = nn.Linear(hidden_dim, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        return self.dropout(self.c_proj(self.activation(self.c_fc(x_BTC))))

    @staticmethod
    @abstractmethod
    def activation(x_BTM: Tensor) -> Tensor:
        """The activation function, elementwise."""


class GeluMLP(MLP):
    """GELU in GPT-2's tanh form. Hendrycks and Gimpel 2016, section 2."""

    @staticmethod
    def activation(x_BTM: Tensor) -> Tensor:
        """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
        return F.gelu(x_BTM, approximate="tanh")


class GeluErfMLP(MLP):
    """GELU in its exact form, as in GPT-NeoX. Hendrycks and Gimpel 2016, equation 1."""

    @staticmethod
    def activation(x_BTM: Tensor) -> Tensor:
        """x / 2 (1 + erf(x / sqrt(2)))."""
        return F.gelu(x_BTM)


class SiluMLP(MLP):
    """SiLU, also called Swish. Elfwing et al. 2017, section 2; Ramachandran et al. 2017."""

    @staticmethod
    def activation(x_BTM: Tensor) -> Tensor:
        """x sigmoid(x)."""
        return F.silu(x_BTM)


class Relu2MLP(MLP):
    """The square of ReLU. So et al. 2021 (Primer), section 4."""

    @staticmethod
    def activation(x_BTM: Tensor) -> Tensor:
        """max(x, 0)^2."""
        return F.relu(x_BTM).square()


class SwiGLUMLP(nn.Module):
    """SiLU of one projection times another. Shazeer 2020, equation 6.

    With the default M = 8/3 C, rounded up to a multiple of 8, its three matrices have as many parameters as the two of
    GPT-2's MLP.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_dim = config.mlp.hidden_dim or 8 * -(-config.n_embd // 3)
        self.c_gate = nn.Linear(config.n_embd, hidden_dim, bias=config.bias)
        self.c_fc = nn.Linear(config.n_embd, hidden_dim, bias=config.bias)
        self.c_proj = nn.Linear(hidden_dim, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        return self.dropout(self.c_proj(F.silu(self.c_gate(x_BTC)) * self.c_fc(x_BTC)))


MLPS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "gelu": GeluMLP,
    "gelu_erf": GeluErfMLP,
    "silu": SiluMLP,
    "swiglu": SwiGLUMLP,
    "relu2": Relu2MLP,
}
