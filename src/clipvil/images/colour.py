"""Pixels of any mode to plain 8-bit RGB, without losing range and without guessing."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from clipvil.errors import ImageError

Alpha = Literal["white", "drop"]

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_PLAIN_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def reduce_depth(image: Image.Image) -> Image.Image:
    """Bring 16 bits a channel to 8 by scaling 0..65535 to 0..255 (Pillow's own conversion clips at 255).

    Pictures of 8 bits pass unchanged. Raises ImageError("unsupported") where the range cannot be known: 32-bit
    integers beyond 65535 and floating point.
    """
    if image.mode == "F":
        raise ImageError("unsupported", "floating point pixels have no agreed range; save it as 8 or 16 bit")
    if image.mode not in _DEEP_MODES:
        return image
    deep = np.asarray(image)
    if deep.dtype.itemsize > 2:
        if deep.size and (deep.min() < 0 or deep.max() > 0xFFFF):
            raise ImageError("unsupported", "32-bit integer pixels beyond 65535; save it as 8 or 16 bit")
        deep = deep.astype(np.uint16)
    return Image.fromarray(_to_eight_bits()[deep])


def to_rgb(image: Image.Image, *, alpha: Alpha = "white") -> Image.Image:
    """Convert any 8-bit mode to RGB.

    Transparent parts are laid over white ("white", what a browser shows) or uncovered ("drop", what Pillow's
    `convert("RGB")` and so the published extractors do: the colour stored beneath, usually black, comes out).
    Raises ImageError("unsupported") for colour spaces that need a profile (LAB), ImageError("corrupt") where the
    palette or the transparency chunk is broken.
    """
    image = reduce_depth(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode not in _PLAIN_MODES + _ALPHA_MODES:
        raise ImageError("unsupported", f"colour mode {image.mode} is not supported; save it as RGB")
    try:
        if image.mode in ("La", "RGBa"):  # multiplied by alpha already; Pillow knows fewer ways out of these
            image = image.convert(image.mode.upper())
        if alpha == "white" and (image.mode in _ALPHA_MODES or "transparency" in image.info):
            return _over_white(image)
        return image.convert("RGB")
    except (ValueError, TypeError, OSError, IndexError, KeyError) as error:
        raise ImageError("corrupt", f"palette or transparency is broken ({error})") from error


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _to_eight_bits() -> np.ndarray:
    # round(x / 257) in integers, for every 16-bit value: 65535 -> 255 and 0 -> 0, half a level at most of error.
    return ((np.arange(65536, dtype=np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
