"""The floor of a training step and of a decoded token on this machine, and how close gpt2lab comes.

    python -m benchmarks.roofline [--shape nano] [--precision auto] [--threads 2] [--device cpu]

Measures the best rate of a matrix product and of reading memory, counts the operations and bytes of the work, and
divides. docs/speed.md explains the numbers.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.models import DTYPES, SHAPES, our_model, our_runtime
from benchmarks.training import gpt2lab as step_of
from gpt2lab.generation.decoder import Decoder
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime
from gpt2lab.training.throughput import flops_per_token


def seconds(work: Callable[[], object], turns: int = 7) -> float:
    """The best of several, after one to warm up."""

    def time_of_one() -> float:
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - started

    time_of_one()
    return min(time_of_one() for _ in range(turns))


def best_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a large square product."""
    size = {"cpu": 1536, "cuda": 8192}[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b)


def best_bandwidth(device: torch.device) -> float:
    """Bytes per second of a sum over memory that no cache holds."""
    numbers = torch.ones({"cpu": 2**26, "cuda": 2**30}[device.type], device=device)
    return numbers.nbytes / seconds(numbers.sum)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="nano")
    parser.add_argument("--precision", choices=("auto", *DTYPES), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    case = {"shape": given.shape, "precision": given.precision, "device": given.device}
    if given.device == "cpu":
        case |= {"rows": 8 if given.shape == "nano" else 2, "T": 256}
    else:
        case |= {"rows": 16, "T": SHAPES[given.shape]["block_size"], "compile": True}
    runtime, model = our_runtime(case), our_model(case)
    flops, bandwidth = best_flops(runtime.dtype, runtime.device), best_bandwidth(runtime.device)
    print(f"{given.shape}, {runtime.precision}, {runtime.device_name}, {given.threads} threads")
    print(f"products at {flops / 1e9:,.0f} GFLOP/s, memory at {bandwidth / 1e9:.1f} GB/s\n")
    print("| work | operations | bytes | floor, ms | measured, ms | of the floor |\n|---|---|---|---|---|---|")

    tokens = case["rows"] * case["T"]
    # AdamW reads weight, gradient and two moments, and writes weight and moments, all in float32
    parameter_bytes = 4 * 7 * model.num_parameters()
    # logits are not counted: a group of them can stay in the cache
    run = step_of(case)
    run()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    row("training step", tokens * flops_per_token(model, case["T"]), parameter_bytes, flops, bandwidth,
        statistics.median(times))  # fmt: skip

    for batch in (1, 8):
        decode(model.eval(), runtime, batch, flops, bandwidth)


@torch.inference_mode()
def decode(model: GPT, runtime: Runtime, batch: int, flops: float, bandwidth: float) -> None:
    """One line for a token per row."""
    decoder = Decoder(model, runtime, batch, 128)
    decoder.read_prompts(list(range(batch)), [[1] * 64] * batch)
    taken = seconds(lambda: decoder.step([5] * batch, [64] * batch), turns=15)
    in_blocks, head = sum(p.numel() for p in model.blocks.parameters()), model.head_PC.numel()
    read = in_blocks * decoder.runtime.dtype.itemsize + head * 4  # the head is read in float32
    row(f"decode, batch {batch}", 2 * batch * (in_blocks + head), read, flops, bandwidth, taken)


def row(work: str, operations: float, bytes_read: float, flops: float, bandwidth: float, taken: float) -> None:
    """One line: the floor is the longer of computing and reading."""
    floor = max(operations / flops, bytes_read / bandwidth)
    print(
        f"| {work} | {operations / 1e9:,.2f} G | {bytes_read / 1e6:,.0f} MB | {floor * 1e3:.2f} | {taken * 1e3:.2f} "
        f"| {floor / taken:.0%} |"
    )


if __name__ == "__main__":
    main()
