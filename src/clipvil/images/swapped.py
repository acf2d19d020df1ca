"""Red and blue changed over before anything else happens to a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipvil.images.colour import to_rgb
from clipvil.images.policy import Resized, ResizePolicy

if TYPE_CHECKING:
    from PIL import Image

    from clipvil.encoders.base import Preprocess


@dataclass(frozen=True)
class Swapped(ResizePolicy):
    """Another policy on a picture whose red and blue were changed over, as somebody does who takes BGR for RGB.

    So CLIP-ViL's features of navigation views were made: the simulator gives BGR, and the encoder's own preprocessing
    (with the mean of red for what is blue) was applied to it. Not the same as `channels: BGR` of an encoder, where each
    colour keeps its own mean.
    """

    inner: ResizePolicy

    @property
    def name(self) -> str:
        """`bgr:` and the name of the other."""
        return f"bgr:{self.inner.name}"

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        from PIL import Image as Pillow

        red, green, blue = to_rgb(image).split()
        return self.inner.apply(Pillow.merge("RGB", (blue, green, red)), preprocess, stride)
