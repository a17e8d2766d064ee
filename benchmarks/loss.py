"""The head and its loss, forward and backward: gpt2lab's grouped loss beside torch's cross-entropy, in one run.

    python benchmarks/loss.py [--tokens 2048] [--width 128] [--device cpu]

Prints a Markdown table: seconds (the best of several), the ratio to torch's, how far loss and gradient are from it.
On a CPU the table comes twice: with malloc as it is, and with freed memory kept, as gpt2lab's commands run.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2lab.config import RuntimeConfig
from gpt2lab.model.loss import objective_sum
from gpt2lab.runtime import open_runtime

VOCAB_SIZE = 50_257
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def torch_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """What one writes without thinking about it: all logits at once."""
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")


def gpt2lab_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The same, by groups of tokens."""
    objective, _ = objective_sum(hidden, weight, targets, vocab_size=VOCAB_SIZE)
    return objective


def measure(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> tuple[float, Tensor, Tensor]:
    """Best seconds of five, the loss, and the head's gradient."""
    hidden, weight, targets = inputs
    seconds = []
    for _ in range(6):
        hidden.grad = weight.grad = None
        _wait(hidden.device)
        started = time.perf_counter()
        with torch.autocast(hidden.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss(hidden, weight, targets)
        value.backward()
        _wait(hidden.device)
        seconds.append(time.perf_counter() - started)
    assert weight.grad is not None
    return min(seconds[1:]), value.detach(), weight.grad


def table(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """All four ways, against torch in float32."""
    print("| loss | precision | seconds | ratio | loss off by | gradient off by |\n|---|---|---|---|---|---|")
    reference: tuple[float, Tensor, Tensor] | None = None
    for dtype in (torch.float32, torch.bfloat16):
        for name, loss in (("torch", torch_loss), ("gpt2lab", gpt2lab_loss)):
            result = measure(loss, inputs, dtype)
            reference = reference or result
            value_error = abs(result[1] / reference[1] - 1).item()
            gradient_error = ((result[2] - reference[2]).norm() / reference[2].norm()).item()
            print(
                f"| {name} | {str(dtype).removeprefix('torch.')} | {result[0]:.3f} | {reference[0] / result[0]:.2f} "
                f"| {value_error:.1e} | {gradient_error:.1e} |"
            )


def main() -> None:
    """Measure on the device asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    hidden = torch.randn(arguments.tokens, arguments.width, device=device, requires_grad=True)
    weight = (0.02 * torch.randn(VOCAB_SIZE, arguments.width, device=device)).requires_grad_()
    inputs = (hidden, weight, torch.randint(VOCAB_SIZE, (arguments.tokens,), device=device))
    print(
        f"[{arguments.tokens}, {arguments.width}] x [{VOCAB_SIZE}, {arguments.width}] "
        f"on {device}, torch {torch.__version__}"
    )
    if device.type == "cpu":
        print("\nmalloc as it is\n")
        table(inputs)
        print("\nfreed memory kept\n")
    open_runtime(RuntimeConfig(device=arguments.device))
    table(inputs)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
