"""How the processes of a run share its work: ``PARALLEL[runtime.parallel](world)``.

    shard(model) -> optimizer -> wrap(loss) -> steps: forward, backward under accumulating(), norms of the gradients
                                            -> whole_model() for evaluation, state_parts() for checkpoints

``ddp`` gives every process the whole model. ``fsdp`` gives it a share of every parameter, gradient and moment.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from gpt2lab.checkpoint.parts import Stateful
from gpt2lab.config import UserError, choose
from gpt2lab.distributed import World
from gpt2lab.model import GPT, shapes_only
from gpt2lab.runtime import Runtime
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.sharding import own_part, whole
from gpt2lab.training.whole_states import WholeModelState, WholeOptimizerState


@dataclass(frozen=True)
class ParallelStrategy:
    """How the processes of a run share its work; this class is a run of one process."""

    world: World = field(default_factory=World)

    def shard(self, model: GPT, runtime: Runtime) -> None:
        """Split the parameters over the processes, before the optimizer is made.

        Raises:
            UserError: the model or the precision does not allow it.
        """

    def wrap(self, loss: nn.Module) -> nn.Module:
        """The module whose backward averages gradients over processes."""
        return loss

    def accumulating(self, loss: nn.Module) -> AbstractContextManager[None]:
        """Within it, backward may leave the averaging to the last micro-batch."""
        return nullcontext()

    def norms(self, tensors: Sequence[Tensor]) -> Tensor:
        """The L2 norm of each tensor, [len(tensors)]; every process gets it and must call it."""
        return torch.stack(torch._foreach_norm(list(tensors)))

    @contextmanager
    def whole_model(self, model: GPT) -> Iterator[GPT]:
        """The model with all its weights in this process, to be read, not trained; every process must call it."""
        yield model

    def state_parts(self, model: GPT, optimizer: Optimizers) -> dict[str, Stateful]:
        """The parts of a checkpoint, whose states are those of one process."""
        return {"model": model, "optimizer": optimizer}


@dataclass(frozen=True)
class DataParallel(ParallelStrategy):
    """Every process has the whole model and the whole optimizer, and its part of each batch."""

    def wrap(self, loss: nn.Module) -> nn.Module:
        """Wrap in DDP; all processes start from rank 0's weights."""
        device = next(loss.parameters()).device
        return DistributedDataParallel(
            loss, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )

    def accumulating(self, loss: nn.Module) -> AbstractContextManager[None]:
        """Average once, in the last micro-batch."""
        return loss.no_sync() if isinstance(loss, DistributedDataParallel) else nullcontext()


@dataclass(frozen=True)
class FullySharded(ParallelStrategy):
    """Every process has a share of each parameter, its gradient and its moments (FSDP2, ``fully_shard``).

    A block's weights are gathered for its forward and its backward. Those outside the blocks stay whole from the
    forward to the backward of a micro-batch, because the head's gradient is computed within the loss. Gradients are
    averaged in every micro-batch, so that none is ever held whole for longer than a block's backward.

    Under bf16 a block's weights are sent and held as bf16, as autocast would round those of its matrices. Gradients
    are averaged in float32. The residual stream is float32, and so are the weights outside the blocks: embeddings are
    added to it, and the loss rounds the head itself.
    """

    def shard(self, model: GPT, runtime: Runtime) -> None:
        """Split every block and the rest of the model."""
        if runtime.precision == "fp16":
            raise UserError(
                "runtime.precision=fp16: runtime.parallel=fsdp has no loss scaling; expected bf16 or fp32; try "
                "runtime.precision=bf16 or runtime.parallel=ddp"
            )
        for name, parameter in model.named_parameters():
            if parameter.ndim == 0:
                raise UserError(
                    f"{name}: a parameter that is a single number, which runtime.parallel=fsdp cannot split; expected "
                    "a vector, torch.empty(1) in place of torch.empty(()); or try runtime.parallel=ddp"
                )
        mesh = init_device_mesh(runtime.device.type, (self.world.size,))
        policy = MixedPrecisionPolicy(param_dtype=runtime.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in model.blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        fully_shard(model, mesh=mesh, reshard_after_forward=False)
        register_fsdp_forward_method(model, "objective_sum")

    def norms(self, tensors: Sequence[Tensor]) -> Tensor:
        """The square root of the squares that all processes have."""
        squares = super().norms([own_part(tensor) for tensor in tensors]).square()
        dist.all_reduce(squares)
        return squares.sqrt()

    @contextmanager
    def whole_model(self, model: GPT) -> Iterator[GPT]:
        """A copy with all weights in each process: evaluation gives processes unequal numbers of batches."""
        with shapes_only():
            copy = GPT(model.config)
        state = {name: whole(tensor.detach()) for name, tensor in model.state_dict().items()}
        copy.load_state_dict(state, assign=True)
        copy.to(model.head_PC.device)  # its buffers
        yield copy.train(model.training)

    def state_parts(self, model: GPT, optimizer: Optimizers) -> dict[str, Stateful]:
        """States with whole tensors, so that any number of processes resumes from them, with FSDP or without."""
        return {"model": WholeModelState(model, self.world), "optimizer": WholeOptimizerState(optimizer, self.world)}


PARALLEL: dict[str, type[ParallelStrategy]] = {"ddp": DataParallel, "fsdp": FullySharded}


def parallel_strategy(name: str, world: World) -> ParallelStrategy:
    """The strategy that ``runtime.parallel`` names; one process has nothing to share, whatever it is."""
    strategy = choose(PARALLEL, name, "runtime.parallel")
    return strategy(world) if world.size > 1 else ParallelStrategy(world)
