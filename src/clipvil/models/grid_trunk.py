"""Any encoder as the trunk of a model that is trained from pictures: pixels to cells, frozen or trained with the rest.

What the released CLIP-ViL_p did wrong here is absent: building a model does not touch the encoder's weights (there
BERT's initialiser ran over it and destroyed ViTs), and position embeddings of another size are resampled (there they
were zero).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from clipvil.encoders.base import Encoder
from clipvil.encoders.clip_resnet import ClipResNetTower
from clipvil.errors import DataError, RecipeError
from clipvil.models.trunk_checkpointing import Recompute, checkpoint_blocks
from clipvil.models.trunk_norms import norms, synchronise

NormPolicy = Literal["frozen", "sync", "per_device"]
Box = tuple[int, int, int, int]
"""Top, left, bottom, right; bottom and right are the first outside."""


class GridTrunk(nn.Module):
    """An encoder's network as a module: pixels (P, 3, H, W) to cells (P, N, C), their mask and the grids' shapes.

    `trained` thaws the parameters that the grid depends on; those that it does not (attention pooling, class heads)
    stay frozen, so that every parameter that wants a gradient gets one on every device. `norm` is what BatchNorm does:

    - frozen: statistics of the weights, scale and shift not trained (the default: small batches spoil statistics);
    - sync: statistics of the batch over all processes;
    - per_device: statistics of each process's part of the batch, as published. There a frozen encoder too moved its
      running statistics; here that needs `trained=False` with this policy.

    `checkpointing` computes each block again in the backward pass; statistics move once all the same.

    Raises RecipeError for an unknown policy, EncoderError where `sync` does not fit the network.
    """

    def __init__(
        self, encoder: Encoder, *, trained: bool = True, norm: NormPolicy = "frozen", checkpointing: bool = False
    ) -> None:
        super().__init__()
        if norm not in get_args(NormPolicy):
            raise RecipeError(f"the norm policy must be {', '.join(get_args(NormPolicy))}, not '{norm}'")
        self.name, self.stride, self.channels = encoder.name, encoder.stride, encoder.grid_channels
        self.trained, self.norm = trained, norm
        self.module = encoder.module
        self._convolutional = isinstance(self.module, ClipResNetTower)
        # A pass a shape of picture: see `clipvil.training.sharding`.
        self.runs_vary = not self._convolutional
        own: Callable[[Tensor], Tensor] | None = getattr(self.module, "grid", None)
        self._grid = own if own is not None else lambda pixels: self.module(pixels)[0]
        if trained:
            self._thaw(encoder.preprocess.size)
        if norm == "sync":
            synchronise(self.module, encoder.name)
        self._recompute = Recompute()
        if self._convolutional:
            self._levels: dict[tuple[int, int], Tensor] | None = None
            self._whole: Tensor | None = None
            self._hide_padding()
        if checkpointing:
            checkpoint_blocks(self.module, self._recompute)
        self.train(self.training)

    def train(self, mode: bool = True) -> GridTrunk:
        """As of any module, but that what is frozen stays in evaluation mode."""
        super().train(mode)
        if not self.trained:
            self.module.eval()
        for layer in norms(self.module):
            layer.train(mode and self.norm != "frozen")
        return self

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Normalised pixels (P, 3, H, W) -> cells (P, N, C) row by row, mask (P, N) or None, shapes (P, 2) int64.

        Without `mask` the whole canvas is encoded, padding and all (as published). With it, (P, H, W) True where the
        canvas shows picture (one rectangle each; keep it on the CPU to spare a synchronisation), each picture gets the
        grid of its own rectangle, rounded outwards to whole cells, and nothing of the padding reaches it: CLIP's
        ResNets set it to zero before each convolution, as their own padding is; other networks encode the pictures of
        each shape by themselves. A picture whose rectangle begins on a cell's corner and fills whole cells therefore
        gets what it gets alone (to rounding), unless BatchNorm reads batches, whose statistics padding enters.

        Raises DataError for a mask of another shape or a picture without any pixel.
        """
        # Trunk and grid run without a graph where nothing of it is trained, whatever the pixels want.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained):
            if mask is None:
                grid = self._grid(pixels)
                return _rows(grid), None, _shapes([(grid.shape[2], grid.shape[3])] * len(grid), grid.device)
            boxes = _boxes(mask, pixels, self.stride)
            whole = (0, 0, pixels.shape[2], pixels.shape[3])
            if all(box == whole for box in boxes):
                return self(pixels)
            grids = self._masked(pixels, mask, boxes) if self._convolutional else self._grouped(pixels, boxes)
        cells = pad_sequence([grid.flatten(1).t() for grid in grids], batch_first=True)
        shapes = _shapes([(grid.shape[1], grid.shape[2]) for grid in grids], cells.device)
        place = torch.arange(cells.shape[1], device=cells.device)
        return cells, place < shapes.prod(dim=1, keepdim=True), shapes

    def _masked(self, pixels: Tensor, mask: Tensor, boxes: list[Box]) -> list[Tensor]:
        """One pass over all, padding held at zero; then each picture's part of the grid."""
        real = mask[:, None].to(pixels.device, pixels.dtype)
        self._whole, self._levels = real, {}
        try:
            grid = self._grid(pixels * real)
        finally:
            self._whole = self._levels = None
        height, width = grid.shape[2] / pixels.shape[2], grid.shape[3] / pixels.shape[3]
        return [
            grid[row, :, round(t * height) : round(b * height), round(left * width) : round(right * width)]
            for row, (t, left, b, right) in enumerate(boxes)
        ]

    def _grouped(self, pixels: Tensor, boxes: list[Box]) -> list[Tensor]:
        """One pass a shape, over the pictures cut out of their padding."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, (top, left, bottom, right) in enumerate(boxes):
            groups.setdefault((bottom - top, right - left), []).append(row)
        found: dict[int, Tensor] = {}
        for rows in groups.values():
            cut = torch.stack([pixels[row, :, slice(*boxes[row][0::2]), slice(*boxes[row][1::2])] for row in rows])
            found.update(zip(rows, self._grid(cut), strict=True))
        return [found[row] for row in range(len(boxes))]

    def _hide_padding(self) -> None:
        def hide(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            whole, levels = self._recompute.kept or (self._whole, self._levels)
            if whole is None or levels is None:
                return None
            size = (inputs[0].shape[2], inputs[0].shape[3])
            if size not in levels:
                levels[size] = functional.adaptive_max_pool2d(whole, size)
            return (inputs[0] * levels[size], *inputs[1:])

        self._recompute.keep = lambda: (self._whole, self._levels)
        for layer in self.module.modules():
            if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1:
                layer.register_forward_pre_hook(hide)

    def _thaw(self, size: tuple[int, int]) -> None:
        """Let train what the grid depends on: found in the graph of one empty picture, in evaluation mode."""
        self.module.eval().requires_grad_(True)
        parameter = next(self.module.parameters())
        with torch.enable_grad():
            grid = self._grid(torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype))
        reached = _leaves(grid)
        fixed = {id(p) for layer in norms(self.module) for p in layer.parameters()} if self.norm == "frozen" else set()
        for parameter in self.module.parameters():
            parameter.requires_grad_(id(parameter) in reached and id(parameter) not in fixed)


def _leaves(tensor: Tensor) -> set[int]:
    """Ids of the parameters that a tensor was computed from."""
    found: set[int] = set()
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found


def _boxes(mask: Tensor, pixels: Tensor, stride: int) -> list[Box]:
    """The rectangle of each picture, rounded outwards to multiples of the stride within the canvas."""
    height, width = pixels.shape[2:]
    if mask.shape != (len(pixels), height, width):
        raise DataError(f"a pixel mask {tuple(mask.shape)} for pixels {tuple(pixels.shape)}; it must be (P, H, W)")
    boxes: list[Box] = []
    for rows, columns in zip(mask.any(dim=2).tolist(), mask.any(dim=1).tolist(), strict=True):
        if not any(rows):
            raise DataError("a pixel mask without a single pixel of picture")
        top, bottom = _outwards(rows, stride)
        left, right = _outwards(columns, stride)
        boxes.append((top, left, bottom, right))
    return boxes


def _outwards(real: list[bool], stride: int) -> tuple[int, int]:
    first, end = real.index(True), len(real) - real[::-1].index(True)
    return first // stride * stride, min(-(-end // stride) * stride, len(real))


def _rows(grid: Tensor) -> Tensor:
    return grid.flatten(2).transpose(1, 2)


def _shapes(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    return torch.tensor(shapes, dtype=torch.int64, device=device)
