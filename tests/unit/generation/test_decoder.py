"""gpt2lab.generation.decoder and weights: the prepared model against the plain one, and steps that can be recorded."""

import copy
import dataclasses
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gpt2lab.config import ModelConfig
from gpt2lab.generation import weights
from gpt2lab.generation.decoder import Decoder
from gpt2lab.generation.weights import PackedLinear, decoding_copy, decoding_head
from gpt2lab.runtime import Runtime
from tests.conftest import make_tiny_model

FP32, BF16 = (Runtime(torch.device("cpu"), precision) for precision in ("fp32", "bf16"))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
BF16_PACKS = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture(autouse=True)
def like_a_large_model(monkeypatch):
    """Tiny models are decoded with the kernels of large ones."""
    monkeypatch.setattr(weights, "SMALL_PRODUCT", 0)


@torch.inference_mode()
@pytest.mark.parametrize("batch_size", [1, 3])
def test_decoding_copy_computes_what_autocast_does(positions, options, batch_size):
    """In float32 to rounding; in bf16 to the rounding of bf16, since sums are taken in another order."""
    model, tokens = make_tiny_model(**{"positions": positions} | options), torch.randint(31, (batch_size, 9))
    expected = model.hidden(tokens)
    torch.testing.assert_close(decoding_copy(model, FP32, batch_size).hidden(tokens), expected, **CLOSE)
    with BF16.autocast():
        ours, autocast = decoding_copy(model, BF16, batch_size).hidden(tokens), model.hidden(tokens)
    assert ours.dtype == autocast.dtype
    assert (ours - expected).norm() < 1.5 * (autocast - expected).norm() + 1e-3 * expected.norm()


@torch.inference_mode()
@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("runtime", [FP32, BF16], ids=["fp32", "bf16"])
def test_decoding_head_has_float32_logits(runtime, batch_size):
    """Logits near 100 differ by less than bf16 can tell apart."""
    weight, hidden = torch.randn(50, 16), torch.randn(batch_size, 16)
    weight[:, 0], hidden[:, 0] = 10.0, 10.0
    logits = decoding_head(weight, 50, runtime, batch_size)(hidden)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, hidden @ weight.t(), **CLOSE)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_decoding_copy_shares_all_but_the_linear_layers_and_leaves_the_model_alone():
    model = make_tiny_model(tie_head=False)
    state = copy.deepcopy(model.state_dict())
    decoder = decoding_copy(model, BF16, 1)
    assert decoder.wte.weight is model.wte.weight
    assert decoder.norm_f is not model.norm_f
    assert decoder.norm_f.weight is model.norm_f.weight
    assert decoder.lm_head.weight is model.lm_head.weight
    linears = [module for module in decoder.blocks.modules() if isinstance(module, PackedLinear | nn.Linear)]
    assert len(linears) == 2 * 4
    assert all(linear.weight.dtype == torch.bfloat16 for linear in linears)
    assert all(isinstance(linear, PackedLinear) == BF16_PACKS for linear in linears)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


