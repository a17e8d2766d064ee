"""What is evaluated: a loaded model and the device and precision it runs in."""

from dataclasses import dataclass, replace

from gpt2lab.distributed import ALONE, World
from gpt2lab.runtime import Runtime
from gpt2lab.weights import LoadedModel, open_model


@dataclass(frozen=True)
class TextModel(LoadedModel):
    """A loaded model that is ready to read text."""

    runtime: Runtime
    world: World = ALONE
    """the processes that share the batches; each gets all scores"""
    auto_precision: bool = False
    """the runtime's precision was chosen by ``runtime.precision=auto``"""


def open_text_model(where: str | None, runtime: Runtime, key: str = "checkpoint") -> TextModel:
    """The model that ``key=where`` names, on the runtime's device; errors as in ``open_model``."""
    return TextModel(**vars(open_model(where, runtime.device, key)), runtime=runtime)


def in_scoring_precision(loaded: TextModel) -> TextModel:
    """The model with the precision that its scores are taken in.

    ``runtime.precision=auto`` is float32 for pretrained models, whose published values are of float32, and on a CPU:
    bfloat16 changes the fourth digit of a perplexity. A run of gpt2lab on a GPU is scored as it was trained.
    """
    is_float32 = loaded.runtime.device.type == "cpu" or loaded.source.trained_on is None
    if loaded.auto_precision and is_float32:
        return replace(loaded, runtime=replace(loaded.runtime, precision="fp32"))
    return loaded
