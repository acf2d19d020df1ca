"""Any damage to any format ends as a picture or as an ImageError, and as nothing else."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvil.encoders.base import Preprocess
from clipvil.errors import ImageError
from clipvil.images.decode import Limits, decode
from clipvil.images.prepare import prepare
from clipvil.images.resize import policy
from tests.images.pictures import encode, photo

SMALL = Limits(max_bytes=100_000, max_pixels=1_000_000)
REASONS = {"empty", "unsupported", "truncated", "too_large", "corrupt"}
CORPUS = {
    "jpeg": encode(photo(33, 47), "JPEG"),
    "progressive": encode(photo(33, 47), "JPEG", progressive=True),
    "cmyk": encode(photo(33, 47).convert("CMYK"), "JPEG"),
    "png": encode(photo(33, 47), "PNG"),
    "palette": encode(photo(33, 47).quantize(16), "PNG", transparency=3),
    "webp": encode(photo(33, 47), "WEBP"),
    "gif": encode(photo(33, 47), "GIF", save_all=True, append_images=[photo(33, 47, 1)]),
    "bmp": encode(photo(33, 47), "BMP"),
    "tiff": encode(photo(33, 47), "TIFF", compression="tiff_lzw"),
    "ppm": encode(photo(33, 47), "PPM"),
}
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def survives(data: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = decode(data, where="x", limits=SMALL)
    except ImageError as error:
        assert error.reason in REASONS
    else:
        assert image.mode == "RGB" and image.width * image.height <= SMALL.max_pixels
        image.tobytes()


@pytest.mark.parametrize("name", CORPUS)
@QUICK
@given(st.data())
def test_flipped_and_trimmed_pictures(name: str, data: st.DataObject) -> None:
    damaged = bytearray(CORPUS[name])
    for _ in range(data.draw(st.integers(1, 12))):
        # Headers and directories stand in front or at the end; most of the pixels in between are not interesting.
        position = data.draw(
            st.one_of(st.integers(0, 120), st.integers(0, len(damaged) - 1), st.integers(-200, -1)).map(
                lambda n: n % len(damaged)
            )
        )
        damaged[position] = data.draw(st.integers(0, 255))
    survives(bytes(damaged[: data.draw(st.integers(0, 2 * len(damaged)))]))


@QUICK
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"P6 "]))
def test_noise_behind_a_known_beginning(noise: bytes, magic: bytes) -> None:
    survives(magic + noise)


@QUICK
@given(st.data())
def test_damaged_palettes_do_not_escape_through_the_policies(data: st.DataObject) -> None:
    damaged = bytearray(CORPUS["gif"])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(6, 200))] = data.draw(st.integers(0, 255))
    preprocess = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", (32, 32))
    for name in ("square", "clipvil-pretrain:short=32,long=64"):
        try:
            pixels = prepare(bytes(damaged), policy(name), preprocess, 16, where="x", limits=SMALL).pixels
            assert pixels.shape[0] == 3
        except ImageError as error:
            assert error.reason in REASONS