class Casts(TorchDispatchMode):
    """Numbers of elements that are copied to another dtype."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.to) and out.dtype != args[0].dtype:
            self.sizes.append(out.numel())
        return out


@torch.inference_mode()
def test_a_step_casts_no_weights(variant):
    decoder = Decoder(make_tiny_model(**variant), BF16, slots=2, capacity=12)
    decoder.read_prompts([0, 1], [[1, 2], [3]])
    with Casts() as casts:
        decoder.step([4, 5], [2, 1])
    assert max(casts.sizes) <= 2 * 64  # the activations of the MLP


@torch.inference_mode()
def test_attention_is_in_float32_on_a_cpu():
    """Its kernel for one query is several times as slow in bf16."""
    model, dtypes = make_tiny_model(positions="rope"), []
    for block in model.blocks:
        block.attn.attend.register_forward_hook(
            lambda module, inputs, output: dtypes.append({x.dtype for x in inputs[:3]})
        )
    decoder = Decoder(model, BF16, slots=2, capacity=12)
    assert decoder.cache.k.dtype == decoder.cache.v.dtype == torch.float32
    decoder.read_prompts([0, 1], [[1, 2], [3, 4]])
    decoder.step([5, 6], [2, 2])
    decoder.read_windows([[1, 2, 3]])
    assert dtypes == [{torch.float32}] * 3 * len(model.blocks)
    with BF16.autocast():
        model.hidden(torch.tensor([[1, 2]]))  # the model itself is left alone
    assert dtypes[-1] == {torch.bfloat16}


@torch.inference_mode()
def test_steps_of_slots_are_those_of_each_text_alone(positions, options):
    """Slots at different positions, one of which is given to another text in between."""
    model = make_tiny_model(**{"positions": positions} | options)
    decoder = Decoder(model, FP32, slots=3, capacity=12)

    def check(logits, *texts):
        for row, text in zip(logits, texts, strict=True):
            torch.testing.assert_close(row, model(torch.tensor([text]))[0, -1], **CLOSE)

    check(decoder.read_prompts([0, 2, 1], [[1, 2, 3], [4], [5, 6]]), [1, 2, 3], [4], [5, 6])
    check(decoder.step([7, 8, 9], [3, 2, 1]), [1, 2, 3, 7], [5, 6, 8], [4, 9])
    check(decoder.read_prompts([1], [[10, 11, 12, 13, 14]]), [10, 11, 12, 13, 14])
    check(decoder.step([1, 2, 3], [4, 5, 2]), [1, 2, 3, 7, 1], [10, 11, 12, 13, 14, 2], [4, 9, 3])
    check(decoder.read_windows([[1, 2], [3] * 12]), [1, 2], [3] * 12)


@torch.inference_mode()
@pytest.mark.parametrize("runtime", [FP32, BF16], ids=["fp32", "bf16"])
def test_a_step_is_one_graph_for_all_positions(positions, runtime, monkeypatch):
    """What a CUDA graph needs: no value is read back, and neither positions nor tokens change shapes or code."""
    monkeypatch.setattr(weights, "_packs", lambda dtype: False)  # as on a GPU
    model = make_tiny_model(positions=positions, n_kv_head=1, qk_norm=True)
    decoder = Decoder(model, runtime, slots=2, capacity=12)
    decoder.read_prompts([0, 1], [[1, 2, 3], [4, 5, 6]])
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    step = torch.compile(decoder.step_on_device, fullgraph=True, dynamic=False, backend=count)
    texts = [[1, 2, 3], [4, 5, 6]]
    for tokens in ([7, 8], [9, 10], [11, 12]):
        position = torch.tensor([len(text) for text in texts])
        logits = step(torch.tensor(tokens), position, 12, aligned=False)
        texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
        with runtime.autocast():
            expected = model(torch.tensor(texts))[:, -1]
        assert (logits - expected).norm() < (1e-5 if runtime is FP32 else 0.03) * expected.norm()
    assert len(graphs) == 1


def test_small_products_are_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(weights, "SMALL_PRODUCT", 400_000)
    narrow, wide = ModelConfig(n_embd=128, n_head=2), ModelConfig()
    assert weights.decoding_runtime(BF16, narrow).precision == "fp32"
    assert weights.decoding_runtime(BF16, wide).precision == "bf16"
    on_gpu = Runtime(torch.device("cuda"), "bf16")
    assert weights.decoding_runtime(on_gpu, narrow) is on_gpu
    copied = weights.decoding_copy(make_tiny_model(), FP32, 1)
    assert not [module for module in copied.modules() if isinstance(module, PackedLinear)]


class TensorsOnCPU(TorchFunctionMode):
    """Tensors for any device are on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        return function(*args, **(kwargs | {"device": "cpu"} if "device" in kwargs else kwargs))


@dataclasses.dataclass
class FakeStream:
    device: torch.device

    def wait_stream(self, other):
        assert other.device == self.device


@torch.inference_mode()
def test_steps_are_recorded_on_the_device_of_the_model(monkeypatch):
    """The current device may be that of a model that was loaded later. No GPU here: torch.cuda is replaced."""
    current, events = [torch.device("cuda", 0)], []

    @contextmanager
    def device(index):
        current.append(torch.device(index))
        yield
        current.pop()

    class Graph:
        def __init__(self):
            self.replay = lambda: events.append(("replay", current[-1]))

    @contextmanager
    def record(graph, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"  # another thread may pin memory meanwhile
        with device(stream.device):
            events.append(("record", current[-1]))
            yield

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device=None: FakeStream(device or current[-1]))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: FakeStream(device or current[-1]))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: device(stream.device))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    second = torch.device("cuda", 1)
    with TensorsOnCPU():
        decoder = Decoder(make_tiny_model(), Runtime(second, "fp32"), slots=2, capacity=12)
        decoder.read_prompts([0, 1], [[1, 2, 3], [4, 5, 6]])
        first_keys = decoder.cache.k.clone()
        decoder.step([7, 8], [3, 3])
        decoder.step([7, 8], [4, 4])
    assert events == [("record", second), ("replay", second), ("replay", second)]
    assert torch.equal(decoder.cache.k, first_keys)  # recording leaves the cache as it was
