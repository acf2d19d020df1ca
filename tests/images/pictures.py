"""Small pictures made in the test itself: encoded bytes, forged headers, smooth and noisy content."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def photo(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with some noise, all channels different, no symmetry."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 20, (height, width, 3))
    planes = [255 * rows / height, 255 * columns / width, 127 + 100 * np.sin(rows / 5 + columns / 9)]
    return Image.fromarray(np.clip(np.stack(planes, -1) + noise - 10, 0, 255).astype(np.uint8))


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def jpeg(height: int = 40, width: int = 60, seed: int = 0) -> bytes:
    return encode(photo(height, width, seed), "JPEG", quality=90)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, *, extra: bytes = b"") -> bytes:
    """A PNG with this header and this raw (unfiltered, RGB) pixel stream, whether they agree or not."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
