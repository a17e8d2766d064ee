"""A model prepared for decoding: logits of the next token after prompts, after one more token, or after windows.

Legend: B = slots, R = some of them, T = tokens, C = n_embd, V = vocab_size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2lab.generation.cache import SlotCache
from gpt2lab.generation.prepared import prepare_for_decoding
from gpt2lab.generation.weights import attention_dtype
from gpt2lab.model import GPT, Layout
from gpt2lab.model.gpt import Cache
from gpt2lab.runtime import Runtime

KEYS_MULTIPLE = 256
"""on a GPU a step attends to this many columns or a multiple, so that few shapes are recorded as CUDA graphs"""


class Decoder:
    """Reads ``slots`` texts with one cache. All methods return float32 logits [rows, V] on the device.

    With ``largest``, only that many of a row's logits need be exact (``decoding_head``).
    """

    def __init__(self, model: GPT, runtime: Runtime, slots: int, capacity: int, largest: int | None = None) -> None:
        self.runtime, self.model, self.head = prepare_for_decoding(model, runtime, slots, largest)
        self.slots, self.vocab_size = slots, model.config.vocab_size
        self.cache = SlotCache(model.config, slots, capacity, self.runtime.device, attention_dtype(self.runtime))
        self.graphs: dict[int, _StepGraph] = {}

    def read_prompts(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Logits [R, V] after prompts of up to ``capacity`` tokens, which take the place of the slots' texts."""
        return self._after_last(prompts, self.cache.prompts(slots))

    def read_windows(self, windows: Sequence[Sequence[int]]) -> Tensor:
        """Logits [R, V] after texts that are read whole, without the cache."""
        return self._after_last(windows, None)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Logits [B, V] after one more token per slot, at its position in the slot's text."""
        device, n_keys = self.runtime.device, max(positions) + 1
        if device.type == "cuda":
            n_keys = min(-(-n_keys // KEYS_MULTIPLE) * KEYS_MULTIPLE, self.cache.capacity)
            if n_keys not in self.graphs:
                self.graphs[n_keys] = _StepGraph(self, n_keys)
            return self.graphs[n_keys](tokens, positions)
        tokens_B, pos_B = torch.tensor(tokens, device=device), torch.tensor(positions, device=device)
        return self.step_on_device(tokens_B, pos_B, n_keys, aligned=min(positions) == n_keys - 1)

    def step_on_device(self, tokens_B: Tensor, pos_B: Tensor, n_keys: int, *, aligned: bool) -> Tensor:
        """``step`` on tensors, without waiting for the device.

        Args:
            tokens_B: int64.
            pos_B: int64, below ``n_keys``.
            n_keys: columns of the cache to attend to.
            aligned: all positions are ``n_keys - 1``, so that no mask is needed.
        """
        layout = Layout(pos_B[:, None], None if aligned else torch.ones_like(pos_B)[:, None])
        with self.runtime.autocast():
            hidden_B1C = self.model.hidden(tokens_B[:, None], layout=layout, cache=self.cache.step(pos_B, n_keys))
        return self._logits(hidden_B1C[:, 0])

    def _after_last(self, texts: Sequence[Sequence[int]], cache: Cache | None) -> Tensor:
        """Texts are padded on the right, where causal attention keeps padding out of sight."""
        longest, device = max(map(len, texts)), self.runtime.device
        tokens_RT = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
        with self.runtime.autocast():
            hidden_RTC = self.model.hidden(tokens_RT, cache=cache)
        last_R = torch.tensor([len(text) - 1 for text in texts], device=device)
        return self._logits(hidden_RTC[torch.arange(len(texts), device=device), last_R])

    def _logits(self, hidden_RC: Tensor) -> Tensor:
        return self.head(hidden_RC)[:, : self.vocab_size]


class _StepGraph:
    """``Decoder.step`` recorded once as a CUDA graph: at batch 1 a GPU computes faster than Python launches.

    Recorded and replayed on the model's device: PyTorch records on the current one, which may be another model's.
    """

    def __init__(self, decoder: Decoder, n_keys: int) -> None:
        slots, self.device = decoder.slots, decoder.runtime.device
        self.tokens_B = torch.zeros(slots, dtype=torch.int64, device=self.device)
        self.pos_B = torch.zeros(slots, dtype=torch.int64, device=self.device)
        kept = decoder.cache.k[:, :, :, 0].clone(), decoder.cache.v[:, :, :, 0].clone()
        with torch.cuda.device(self.device):
            stream = torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):  # libraries allocate workspaces in a first run, which a graph must not
                decoder.step_on_device(self.tokens_B, self.pos_B, n_keys, aligned=False)
            torch.cuda.current_stream(self.device).wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            # thread_local: the thread that prefetches batches may allocate pinned memory meanwhile
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                self.logits_BV = decoder.step_on_device(self.tokens_B, self.pos_B, n_keys, aligned=False)
        # the first run has written column 0 of every slot
        decoder.cache.k[:, :, :, 0], decoder.cache.v[:, :, :, 0] = kept

    def __call__(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        self.tokens_B.copy_(torch.tensor(tokens))
        self.pos_B.copy_(torch.tensor(positions))
        with torch.cuda.device(self.device):
            self.graph.replay()
        return self.logits_BV
