"""Resize policies by name."""

from __future__ import annotations

import re
from collections.abc import Callable

from clipvil.errors import UsageError
from clipvil.images.policies import Native, Square, Warp
from clipvil.images.policy import Resized, ResizePolicy
from clipvil.images.published import ClipvilCaption, ClipvilPretrain, ClipvilVqa
from clipvil.images.swapped import Swapped

__all__ = ["NAMES", "ResizePolicy", "Resized", "policy"]

NAMES = (
    "native",
    "native:short=S,long=L",
    "square",
    "square:S",
    "warp:HxW",
    "clipvil-vqa",
    "clipvil-caption",
    "clipvil-pretrain",
    "clipvil-pretrain:short=S,long=L",
    "bgr:POLICY",
)


def policy(name: str) -> ResizePolicy:
    """The resize policy of this name, one of `NAMES`; raises UsageError naming what is wrong."""
    kind, colon, options = name.strip().partition(":")
    build = _BUILDERS.get(kind)
    if build is None or (colon and not options):
        raise UsageError(f"unknown resize policy '{name}'; known: {', '.join(NAMES)}")
    return build(options, name)


def _limits(options: str, name: str) -> dict[str, int]:
    limits: dict[str, int] = {}
    for part in filter(None, options.split(",")):
        match = re.fullmatch(r"(short|long)=([0-9]{1,6})", part.strip())
        if match is None or match[1] in limits:
            raise UsageError(f"resize policy '{name}': expected short=S,long=L in pixels, got '{part}'")
        limits[match[1]] = int(match[2])
    return limits


def _native(options: str, name: str) -> ResizePolicy:
    return Native(**_limits(options, name))


def _pretrain(options: str, name: str) -> ResizePolicy:
    return ClipvilPretrain(**_limits(options, name))


def _square(options: str, name: str) -> ResizePolicy:
    if not options:
        return Square()
    if re.fullmatch(r"[0-9]{1,6}", options) is None:
        raise UsageError(f"resize policy '{name}': expected square:S with S in pixels")
    return Square(int(options))


def _warp(options: str, name: str) -> ResizePolicy:
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", options)
    if match is None:
        raise UsageError(f"resize policy '{name}': expected warp:HxW, height before width, in pixels")
    return Warp(int(match[1]), int(match[2]))


def _swapped(options: str, name: str) -> ResizePolicy:
    inner = policy(options)
    if isinstance(inner, Swapped):
        raise UsageError(f"resize policy '{name}': red and blue are swapped twice")
    return Swapped(inner)


def _fixed(make: Callable[[], ResizePolicy]) -> Callable[[str, str], ResizePolicy]:
    def build(options: str, name: str) -> ResizePolicy:
        if options:
            raise UsageError(f"resize policy '{name}': takes no options; it is fixed as published")
        return make()

    return build


_BUILDERS: dict[str, Callable[[str, str], ResizePolicy]] = {
    "native": _native,
    "square": _square,
    "warp": _warp,
    "clipvil-vqa": _fixed(ClipvilVqa),
    "clipvil-caption": _fixed(ClipvilCaption),
    "clipvil-pretrain": _pretrain,
    "bgr": _swapped,
}
