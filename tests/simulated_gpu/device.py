"""Tensors and ``torch.cuda`` of the simulated GPU. Importing this module changes PyTorch for the whole process."""

import contextlib

import torch
import torch._dynamo  # compares signatures with those of functions that are replaced below
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
NAME = "NVIDIA H100 80GB HBM3"
READS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "item", "_unique2", "bincount"}
"""operations whose result the host must wait for"""
TAKES_BOTH = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_"}
"""operations on tensors of both devices that CUDA has"""


class GpuTensor(torch.Tensor):
    """A tensor of device cuda:0 whose numbers are in ``host``."""

    @staticmethod
    def __new__(cls, host):
        return torch.Tensor._make_wrapper_subclass(
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            layout=host.layout, device=GPU, dispatch_sizes_strides_policy="sizes",
        )  # fmt: skip

    def __init__(self, host):
        self.host = host

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})

    def __deepcopy__(self, memo):
        copy = GpuTensor(self.host.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):  # a Parameter that is a subclass
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __repr__(self):
        return f"GpuTensor({self.host})"

    def __format__(self, spec):
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def tolist(self):
        waits_for_the_device("tolist")
        return self.host.tolist()

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def pin_memory(self):
        raise RuntimeError("only tensors of the CPU can be pinned")

    def data_ptr(self):
        return self.host.data_ptr()


class State:
    """Of the device."""

    sync_is_an_error = False
    recorded = None
    """operations of the graph that is being recorded"""


def waits_for_the_device(operation):
    if State.sync_is_an_error:
        raise RuntimeError(f"{operation}: called a synchronizing CUDA operation")
    if State.recorded is not None:
        raise RuntimeError(f"{operation}: operation not permitted when a stream is capturing")


SHAPES = {
    aten.sym_size.default: torch.Tensor.size,
    aten.sym_stride.default: torch.Tensor.stride,
    aten.sym_numel.default: torch.Tensor.numel,
    aten.sym_storage_offset.default: torch.Tensor.storage_offset,
    aten.is_contiguous.default: torch.Tensor.is_contiguous,
    aten.dim.default: torch.Tensor.dim,
}


def product_in_float32(a, b, out_dtype, *, out=None):
    result = (a.float() @ b.float()).to(out_dtype)
    return result if out is None else out.copy_(result)


def sum_with_product_in_float32(total, a, b, out_dtype, *, out=None):
    assert total.dtype == out_dtype
    result = total + product_in_float32(a, b, out_dtype)
    return result if out is None else out.copy_(result)


MATH_ATTENTION = 0
ONLY_ON_CUDA = {
    aten.mm.dtype: product_in_float32,
    aten.mm.dtype_out: product_in_float32,
    aten.addmm.dtype: sum_with_product_in_float32,
    aten.addmm.dtype_out: sum_with_product_in_float32,
    aten._fused_sdp_choice.default: lambda *args, **kwargs: MATH_ATTENTION,
    aten._has_compatible_shallow_copy_type.default: lambda *args: False,
}


def compute(operation, args, kwargs):
    """Compute an operation of the GPU with the host's numbers."""
    if operation in SHAPES:
        return SHAPES[operation](args[0].host)
    name, leaves = operation._schema.name.removeprefix("aten::"), tree_leaves((args, kwargs))
    on_gpu = [leaf for leaf in leaves if isinstance(leaf, GpuTensor)]
    on_host = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, GpuTensor)]
    asked = kwargs.get("device")
    to_gpu = bool(on_gpu) if asked is None else torch.device(asked).type == "cuda"
    if on_gpu and name not in TAKES_BOTH and operation not in ONLY_ON_CUDA and any(host.dim() for host in on_host):
        raise RuntimeError(f"{operation}: expected all tensors to be on the same device, found cuda:0 and cpu")
    by_mask = name == "index" and any(getattr(index, "dtype", None) == torch.bool for index in args[1])
    to_host = (name == "_to_copy" and on_gpu and not to_gpu) or (
        name == "copy_" and on_gpu and not isinstance(args[0], GpuTensor)
    )
    if name in READS or by_mask or to_host:
        waits_for_the_device(name)
    if State.recorded is not None and on_host and any(host.dim() for host in on_host):
        raise RuntimeError(f"{operation}: a host tensor in a recorded graph")

    host_args, host_kwargs = tree_map(host_of, (args, kwargs))
    if to_gpu and asked is not None:
        host_kwargs["device"] = "cpu"
    host_kwargs.pop("pin_memory", None)
    kernel = ONLY_ON_CUDA.get(operation, operation)
    result = kernel(*host_args, **host_kwargs)
    if State.recorded is not None and not name.startswith(("empty", "new_empty")):  # whose results are filled later
        State.recorded.append((kernel, host_args, host_kwargs, result))
    arguments = {id(tensor.host): tensor for tensor in on_gpu}

    def on_its_device(value):
        if not isinstance(value, torch.Tensor) or not to_gpu:
            return value
        return arguments[id(value)] if id(value) in arguments else GpuTensor(value)  # in place: the argument itself

    return tree_map(on_its_device, result)


