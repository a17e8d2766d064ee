"""Loss scaling for float16."""

from typing import Any

from torch.amp import GradScaler

from gpt2lab.runtime import Runtime


class LossScale(GradScaler):
    """The factor that keeps float16's gradients from vanishing (Micikevicius et al. 2018, section 3.2); else 1."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.device.type, enabled=runtime.precision == "fp16")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with a saved scale; a run in another precision saved none, then the scale starts anew."""
        if state:
            super().load_state_dict(state)
