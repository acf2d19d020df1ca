"""Sharded parameters: each process keeps its part of every weight, gradient and state of an optimiser (torch's FSDP2).

`accelerate launch --use_fsdp --fsdp_version 2` asks for it. accelerate's own preparation is not used: on CPUs it leaves
FSDP out without a word, and it knows no task that calls other parts of a model than its forward pass.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipvil.errors import UsageError
from clipvil.models.trunk_checkpointing import repeated_blocks
from clipvil.tasks.losses import LossTerms

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.distributed.fsdp import FSDPModule

    from clipvil.training.losses import LossModule


def asked(accelerator: Accelerator) -> bool:
    """Whether the launch asks for sharded parameters, and there are processes to share them."""
    wanted = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true", "yes")
    return wanted and (accelerator.num_processes > 1 or accelerator.distributed_type.value == "FSDP")


def check(accelerator: Accelerator) -> None:
    """See that everything that the launch says of sharding is kept.

    Raises:
        UsageError: FSDP of version 1, or a flag whose meaning the recipe decides here, or that is not supported.
    """
    plugin = _plugin(accelerator)
    refused = {
        "--fsdp_version 1 (the default of accelerate); add --fsdp_version 2": plugin.fsdp_version != 2,
        "--fsdp_offload_params: parameters stay on the device": "CPUOffload" in repr(plugin.cpu_offload),
        "--fsdp_activation_checkpointing: see trunk.checkpointing and the model's own setting": bool(
            plugin.activation_checkpointing
        ),
        "--fsdp_auto_wrap_policy SIZE_BASED_WRAP: whole blocks are sharded": plugin.min_num_params is not None,
        "--fsdp_ignored_modules: everything is sharded": plugin.ignored_modules is not None,
        f"--mixed_precision {accelerator.mixed_precision}: see training.mixed_precision": accelerator.mixed_precision
        != "no",
    }
    for line, found in refused.items():
        if found:
            raise UsageError(f"training with sharded parameters does not go with {line}")
    # Otherwise transformers loads weights in the first process only, for a preparation that is not used here.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor. One that is sharded is put together by all processes: each must call this."""
    whole = getattr(tensor, "full_tensor", None)
    return tensor if whole is None else whole()


def scattered(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; the tensor itself where `like` is not sharded, or of

    another shape. Nothing is exchanged.
    """
    if not hasattr(like, "device_mesh") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    part = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    # A copy, for the part may be a view that keeps the whole in memory.
    return part.clone()


class ShardedLosses(nn.Module):
    """A `LossModule` whose parameters, all of them, are sharded over the processes.

    Repeated blocks (transformer layers, residual blocks of a trunk) are put together one after the other, when they
    are needed; everything else once a pass. A module or task whose `runs_vary` is true runs its blocks more often on
    one process than on another (a pass a shape of picture, words until the last caption ends); processes would wait for
    each other there, so its blocks belong to the rest.
    """

    def __init__(self, losses: LossModule, accelerator: Accelerator) -> None:
        """Raises UsageError for a parameter without dimensions, which cannot be cut."""
        super().__init__()
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        scalars = [name for name, parameter in losses.model.named_parameters() if parameter.ndim == 0]
        if scalars:
            raise UsageError(
                f"sharded parameters: '{scalars[0]}' is a single number, which cannot be cut "
                f"({len(scalars)} such parameters); train this model without --use_fsdp"
            )
        plugin = _plugin(accelerator)
        self.reshard = bool(plugin.reshard_after_forward)
        self.flat = flat = _Flat(losses)
        copy_from_first(tensor.data for tensor in (*flat.parameters(), *flat.buffers()))
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        blocks = _units(flat, losses, plugin.transformer_cls_names_to_wrap)
        self.units = [fully_shard(block, mesh=mesh, reshard_after_forward=self.reshard) for block in blocks]
        self.root = fully_shard(flat, mesh=mesh, reshard_after_forward=False)
        # Said, not found from the last forward passes: those of an evaluation are not the same on all processes.
        for before, unit in zip([self.root, *self.units], [*self.units, self.root], strict=True):
            unit.set_modules_to_backward_prefetch([before])

    def forward(self, batch: Any) -> Tensor | LossTerms:
        """As of `LossModule`."""
        found: Tensor | tuple[Tensor, Tensor] = self.flat(batch)
        return found if isinstance(found, Tensor) else LossTerms(*found, names=self.flat.names)

    def set_requires_gradient_sync(self, wanted: bool) -> None:
        """Whether the next backward passes exchange gradients, or only add them up (whole, on each process)."""
        self.root.set_requires_gradient_sync(wanted)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, backward passes exchange no gradients."""
        self.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.set_requires_gradient_sync(True)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, each process holds the whole model, and its forward passes exchange nothing.

        So each may judge another number of batches, and write captions of any length. Buffers are those of the first
        process, as everywhere else. Every process must enter and leave.
        """
        copy_from_first(self.buffers())
        parts: list[FSDPModule] = [self.root, *self.units]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(self.reshard and part is not self.root, recurse=False)


class _Flat(nn.Module):
    """The loss as tensors alone: FSDP looks for what a backward pass begins with in lists and tuples only."""

    def __init__(self, losses: LossModule) -> None:
        super().__init__()
        self.losses = losses
        self.names: tuple[str, ...] = ()

    def forward(self, batch: Any) -> Tensor | tuple[Tensor, Tensor]:
        loss: Tensor | LossTerms = self.losses(batch)
        if not isinstance(loss, LossTerms):
            return loss
        self.names = loss.names
        return loss.sums, loss.weights


def _plugin(accelerator: Accelerator) -> Any:
    """What the launch's flags say of FSDP. On CPUs accelerate does not read them."""
    from accelerate import FullyShardedDataParallelPlugin

    own = accelerator.state.fsdp_plugin if accelerator.distributed_type.value == "FSDP" else None
    return own or FullyShardedDataParallelPlugin()


def _units(root: nn.Module, losses: LossModule, classes: Iterable[str] | None) -> list[nn.Module]:
    """The modules that are put together by themselves: of the classes that the launch names, or repeated blocks."""
    if getattr(losses.task, "runs_vary", False):
        return []
    if classes:
        names = set(classes)
        found = [module for module in root.modules() if type(module).__name__ in names]
        absent = names - {type(module).__name__ for module in found}
        if absent:
            raise UsageError(f"--fsdp_transformer_layer_cls_to_wrap: the model has no layer of class {min(absent)}")
    else:
        found = list(repeated_blocks(root, lambda module: bool(getattr(module, "runs_vary", False))))
    uses = _uses(root)
    # A weight that is also used elsewhere must belong to the rest.
    return [block for block in dict.fromkeys(found) if (own := _uses(block)) and all(uses[p] == own[p] for p in own)]


def _uses(module: nn.Module) -> Counter[int]:
    return Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))


@torch.no_grad()
def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give all processes the values of the first; not of constants that were expanded, the only ones not contiguous."""
    for tensor in tensors:
        if tensor.is_contiguous() and tensor.numel():
            torch.distributed.broadcast(tensor, src=0)
