"""A folder of good, odd and broken pictures, with what must become of each; other rooms' tests use it too."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from tests.images.pictures import encode, jpeg, photo, png

OK = "ok"


def make_broken_folder(folder: Path) -> dict[str, str]:
    """Fill `folder`; returns image id (the name) -> `ok` or the expected reason of the ImageError.

    `unreadable by permission` is only included where the process is not root, whom no permission stops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {**_good(), **_bad()}
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    expected = {name: outcome for name, (_, outcome) in files.items()}

    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    expected["dangling.jpg"] = "missing"
    (folder / "loop.jpg").symlink_to("loop.jpg")
    expected["loop.jpg"] = "unreadable"
    (folder / "directory.jpg").mkdir()
    expected["directory.jpg"] = "unreadable"
    os.mkfifo(folder / "pipe.png")
    expected["pipe.png"] = "unreadable"
    (folder / "device.jpg").symlink_to("/dev/zero")
    expected["device.jpg"] = "unreadable"
    if os.geteuid() != 0:
        (folder / "forbidden.jpg").write_bytes(jpeg())
        (folder / "forbidden.jpg").chmod(0)
        expected["forbidden.jpg"] = "unreadable"
    (folder / "notes.txt").write_text("not a picture, and not named like one: not counted at all")
    return expected


def _good() -> dict[str, tuple[bytes, str]]:
    deep = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    frames = [photo(40, 60, seed) for seed in range(3)]
    return {
        "plain.jpg": (jpeg(), OK),
        "cmyk.jpg": (encode(photo().convert("CMYK"), "JPEG"), OK),
        "sixteen_bit.png": (encode(Image.fromarray(deep), "PNG"), OK),
        "animated.gif": (encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), OK),
        "palette.png": (encode(photo().quantize(16), "PNG"), OK),
        "one_bit.png": (encode(photo().convert("1"), "PNG"), OK),
        "upper.JPG": (jpeg(seed=2), OK),
        "line\nbreak \U0001f600.jpg": (jpeg(seed=3), OK),
    }


def _bad() -> dict[str, tuple[bytes, str]]:
    whole, lossless = jpeg(), encode(photo(), "PNG")
    wrong_crc = bytearray(lossless)
    wrong_crc[lossless.index(b"IDAT") + 40] ^= 0x10
    return {
        "zero_byte.jpg": (b"", "empty"),
        "truncated.jpg": (whole[: len(whole) // 2], "truncated"),
        "header_only.jpg": (whole[:20], "truncated"),
        "truncated.png": (lossless[: len(lossless) // 2], "truncated"),
        "text.jpg": (b"this is no picture\n" * 20, "unsupported"),
        "page.png": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "unsupported"),
        "wrong_crc.png": (bytes(wrong_crc), "corrupt"),
        "huge_header.png": (png(50_000, 50_000, bytes(1000)), "too_large"),
        "bomb.png": (png(12_000, 12_000, bytes(12_000 * 3 + 1) * 100), "too_large"),
        "lying_header.png": (png(4_000, 4_000, bytes(1000)), "truncated"),
    }
