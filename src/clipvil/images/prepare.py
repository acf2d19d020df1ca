"""From the bytes of a picture file to the canvas of an encoder, in one call for loader workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipvil.images.decode import Limits, decode, located

if TYPE_CHECKING:
    from clipvil.encoders.base import Preprocess
    from clipvil.images.policy import Resized, ResizePolicy


def prepare(
    data: bytes, policy: ResizePolicy, preprocess: Preprocess, stride: int, *, where: str, limits: Limits | None = None
) -> Resized:
    """Decode and resize one picture.

    The policy gets the picture in the file's own colour mode, because the published ones differ in when and how they
    convert to RGB. Raises ImageError for anything wrong with the bytes, UsageError for a policy that does not fit.
    """
    image = decode(data, where=where, limits=limits, convert=False)
    with located(where):
        return policy.apply(image, preprocess, stride)
