"""Decode pictures from anywhere: a format allow-list, caps read from the header, one error for every failure."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageFile, TiffImagePlugin, WebPImagePlugin

from clipvil.errors import ClipvilError, ImageError
from clipvil.images.colour import reduce_depth, to_rgb

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that are ever handed to a parser; everything else counts as `unsupported`."""

_PLUGINS = (TiffImagePlugin, WebPImagePlugin)  # imported so that Pillow knows them; `preinit` brings the other five
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """What a picture may cost. Sizes are compared with the header, before any pixel is decoded.

    `max_bytes` of the encoded file (64 MiB); `max_pixels` width times height (the default is the number above which
    Pillow warns: a quarter of a GiB as RGB); `max_side` the longer side (as long as a JPEG can be: resampling
    needs memory for every source row and column); `scan_budget` how many times `max_pixels` a progressive JPEG may
    rewrite (at the defaults a few seconds).
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 89_478_485
    max_side: int = 65_535
    scan_budget: int = 20


def decode(data: bytes, *, where: str, limits: Limits | None = None, convert: bool = True) -> Image.Image:
    """Decode the first frame of a picture, turned upright by its EXIF orientation.

    `where` names the picture in errors. With `convert` the result is RGB, transparent parts over white; without it the
    file's own mode is kept (only depths above 8 bits are scaled down), for resize policies that work before the
    conversion. Raises ImageError with one of the reasons empty, unsupported, truncated, too_large, corrupt, and
    nothing else, whatever the bytes are.
    """
    limits = limits or Limits()
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ClipvilError(
            "another library set PIL.ImageFile.LOAD_TRUNCATED_IMAGES, so cut pictures would pass as good; "
            "set it back to False"
        )
    if not data:
        raise ImageError("empty", f"{where}: the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError("too_large", f"{where}: {len(data)} bytes, the cap is {limits.max_bytes}")
    try:
        image = _open(data, where, limits)
        image.load()
    except ImageError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_large", f"{where}: needs more memory than allowed ({error})") from error
    except Exception as error:
        raise _broken(data, where, error) from error
    with located(where):
        upright = reduce_depth(_upright(image))
        return to_rgb(upright) if convert else upright


def adopt(image: Image.Image, *, where: str) -> Image.Image:
    """A picture that somebody opened with Pillow, as `decode(convert=False)` would have given it: read to its end,
    upright, 8 bits a channel, in its own colour mode.

    Raises ImageError where its pixels cannot be read or have no agreed range. `where` names it in errors.
    """
    try:
        image.load()
    except Exception as error:
        raise ImageError(
            "corrupt", f"{where}: cannot be read ({str(error).splitlines()[0] if str(error) else error!r})"
        ) from error
    if min(image.size) < 1:
        raise ImageError("empty", f"{where}: has {image.width}x{image.height} pixels")
    with located(where):
        return reduce_depth(_upright(image))


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Put the place of the picture in front of every ImageError raised inside."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.reason, f"{where}: {error}") from error


def _open(data: bytes, where: str, limits: Limits) -> ImageFile.ImageFile:
    """Parse the header and apply the caps.

    Pillow's own `Image.open` would warn through the process-wide warning filters above its pixel cap, so its public
    table of formats is used directly and the cap is ours alone.
    """
    Image.preinit()
    recognised: Exception | None = None
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(data[:16]) is not True:
            continue
        try:
            image = factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # what Pillow treats as "not mine"
            recognised = error
            continue
        _check_size(image, data, where, limits)
        return image
    if recognised is not None:
        raise _broken(data, where, recognised)
    raise ImageError("unsupported", f"{where}: not a picture in a supported format ({', '.join(FORMATS)})")


def _check_size(image: ImageFile.ImageFile, data: bytes, where: str, limits: Limits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError("corrupt", f"{where}: the header says {width}x{height} pixels")
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_large", f"{where}: {width}x{height} pixels in the header, the cap is {limits.max_pixels} in all"
        )
    if max(width, height) > limits.max_side:
        raise ImageError("too_large", f"{where}: {width}x{height} pixels, the cap for a side is {limits.max_side}")
    if image.format == "PNG":
        _check_png(data, where)
    if image.format in ("JPEG", "MPO"):
        # Every scan of a progressive JPEG walks over all pixels and may cost a dozen bytes only. The marker cannot
        # occur inside entropy-coded data (0xFF is escaped there), so counting it is exact up to embedded thumbnails.
        scans = data.count(b"\xff\xda")
        if scans * width * height > limits.scan_budget * limits.max_pixels:
            raise ImageError("too_large", f"{where}: {scans} scans over {width}x{height} pixels")


def _check_png(data: bytes, where: str) -> None:
    """Compare the CRC of every critical chunk, which Pillow leaves out for the pixels themselves (PNG 1.2, 3.4)."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        kind = data[position + 4 : position + 8]
        if end + 4 > len(data):
            break
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ImageError("corrupt", f"{where}: damaged (wrong checksum at byte {position})")
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageError("truncated", f"{where}: the file ends too early (no IEND chunk)")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        method = _TRANSPOSE.get(orientation)
    except Exception:  # broken EXIF beside good pixels: the picture is still usable, as it lies
        return image
    return image if method is None else image.transpose(method)


def _broken(data: bytes, where: str, error: Exception) -> ImageError:
    text = str(error).split("\n")[0] or type(error).__name__
    if "truncated" in text.lower() or _is_cut(data):
        return ImageError("truncated", f"{where}: the file ends too early ({text})")
    return ImageError("corrupt", f"{where}: damaged ({text})")


def _is_cut(data: bytes) -> bool:
    """Whether the container itself says that bytes are missing at the end."""
    tail = data[-64:].rstrip(b"\0\r\n")
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if data.startswith(b"RIFF"):
        return len(data) < 12 or len(data) < int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"BM"):
        return len(data) < 6 or len(data) < int.from_bytes(data[2:6], "little")
    if data.startswith(b"GIF8"):
        return not tail.endswith(b";")
    if data.startswith((b"II*\0", b"MM\0*")):  # the directory usually stands at the end
        return len(data) < 8 or len(data) <= int.from_bytes(data[4:8], "little" if data[0] == 73 else "big")
    return False
