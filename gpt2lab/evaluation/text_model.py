"""What is evaluated: a loaded model and the device and precision it runs in."""

from dataclasses import dataclass

from gpt2lab.distributed import ALONE, World
from gpt2lab.runtime import Runtime
from gpt2lab.weights import LoadedModel, open_model


@dataclass(frozen=True)
class TextModel(LoadedModel):
    """A loaded model that is ready to read text."""

    runtime: Runtime
    world: World = ALONE
    """the processes that share the batches; each gets all scores"""


def open_text_model(where: str | None, runtime: Runtime, key: str = "checkpoint") -> TextModel:
    """The model that ``key=where`` names, on the runtime's device; errors as in ``open_model``."""
    return TextModel(**vars(open_model(where, runtime.device, key)), runtime=runtime)
