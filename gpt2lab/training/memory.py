"""What to type when training runs out of memory."""

from gpt2lab.runtime import divisor_below


def smaller_micro_batch(micro_batch_size: int, sequences: int) -> str:
    """What to type when a forward pass does not fit.

    Args:
        micro_batch_size: sequences of the forward pass.
        sequences: sequences of this process's part of the batch, which micro-batches must divide.
    """
    smaller = divisor_below(micro_batch_size, sequences)
    first = f"training.micro_batch_size={smaller}, which gives the same steps without dropout, or " if smaller else ""
    return f"type {first}runtime.activation_checkpointing=true"


MODEL_ADVICE = (
    "weights, gradients and AdamW's two moments take 16 bytes per parameter; expected a smaller model "
    "(model=gpt2_small, model.n_layer=...) or a device with more memory (try runtime.device=cpu)"
)
"""What to do when the weights or the optimizer's state do not fit"""
