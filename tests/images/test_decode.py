"""Safe decoding: every format and mode that counts, and one kind of error for everything else."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from clipvil.errors import ClipvilError, ImageError
from clipvil.images.decode import FORMATS, Limits, decode
from tests.images.pictures import chunk, encode, jpeg, photo, png


def reason(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, where="x.jpg", limits=limits)
    assert str(caught.value).startswith("x.jpg: ") and "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_of_the_list_decodes_to_upright_rgb(format: str) -> None:
    lossless: dict[str, Any] = {"WEBP": {"lossless": True}}.get(format, {})
    image = decode(encode(photo(), format, **lossless), where="x")
    assert (image.mode, image.size) == ("RGB", (60, 40))
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(photo()).astype(int))
    assert difference.mean() < {"JPEG": 10, "GIF": 20}.get(format, 1e-9)


@pytest.mark.parametrize("format", ["TGA", "PCX", "SGI"])
def test_other_formats_that_pillow_knows_are_refused(format: str) -> None:
    assert reason(encode(photo(64, 64), format)) == "unsupported"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
    stored = photo(16, 24)
    image = decode(encode(stored, format, exif=exif, **options.get(format, {})), where="x")
    pixels = np.asarray(stored)
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels[::-1].transpose(1, 0, 2),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: pixels[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    assert np.asarray(image).shape == upright.shape
    assert np.abs(np.asarray(image).astype(int) - upright).mean() < 5


def test_broken_exif_beside_good_pixels_is_ignored() -> None:
    data = encode(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(data, where="x").size == (60, 40)


def test_nothing_and_text_and_wrong_suffixes() -> None:
    assert reason(b"") == "empty"
    assert reason(b"hello, I am text") == "unsupported"
    assert reason(bytes(5000)) == "unsupported"
    assert decode(encode(photo(), "PNG"), where="named.jpg").size == (60, 40)


def test_the_byte_cap_and_the_pixel_cap_come_before_decoding() -> None:
    assert reason(jpeg(), limits=Limits(max_bytes=100)) == "too_large"
    assert reason(jpeg(40, 60), limits=Limits(max_pixels=40 * 60 - 1)) == "too_large"
    assert decode(jpeg(40, 60), where="x", limits=Limits(max_pixels=40 * 60)).size == (60, 40)
    assert reason(jpeg(40, 60), limits=Limits(max_side=59)) == "too_large"
    # No pixels at all behind the header: only a check of the header can say "too large" and not "truncated".
    assert reason(png(50_000, 50_000, b"")) == "too_large"
    assert reason(b"P6 60000 60000 255\n") == "too_large"
    bmp = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    assert reason(bmp + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)) == "too_large"


def test_the_pixel_cap_is_silent_and_leaves_pillow_as_it_was() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert reason(png(12_000, 12_000, b"")) == "too_large"  # where Pillow itself would only warn
    assert said == []
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_the_own_cap_rules_and_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Image.open would refuse more than twice this
    assert decode(jpeg(40, 60), where="x").size == (60, 40)


def test_a_progressive_jpeg_of_endless_scans_is_refused_before_decoding() -> None:
    data = encode(Image.new("RGB", (900, 900)), "JPEG", progressive=True, quality=10)
    last = data.rfind(b"\xff\xda")
    scan = data[last:-2]
    bomb = data[:-2] + scan * 3000 + data[-2:]
    assert reason(bomb) == "too_large"
    assert decode(data, where="x").size == (900, 900)


def test_more_compressed_data_than_pixels_costs_nothing() -> None:
    assert decode(png(10, 10, bytes(310 + 5_000_000)), where="x").size == (10, 10)
    bomb = b"comment\0\0" + zlib.compress(bytes(8_000_000))
    assert reason(png(10, 10, bytes(310), extra=chunk(b"zTXt", bomb))) == "corrupt"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_cut_files_are_truncated_and_never_half_grey(format: str, share: float) -> None:
    data = encode(photo(80, 80), format)
    assert reason(data[: int(len(data) * share)]) in ("truncated", "corrupt")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_formats_that_know_their_own_end_say_truncated(format: str) -> None:
    data = encode(photo(80, 80), format)
    for keep in (len(data) - 30, len(data) // 2, 24):
        assert reason(data[:keep]) == "truncated"


def test_truncated_pictures_are_refused_even_if_another_library_allowed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ClipvilError, match="LOAD_TRUNCATED_IMAGES"):
        decode(jpeg(), where="x")


def test_a_flipped_bit_inside_png_pixels_is_corrupt() -> None:
    data = bytearray(encode(photo(), "PNG"))
    start = data.index(b"IDAT") + 4
    for position in (start + 3, start + 500, data.index(b"IEND") - 6):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert reason(bytes(damaged)) == "corrupt"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    image = decode(encode(frames[0], format, save_all=True, append_images=frames[1:], **options), where="x")
    assert image.getpixel((5, 5)) == (255, 0, 0)


def test_cmyk_comes_out_in_the_right_colours() -> None:
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow: red
    red, green, blue = decode(encode(inks, "JPEG", quality=95), where="x").getpixel((4, 4))  # type: ignore[misc]
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(format: str) -> None:
    deep = np.array([[0, 128, 257, 32768, 65407, 65535]], dtype=np.uint16)
    image = decode(encode(Image.fromarray(deep), format), where="x")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]


def test_without_conversion_the_mode_of_the_file_is_kept() -> None:
    for mode in ("1", "L", "P", "RGBA", "LA"):
        image = photo().quantize(8) if mode == "P" else photo().convert(mode)
        assert decode(encode(image, "PNG"), where="x", convert=False).mode == mode
    deep = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))
    kept = decode(encode(deep, "PNG"), where="x", convert=False)
    assert (kept.mode, kept.getpixel((0, 0))) == ("L", 255)
