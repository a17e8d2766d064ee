"""A copy of a model for decoding: weights cast once, and on a CPU stored as the fastest kernels want them.

Decoding multiplies a few tokens with every matrix of the model, so its speed is that of reading the weights. Autocast
would cast every weight again for each token. And oneDNN reads a matrix in its own blocked layout up to twice as fast
as one that is stored row by row (docs/speed.md).

Legend: B = rows, C = n_embd, V = vocab_size, P = rows of the head: V and padding, L = ids that may be the largest.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gpt2lab.config import ModelConfig
from gpt2lab.model import GPT
from gpt2lab.model.attention import Attention
from gpt2lab.runtime import Runtime

SMALL_PRODUCT = 400_000
"""multiplications below which a CPU is faster without oneDNN, whose calls take 14 microseconds (docs/speed.md)"""

BF16_ROUNDING = torch.finfo(torch.bfloat16).eps / 2
"""largest relative error of a number rounded to bf16"""

Head = Callable[[Tensor], Tensor]


def decoding_runtime(runtime: Runtime, config: ModelConfig) -> Runtime:
    """The precision to decode in: float32 on a CPU if the products of a token are too small for bf16 to be faster.

    It does not depend on the number of rows, and so neither do the samples.
    """
    small = 3 * config.n_embd**2 < SMALL_PRODUCT
    return Runtime(runtime.device, "fp32") if small and runtime.device.type == "cpu" else runtime


def attention_dtype(runtime: Runtime) -> torch.dtype:
    """The dtype of attention and of the cache: float32 on a CPU.

    PyTorch's attention of one query per row takes four to eight times as long there in bf16 (docs/speed.md).
    """
    return torch.float32 if runtime.device.type == "cpu" else runtime.dtype


def decoding_copy(model: GPT, runtime: Runtime, batch_size: int) -> GPT:
    """What ``model`` computes under ``runtime.autocast()``, without dropout, as a model with prepared linear layers.

    Embeddings, norms, the head and all other tensors are those of ``model``, not copies. A linear layer is left as it
    is if it does more than multiply, or belongs to a variant of one's own, which may read its weight.
    """
    replacements: dict[int, object] = {id(parameter): parameter for parameter in model.parameters()}
    for parent in model.blocks.modules():
        if type(parent).__module__.startswith("gpt2lab."):
            for layer in parent.children():
                if type(layer) is nn.Linear and not is_modified(layer):
                    replacements[id(layer)] = _prepared(layer, runtime, batch_size)
    # deepcopy keeps the objects that it finds in this memo
    copied = copy.deepcopy(model, replacements).eval()
    for block in copied.blocks:
        if _is_checkpointed(block):  # by a forward of its own, which would run the training model's block
            del block.forward
        for module in block.modules():
            if isinstance(module, Attention) and attention_dtype(runtime) != runtime.dtype:
                module.attend = _Float32Attention(module.attend)
    return copied


def is_modified(module: nn.Module) -> bool:
    """Whether what a module computes is more than its class says: it has hooks, or another function as ``forward``."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _is_checkpointed(block: nn.Module) -> bool:
    """Whether training keeps only the block's inputs (``prepare_blocks`` in gpt2lab.training.build)."""
    forward = vars(block).get("forward")
    return isinstance(forward, partial) and forward.func is checkpoint


def decoding_head(
    weight_PC: Tensor, vocab_size: int, runtime: Runtime, batch_size: int, largest: int | None = None
) -> Head:
    """The product of hidden states [B, C] with the head, as float32 logits of the V ids, with or without padding.

    With ``largest``, only that many of a row's logits need be right to float32; the others may be any numbers below
    them.
    """
    weight_PC = weight_PC.detach()
    if runtime.device.type == "cpu" and largest is not None and _packs(torch.bfloat16):
        weight_VC = weight_PC[:vocab_size].float()
        return ScreenedHead(weight_VC, PackedLinear(weight_VC.bfloat16(), None, batch_size), largest)
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


class ScreenedHead:
    """The head for greedy and top-k decoding: bf16 products find the ids that matter, which are then computed exactly.

    Half as many bytes are read as for float32 logits, and the ``largest`` largest logits of each row, and those equal
    to the last of them, are the same. With h' and w' for the numbers rounded to bf16, and by Cauchy-Schwarz,

        |h w - h' w'| = |(h - h') w + h' (w - w')| <= |h - h'| |w| + |h'| |w - w'|

    The result of the bf16 product is rounded once more. A logit that is further than twice this error below the last
    of the largest ones is not among them.
    """

    def __init__(self, weight_VC: Tensor, screen: Head, largest: int) -> None:
        """Args: weight_VC: float32. screen: the product with it in bf16. largest: logits that have to be exact."""
        self.weight_VC, self.screen, self.largest = weight_VC, screen, min(largest, len(weight_VC))
        self.longest = weight_VC.norm(dim=1).max()
        self.longest_residual = (weight_VC - weight_VC.bfloat16().float()).norm(dim=1).max()

    def __call__(self, hidden_BC: Tensor) -> Tensor:
        """Float32 logits [B, V]."""
        hidden_BC = hidden_BC.float()
        logits_BV = self.screen(hidden_BC).float()
        largest_B1, smallest_B1 = logits_BV.amax(1, keepdim=True), logits_BV.amin(1, keepdim=True)
        # finding a maximum takes a twentieth of the time of topk
        last_B1 = largest_B1 if self.largest == 1 else logits_BV.topk(self.largest, dim=1).values[:, -1:]
        rounded_BC = hidden_BC.bfloat16().float()
        error_B1 = (hidden_BC - rounded_BC).norm(dim=1, keepdim=True) * self.longest
        error_B1 += rounded_BC.norm(dim=1, keepdim=True) * self.longest_residual
        error_B1 += torch.maximum(largest_B1, -smallest_B1) * BF16_ROUNDING
        # a twentieth more for the roundings of the float32 sums, here and in the products
        likely_L = (logits_BV >= last_B1 - 2.1 * error_B1).any(0).nonzero()[:, 0]
        return logits_BV.index_copy_(1, likely_L, F.linear(hidden_BC, self.weight_VC[likely_L]))


class _Float32Attention(nn.Module):
    """Attention in float32 whatever autocast's dtype."""

    def __init__(self, attend: nn.Module) -> None:
        super().__init__()
        self.attend = attend

    def forward(self, q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_BHTS: Tensor | None) -> Tensor:
        with torch.autocast(q_BHTD.device.type, enabled=False):
            attended: Tensor = self.attend(q_BHTD.float(), k_BKSD.float(), v_BKSD.float(), mask_BHTS)
        return attended


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
