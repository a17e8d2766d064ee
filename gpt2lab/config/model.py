"""The model: its shape, and the variant of each part."""

import math
from dataclasses import dataclass, field, fields

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check, check_divides

LARGEST_SIZE = 10_000_000
"""of each number in ``ModelConfig``; a larger one is a mistake, and takes hours to find out"""
IGNORE_INDEX = -100
"""a target with this id is not scored, and not counted in a mean; ``torch.nn.functional.cross_entropy`` agrees"""


@dataclass
class PositionsConfig(CheckedConfig):
    """How the model encodes the positions of tokens."""

    name: str = "learned"
    """learned | rope | sinusoidal | alibi | none: a key of gpt2lab.model.positions.POSITIONS, or MODULE:CLASS"""
    rope_theta: float = 10_000.0
    """base of the rotation frequencies (rope only; Su et al. 2021, section 3.2.2)"""
    rope_fraction: float = 1.0
    """fraction of a head's channels that is rotated, the first ones (rope only; GPT-NeoX: 0.25)"""

    def __post_init__(self) -> None:
        check(0 < self.rope_theta < math.inf, "model.positions.rope_theta", self.rope_theta, "a number above 0")
        check(
            0 < self.rope_fraction <= 1,
            "model.positions.rope_fraction", self.rope_fraction, "a fraction above 0 and up to 1",
        )  # fmt: skip
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name.startswith("rope_") and self.name != "rope" and value != option.default:
                raise UserError(
                    f"model.positions.{option.name}={value}: model/positions={self.name} ignores it; "
                    f"expected no value; try model/positions=rope model.positions.{option.name}={value}"
                )


@dataclass
class NormConfig(CheckedConfig):
    """The normalization before attention, before the MLP and before the head."""

    name: str = "layernorm"
    """layernorm | rmsnorm: a key of gpt2lab.model.norms.NORMS, or MODULE:CLASS"""
    eps: float = 1e-5
    """added to the variance (layernorm) or mean square (rmsnorm)"""

    def __post_init__(self) -> None:
        check(0 < self.eps < math.inf, "model.norm.eps", self.eps, "a number above 0, GPT-2 has 1e-5")


@dataclass
class MLPConfig(CheckedConfig):
    """The MLP of a block."""

    name: str = "gelu"
    """gelu | gelu_erf | silu | swiglu | relu2: a key of gpt2lab.model.mlp.MLPS, or MODULE:CLASS"""
    hidden_dim: int | None = None
    """width of the hidden layer; null: 4 n_embd, for swiglu 8/3 n_embd rounded up to a multiple of 8"""

    def __post_init__(self) -> None:
        expected = "a whole number of at least 1, or null"
        check(
            self.hidden_dim is None or 1 <= self.hidden_dim <= LARGEST_SIZE,
            "model.mlp.hidden_dim",
            self.hidden_dim,
            expected,
        )


@dataclass
class ModelConfig(CheckedConfig):
    """The model. The defaults are GPT-2 small, 124,439,808 parameters."""

    n_layer: int = 12
    """number of blocks"""
    n_head: int = 12
    """attention heads per block"""
    n_kv_head: int | None = None
    """key-value heads, each shared by n_head / n_kv_head query heads; null: n_head (GQA; Ainslie et al. 2023)"""
    n_embd: int = 768
    """width of the residual stream"""
    block_size: int = 1024
    """longest sequence, in tokens"""
    vocab_size: int = 50_257
    """number of token ids; must equal the tokenizer's"""
    vocab_multiple_of: int = 1
    """rows of the embedding are padded to a multiple of this (128 suits a GPU); padding ids are never predicted"""
    bias: bool = True
    """biases in the linear layers and in LayerNorm"""
    tie_head: bool = True
    """the output head is the token embedding's matrix"""
    qk_norm: bool = False
    """normalize each head's queries and keys, before positions are applied (Dehghani et al. 2023, section 2)"""
    dropout: float = 0.0
    """dropout probability on the embedding, the attention weights and both residual branches"""
    positions: PositionsConfig = field(default_factory=PositionsConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    mlp: MLPConfig = field(default_factory=MLPConfig)

    def __post_init__(self) -> None:
        for key in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "vocab_multiple_of"):
            possible = 1 <= getattr(self, key) <= LARGEST_SIZE
            check(possible, f"model.{key}", getattr(self, key), f"a whole number of at least 1 up to {LARGEST_SIZE}")
        check(0 <= self.dropout < 1, "model.dropout", self.dropout, "a probability, 0 <= dropout < 1")
        check_divides("model.n_head", self.n_head, "model.n_embd", self.n_embd)
        if self.n_kv_head is not None:
            check(self.n_kv_head >= 1, "model.n_kv_head", self.n_kv_head, "a whole number of at least 1, or null")
            check_divides("model.n_kv_head", self.n_kv_head, "model.n_head", self.n_head)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return self.n_kv_head or self.n_head

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the token embedding and the head."""
        return -(-self.vocab_size // self.vocab_multiple_of) * self.vocab_multiple_of
