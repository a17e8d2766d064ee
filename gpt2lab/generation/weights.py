"""A copy of a model for decoding: weights cast once, and on a CPU stored as the fastest kernels want them.

Decoding multiplies a few tokens with every matrix of the model, so its speed is that of reading the weights. Autocast
would cast every weight again for each token. And oneDNN reads a matrix in its own blocked layout up to twice as fast
as one that is stored row by row (docs/speed.md).
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2lab.config import ModelConfig
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime

SMALL_PRODUCT = 400_000
"""multiplications below which a CPU is faster without oneDNN, whose calls take 14 microseconds (docs/speed.md)"""

Head = Callable[[Tensor], Tensor]


def decoding_runtime(runtime: Runtime, config: ModelConfig, batch_size: int) -> Runtime:
    """The precision to decode in: float32 on a CPU if the products are too small for bf16 to be faster."""
    small = 3 * config.n_embd**2 * batch_size < SMALL_PRODUCT
    return Runtime(runtime.device, "fp32") if small and runtime.device.type == "cpu" else runtime


def decoding_copy(model: GPT, runtime: Runtime, batch_size: int) -> GPT:
    """What ``model`` computes under ``runtime.autocast()``, without dropout, as a model with prepared linear layers.

    Embeddings, norms, the head and all other tensors are those of ``model``, not copies.
    """
    replacements: dict[int, object] = {id(parameter): parameter for parameter in model.parameters()}
    for block in model.blocks:
        for module in block.modules():
            if isinstance(module, nn.Linear):
                replacements[id(module)] = _prepared(module, runtime, batch_size)
    # deepcopy keeps the objects that it finds in this memo
    copied = copy.deepcopy(model, replacements).eval()
    for block in copied.blocks:
        # compiling and checkpointing give a block a forward of its own, which would run the training model's block
        vars(block).pop("forward", None)
    return copied


def decoding_head(weight_PC: Tensor, runtime: Runtime, batch_size: int) -> Head:
    """The product of hidden states [B, C] with the head, as float32 logits [B, P]."""
    weight_PC = weight_PC.detach()
    if runtime.device.type == "cuda" and runtime.dtype != torch.float32:
        weight_CP = weight_PC.to(runtime.dtype).t()
        return lambda hidden_BC: torch.mm(hidden_BC.to(runtime.dtype), weight_CP, out_dtype=torch.float32)
    weight_PC = weight_PC.float()
    if runtime.device.type != "cpu":
        return lambda hidden_BC: F.linear(hidden_BC.float(), weight_PC)
    if batch_size == 1:
        # measured: a vector times a matrix is up to three times as fast when the matrix's rows are long
        weight_CP = weight_PC.t().contiguous()
        return lambda hidden_BC: hidden_BC.float() @ weight_CP
    if _packs(torch.float32):
        return PackedLinear(weight_PC, None, batch_size)
    return lambda hidden_BC: F.linear(hidden_BC.float(), weight_PC)


class PackedLinear(nn.Module):
    """A linear layer on the CPU for inference, its weight in oneDNN's blocked layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None, batch_size: int) -> None:
        super().__init__()
        self.dtype, self.bias = weight.dtype, bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, batch_size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features], in the weight's dtype."""
        return torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.weight, self.bias, "none", [], "")


def _prepared(linear: nn.Linear, runtime: Runtime, batch_size: int) -> nn.Module:
    weight = linear.weight.detach().to(runtime.dtype)
    bias = linear.bias.detach().to(runtime.dtype) if linear.bias is not None else None
    large = weight.numel() * batch_size >= SMALL_PRODUCT
    if runtime.device.type == "cpu" and _packs(runtime.dtype) and (large or runtime.dtype != torch.float32):
        return PackedLinear(weight, bias, batch_size)
    prepared = nn.Linear(linear.in_features, linear.out_features, bias=bias is not None, device="meta")
    prepared.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        prepared.bias = nn.Parameter(bias, requires_grad=False)
    return prepared


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels for the dtype on this CPU. PyTorch offers these operators to its compiler only."""
    operators = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operators, "_linear_pointwise"):
        return False
    supported = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    return dtype == torch.float32 or (dtype in supported and bool(getattr(operators, supported[dtype])()))
