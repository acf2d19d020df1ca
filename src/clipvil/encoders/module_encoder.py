"""The encoder every adapter returns: a network that maps pixels to (grid, pooled), and the facts that go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from clipvil.encoders.base import Encoded, Preprocess, TextEncoder
from clipvil.encoders.fingerprint import fingerprint_of
from clipvil.errors import EncoderError

Positions = Literal["resized", "zero"]


class ModuleEncoder:
    """An `Encoder` around a module whose `forward(pixels)` returns `(grid (B, C, h, w), pooled (B, D) or None)`.

    The module itself can be wrapped, compiled, exported or distributed; `encode` only checks and casts around it.
    Its parameters are frozen here, in evaluation mode, so `encode` records no graph and its outputs may feed a
    trainable head. To fine-tune, thaw them with `encoder.module.requires_grad_(True)` (and choose `module.train()` or
    not): ordinary autograd rules hold from there on, as they do when the pixels themselves require gradients.
    Wrap calls in `torch.inference_mode()` when the outputs never meet a graph, as extraction does.

    `facts` enter the fingerprint: what the weights do not tell but the output depends on (the activation, say).
    `text` builds the text side of the same weights, for encoders that have one.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        preprocess: Preprocess,
        layer: str,
        grid_channels: int,
        pooled_channels: int | None,
        stride: int,
        positions: Positions = "resized",
        facts: Mapping[str, str] | None = None,
        text: Callable[[], TextEncoder] | None = None,
    ) -> None:
        self.name = name
        self.module = module.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.layer = layer
        self.positions = positions
        self.grid_channels = grid_channels
        self.pooled_channels = pooled_channels
        self.stride = stride
        self._facts = dict(facts or {})
        self._text = text
        self._fingerprint: str | None = None
        self._memory_format = torch.contiguous_format

    def encode(self, pixels: Tensor) -> Encoded:
        """Encode normalised pixels (B, 3, H, W); the grid is H / stride by W / stride cells.

        Where a side is no multiple of the stride, ViTs and CLIP's ResNets leave the rest out (floor) and networks that
        pad count it as a cell. Pixels are cast to the device and precision of the network, and the outputs stay there.
        Raises EncoderError for other shapes, whole numbers, or a size that the network cannot take.
        """
        self._check(pixels)
        parameter = next(self.module.parameters())
        pixels = pixels.to(parameter.device, parameter.dtype).contiguous(memory_format=self._memory_format)
        try:
            grid, pooled = self.module(pixels)
        except (AssertionError, ValueError, RuntimeError) as problem:
            height, width = pixels.shape[-2:]
            if (height, width) == self.preprocess.size or "memory" in str(problem):
                raise
            native = "x".join(map(str, self.preprocess.size))
            reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise EncoderError(
                f"{self.name} cannot encode {height}x{width} pixels ({reason}); its own size is {native}, use "
                "--resize square"
            ) from problem
        if grid.ndim != 4 or grid.shape[1] != self.grid_channels:
            raise EncoderError(
                f"{self.name}, layer {self.layer}: the grid is {tuple(grid.shape)}, not "
                f"(B, {self.grid_channels}, h, w); its adapter declares the wrong channels"
            )
        return Encoded(grid, pooled)

    def fingerprint(self) -> str:
        """16 hex digits: SHA-256 over the weights as created (sorted names and float32 bytes), layer, positions,
        preprocessing and facts. Computed once; moving the network or changing its precision later does not alter it.
        """
        if self._fingerprint is None:
            about = {
                "layer": self.layer,
                "positions": self.positions,
                "preprocess": self.preprocess.to_json(),
                "facts": self._facts,
            }
            self._fingerprint = fingerprint_of(self.module, about)
        return self._fingerprint

    def text(self) -> TextEncoder:
        """The text tower trained together with this one, built anew at each call.

        Raises EncoderError where there is none: a visual tower alone, or weights without their text part.
        """
        if self._text is None:
            raise EncoderError(f"{self.name} has no text side; take CLIP or SigLIP weights through open_clip/ or hf/")
        return self._text()

    def without_text(self) -> ModuleEncoder:
        """The same encoder with no text side; returns itself."""
        self._text = None
        return self

    def to(
        self,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
    ) -> ModuleEncoder:
        """Move the network, change its precision or its memory format (None keeps each); returns itself."""
        self.fingerprint()  # of the weights as created: rounding to half precision must not change it
        if channels_last is not None:
            self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
            self.module.to(memory_format=self._memory_format)
        self.module.to(device=device, dtype=dtype)
        return self

    def _check(self, pixels: Tensor) -> None:
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise EncoderError(
                f"{self.name} takes normalised pixels (B, 3, H, W) of a floating type, not {tuple(pixels.shape)} "
                f"{pixels.dtype}; see clipvil.images.normalise"
            )
        if min(pixels.shape[-2:]) < self.stride:
            raise EncoderError(
                f"{self.name} needs pictures of at least {self.stride} pixels a side, not "
                f"{pixels.shape[-2]}x{pixels.shape[-1]}; resize them first"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, layer={self.layer!r}, grid_channels={self.grid_channels}, "
            f"pooled_channels={self.pooled_channels}, stride={self.stride})"
        )
