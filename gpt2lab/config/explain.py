"""Settings of the page about one forward pass."""

from dataclasses import dataclass, field

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import check
from gpt2lab.config.runtime import RuntimeConfig
from gpt2lab.config.sampling import DecodingConfig


@dataclass
class ExplainJob(CheckedConfig):
    """Shows one forward pass, step by step, as a web page."""

    checkpoint: str | None = None
    """a run, a checkpoint, a Hugging Face directory, or a name there (gpt2, ORG/NAME); null: the newest run"""
    prompt: str = "Hello, I'm a language model,"
    """text to read; empty: the beginning of a new document"""
    out: str = "explain.html"
    """file of the page; PNG files get its name with an ending each"""
    plots: bool = False
    """also write attention maps, logit lens and residual norms as PNG"""
    max_tokens: int = 64
    """longest text that is shown, in tokens; of a longer one the last tokens are read, as of one beyond the context"""
    steps: int = 5
    """next tokens that are drawn and recorded, one after another"""
    seed: int = 0
    """the same seed draws the same tokens"""
    sampling: DecodingConfig = field(default_factory=lambda: DecodingConfig(top_k=40))  # as in GPT-2's samples
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        expected = "1: only train.py, eval.py and sample.py take several"
        check(self.runtime.num_processes == 1, "runtime.num_processes", self.runtime.num_processes, expected)
        check(self.max_tokens >= 1, "max_tokens", self.max_tokens, "a whole number of at least 1")
        check(self.steps >= 1, "steps", self.steps, "a whole number of at least 1")
        check(self.seed >= 0, "seed", self.seed, "0 or more")
        check(self.out.endswith(".html"), "out", self.out, "a name that ends in .html")
