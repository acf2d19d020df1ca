"""The batch on which a precision is tried: the first usable pictures of the source, the same for every slice."""

from __future__ import annotations

import torch
from torch import Tensor

from clipvil.encoders.base import Encoder
from clipvil.features.batches import Prepare, attempt
from clipvil.features.shard import Failure
from clipvil.images.sources import ImageSource

PICTURES = 8
_MOST_TRIED = 64


def probe_batch(source: ImageSource, prepare: Prepare, encoder: Encoder) -> Tensor:
    """Up to PICTURES pictures of one canvas size as uint8 (B, 3, H, W).

    Noise of the encoder's own size where none of the first 64 pictures can be used: any decision is good then, but
    there must be one.
    """
    found: list[Tensor] = []
    for number in range(min(_MOST_TRIED, len(source))):
        result = attempt(source[number], prepare)[1]
        if isinstance(result, Failure) or (found and result.pixels.shape != found[0].shape):
            continue
        found.append(result.pixels)
        if len(found) == PICTURES:
            break
    if not found:
        generator = torch.Generator().manual_seed(0)
        found = [torch.randint(0, 256, (3, *encoder.preprocess.size), generator=generator, dtype=torch.uint8)]
    return torch.stack(found)
