"""Position tables made for one grid, resampled for another, rows and columns kept apart."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvil.errors import EncoderNameError


def resample_table(table: Tensor, old: tuple[int, int], new: tuple[int, int], *, prefix: int) -> Tensor:
    """A table (prefix + old rows * old columns, C) for a grid of `new` = (rows, columns); the prefix is kept.

    Bicubic with antialiasing, computed in float32, as open_clip and timm do. Unchanged when the size is.
    The published bug this replaces left the resized table all zero (see `zero_tables`).
    """
    if old == new:
        return table
    head, cells = table[:prefix], table[prefix:]
    image = cells.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([head, image.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1).to(table.dtype)])


class PositionTable:
    """A cached `resample_table` of one parameter: pictures of a few shapes come by the thousand.

    The cache is dropped when the parameter changes and unused while it is being trained.
    """

    def __init__(self, old: tuple[int, int], prefix: int) -> None:
        self._old, self._prefix = old, prefix
        self._cache: dict[tuple[int, int], Tensor] = {}
        self._state: tuple[object, ...] = ()

    def at(self, table: Tensor, new: tuple[int, int]) -> Tensor:
        """The table for a grid of `new` = (rows, columns)."""
        # A compiled or exported graph has no memory between calls, and its tensors no address to know them by.
        if table.requires_grad or new == self._old or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return resample_table(table, self._old, new, prefix=self._prefix)
        version = -1 if table.is_inference() else table._version
        state = (table.data_ptr(), version, table.dtype, table.device)
        if state != self._state or len(self._cache) > 64:
            self._cache, self._state = {}, state
        if new not in self._cache:
            # Not an inference tensor even inside inference_mode: it may serve a training step later.
            with torch.inference_mode(False), torch.no_grad():
                self._cache[new] = resample_table(table, self._old, new, prefix=self._prefix)
        return self._cache[new]


def zero_tables(module: nn.Module, names: Iterable[str], *, of: str) -> None:
    """Set every learned position embedding of `module` to zero, class token included.

    This is what the published extractors ran: the resized table was stored on an attribute that nothing reads and the
    parameter stayed as initialised, all zero (clip-vil issues 13 and 20). `names` are the parameters' last names.
    Raises EncoderNameError if there is none, since the request would silently change nothing.
    """
    wanted = set(names)
    found = [p for key, p in module.named_parameters() if any(("." + key).endswith("." + w) for w in wanted)]
    if not found:
        raise EncoderNameError(f"{of} has no learned position embeddings to set to zero; leave positions at 'resized'")
    with torch.no_grad():
        for parameter in found:
            parameter.zero_()
