"""Tensors that are split over processes, as FSDP2 has them, beside whole ones: the same functions for both.

``fully_shard`` turns a parameter into a ``DTensor``, of which each process holds some rows; its gradient and the
optimizer's moments are split alike. A tensor of a run without FSDP is its own part and whole.
"""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def own_part(tensor: Tensor) -> Tensor:
    """The rows that this process holds; a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The rows of all processes; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_of_part(part: Tensor, like: Tensor) -> Tensor:
    """The rows of all processes, given this one's of a tensor split as ``like``; every process must call it."""
    if not isinstance(like, DTensor):
        return part
    return whole(
        DTensor.from_local(
            part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
    )


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, equal in all processes, split as ``like``; no process sends anything."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def copy_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of a whole tensor, on the device of ``like`` and split as it is; no process sends anything."""
    return split_like(tensor, like) if isinstance(like, DTensor) else tensor.to(like.device, copy=True)