def host_of(value):
    return value.host if isinstance(value, GpuTensor) else value


def without_data(operation, *args, **kwargs):
    """Operations of the device that no GpuTensor is an argument of: those that make one."""
    if any(
        leaf.is_cuda and not isinstance(leaf, GpuTensor)
        for leaf in tree_leaves((args, kwargs))
        if isinstance(leaf, torch.Tensor)
    ):
        raise RuntimeError(f"{operation}: a tensor of the simulated GPU has lost its numbers")
    return compute(operation, args, kwargs)


class Graph:
    """A recorded graph: replaying computes each operation again, into the results of the first time."""

    def __init__(self):
        self.operations = []

    def replay(self):
        for kernel, args, kwargs, results in self.operations:
            for recorded, new in zip(tree_leaves(results), tree_leaves(kernel(*args, **kwargs)), strict=True):
                if isinstance(recorded, torch.Tensor) and recorded.data_ptr() != new.data_ptr():
                    recorded.copy_(new)


@contextlib.contextmanager
def recording(graph, **_options):
    State.recorded = graph.operations
    try:
        yield
    finally:
        State.recorded = None


class Stream:
    def __init__(self, *args):
        pass

    def wait_stream(self, other):
        pass


def set_sync_debug_mode(mode):
    State.sync_is_an_error = mode == "error"


plain_tensor, plain_save = torch.tensor, torch.save


def tensor(data, *, device=None, **options):
    """``torch.tensor`` goes around what is replaced here: first on the host, then copied."""
    made = plain_tensor(data, **options)
    return made if device is None else made.to(device)


def save(value, *args, **kwargs):
    plain_save(tree_map(host_of, value), *args, **kwargs)


STAND_INS = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "device": lambda device: contextlib.nullcontext(),
    "get_device_name": lambda device=None: NAME,
    "get_device_capability": lambda device=None: (9, 0),
    "is_bf16_supported": lambda: True,
    "max_memory_allocated": lambda device=None: 2**30,
    "reset_peak_memory_stats": lambda device=None: None,
    "synchronize": lambda device=None: waits_for_the_device("synchronize"),
    "manual_seed_all": lambda seed: None,  # random numbers are the host's
    "Stream": Stream,
    "current_stream": lambda device=None: Stream(),
    "stream": lambda stream: contextlib.nullcontext(),
    "CUDAGraph": Graph,
    "graph": recording,
    "set_sync_debug_mode": set_sync_debug_mode,
}

kernels = torch.library.Library("_", "IMPL")
kernels.fallback(without_data, "CUDA")
copies = torch.library.Library("aten", "IMPL")
copies.impl("copy_", lambda *args, **kwargs: compute(aten.copy_.default, args, kwargs), "CUDA")
for function_name, stand_in in STAND_INS.items():
    setattr(torch.cuda, function_name, stand_in)
torch.tensor, torch.save = tensor, save
torch.Tensor.pin_memory = lambda self, *args: self
torch.Tensor.cuda = lambda self, device=None: self.to(GPU)
# a wrapper is no inference tensor, though its numbers would be
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
# parameters are replaced when a model moves: ``param.data = ...`` would leave the numbers behind
torch.__future__.set_overwrite_module_params_on_conversion(True)
torch._has_compatible_shallow_copy_type = lambda input, from_: False
