"""One forward pass, step by step: recorded tensors, what adds up to the logits, and a page that shows both.

model, ids -> trace -> contributions, logit lens -> page (one HTML file), plots (PNG)
"""

from gpt2lab.explain.contributions import Contributions, contributions
from gpt2lab.explain.lens import Lens, logit_lens
from gpt2lab.explain.trace import BlockTrace, Trace, trace

__all__ = ["BlockTrace", "Contributions", "Lens", "Trace", "contributions", "logit_lens", "trace"]
