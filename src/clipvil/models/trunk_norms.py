"""BatchNorm of a trunk: where it is, and statistics over all processes, on any device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clipvil.errors import EncoderError


def norms(module: nn.Module) -> Iterator[_BatchNorm]:
    """Every BatchNorm of a network, of whatever class."""
    return (layer for layer in module.modules() if isinstance(layer, _BatchNorm))


class SyncedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of the whole batch over all processes.

    PyTorch's own (`SyncBatchNorm`) refuses to run on the CPU with several processes; this one runs everywhere, and its
    sums go through the differentiable all-reduce. With one process it is BatchNorm2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        many = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not (self.training and many):
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce

        x = input.float()
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums = all_reduce(torch.cat([x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3)), count]))
        total = sums[-1]
        mean, square = (sums[:-1] / total).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                share = 0.1 if self.momentum is None else self.momentum
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                    share = 1 / self.num_batches_tracked.item() if self.momentum is None else share
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * total / (total - 1)).to(self.running_var.dtype), share)
        scale = (variance + self.eps).rsqrt() * self.weight
        return torch.addcmul((self.bias - mean * scale)[:, None, None], x, scale[:, None, None]).to(input.dtype)


def synchronise(module: nn.Module, name: str) -> None:
    """Make every BatchNorm2d a `SyncedBatchNorm`, parameters and statistics kept.

    Raises EncoderError for a network whose BatchNorm does something of its own besides.
    """
    for layer in norms(module):
        if type(layer) is not nn.BatchNorm2d:
            raise EncoderError(
                f"{name}: its {type(layer).__name__} cannot be synchronised; choose the norm policy frozen or "
                "per_device"
            )
    for layer in norms(module):
        layer.__class__ = SyncedBatchNorm
