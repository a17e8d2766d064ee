"""MLP variants: ``MLPS[name](config)`` maps [B, T, C] to [B, T, C], each position by itself.

Legend: B = batch, T = tokens, C = n_embd.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from gpt2lab.config import ModelConfig


class GeluMLP(nn.Module):
    """GPT-2's: widen to 4C, GELU in its tanh form (Hendrycks and Gimpel 2016, section 2), back to C, dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x_BTC), approximate="tanh")))


MLPS: dict[str, type[GeluMLP]] = {"gelu": GeluMLP}
