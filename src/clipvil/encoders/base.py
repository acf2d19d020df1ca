"""The encoder protocol: pixels in, a grid of cells and a pooled vector out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocess:
    """How pixels must look before `encode`; travels with the weights and into every feature store.

    `mean` and `std` apply to RGB values scaled to 0..1; `size` is the native (height, width) of the weights;
    `channels` is the order of the colour planes ("BGR" exists only to re-measure published mistakes).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    size: tuple[int, int]
    channels: Literal["RGB", "BGR"] = "RGB"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return asdict(self)


@dataclass
class Encoded:
    """What an encoder says of a batch: grid (B, C, h, w), and pooled (B, D) where the model has one."""

    grid: Tensor
    pooled: Tensor | None


@runtime_checkable
class Encoder(Protocol):
    """Any visual encoder. Attributes are fixed after construction; `encode` runs without gradients unless asked."""

    name: str
    """The name it was created by, as in `open_clip/RN50x4:openai`."""
    layer: str
    """Which tap the grid is taken from; see `clipvil.encoders.registry.create_encoder`."""
    grid_channels: int
    pooled_channels: int | None
    stride: int
    """Pixels a cell, along both sides."""
    preprocess: Preprocess
    module: nn.Module
    """The network itself, in evaluation mode and frozen; move it or change its precision through `to`."""

    def encode(self, pixels: Tensor) -> Encoded:
        """Encode normalised pixels (B, 3, H, W), any H and W of at least one stride.

        The parameters of `module` are created frozen, so no graph is recorded and the outputs may feed a trainable
        head; thaw them (`module.requires_grad_(True)`) to fine-tune, and ordinary autograd rules hold.
        """
        ...

    def fingerprint(self) -> str:
        """A hash (hex, 16 digits) of weights, layer, positions and preprocessing."""
        ...

    def to(
        self,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
    ) -> Encoder:
        """Move the network, change its precision or its memory layout (None keeps each); returns itself."""
        ...


CellKind = Literal["grid", "regions", "boxes"]
"""What the cells of a picture are: a grid, or regions in no order, whose boxes are known ("boxes") or not."""


@runtime_checkable
class TextEncoder(Protocol):
    """The text side of a two-tower model: sentences into the space of the visual tower's pooled vectors."""

    name: str
    channels: int
    """D, equal to the `pooled_channels` of the visual side."""
    context_length: int
    """Longest text in tokens, start and end marks included."""
    scale: float
    """The learned factor on cosines before a softmax (CLIP: about 100)."""
    encoded: int
    truncated: int
    """How many texts were encoded so far, and how many of them were too long and were cut."""
    module: nn.Module

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D) of the joint space, not normalised."""
        ...

    def fingerprint(self) -> str:
        """A hash (hex, 16 digits) of weights, tokenizer and context length."""
        ...

    def to(self, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> TextEncoder:
        """Move the network or change its precision (None keeps each); returns itself."""
        ...


@runtime_checkable
class TwoTower(Protocol):
    """An encoder whose weights have a text side too. Every `ModuleEncoder` has the method; it raises EncoderError where

    the weights are a visual tower alone (timm, torchvision, supervised networks).
    """

    def text(self) -> TextEncoder:
        """The text tower of the same weights."""
        ...


@dataclass(frozen=True)
class EncoderSpec:
    """What a task needs to know of the encoder whose features it reads."""

    name: str
    fingerprint: str
    grid_channels: int
    pooled_channels: int | None = None
    cells: CellKind = "grid"
