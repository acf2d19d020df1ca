"""CLIPScore and RefCLIPScore of captions with any two-tower encoder: pictures from a feature store, texts encoded here.

The numbers of a paper come from its own encoder (CLIP ViT-B/32); whatever is printed names the encoder that it used.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clipvil.encoders.base import EncoderSpec, TextEncoder, TwoTower
from clipvil.errors import EncoderError, UsageError
from clipvil.features.base import FeatureSource, pooled_of
from clipvil.metrics.captions.clip import PREFIX, clip_score, ref_clip_score
from clipvil.metrics.captions.scores import CaptionScore
from clipvil.metrics.statistics import bootstrap_mean

if TYPE_CHECKING:
    Vectors = npt.NDArray[np.float64]

CLIP = ("CLIPScore", "RefCLIPScore")
_BATCH = 256


def text_side(spec: EncoderSpec) -> TextEncoder:
    """The text tower of the encoder whose features a store holds.

    Raises UsageError when the store has no pooled vectors, EncoderError when the encoder has no text side that fits.
    """
    if spec.pooled_channels is None:
        raise UsageError(f"{spec.name} has no pooled vector, which CLIPScore compares with texts")
    from clipvil.encoders.registry import create_encoder
    from clipvil.encoders.weights import UntrainedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWarning)  # `text` says it again
        both = create_encoder(spec.name)
    if not isinstance(both, TwoTower):
        raise EncoderError(f"{spec.name} has no text side, which CLIPScore needs")
    text = both.text()
    if text.channels != spec.pooled_channels:
        raise EncoderError(
            f"{spec.name}: texts have {text.channels} channels, the stored pictures {spec.pooled_channels}; "
            "extract the features again with this encoder"
        )
    return text


def clip_scores(
    said: Mapping[str, str],
    features: FeatureSource,
    text: TextEncoder,
    references: Mapping[str, Sequence[str]] | None = None,
    *,
    seed: int = 0,
) -> dict[str, CaptionScore]:
    """CLIPScore of raw captions by picture, and RefCLIPScore where `references` are given; both 0 to 2.5 at most.

    Captions and references are encoded behind the words "A photo depicts". Raises StoreError for a picture without
    features, UsageError for a store without pooled vectors.
    """
    ids = list(said)
    pooled = pooled_of(features, ids)
    if pooled is None:
        raise UsageError(f"the features of {features.spec.name} hold no pooled vectors, which CLIPScore needs")
    pictures = pooled.double().numpy()
    captions = _encode(text, [said[i] for i in ids])
    values = {"CLIPScore": clip_score(pictures, captions)}
    if references is not None:
        flat = _encode(text, [reference for i in ids for reference in references[i]])
        borders = np.cumsum([len(references[i]) for i in ids])[:-1]
        values["RefCLIPScore"] = ref_clip_score(pictures, captions, np.split(flat, borders))
    out = {}
    for name, each in values.items():
        value, low, high = bootstrap_mean(each, ids, seed=seed)
        top = 2.5 if name == "CLIPScore" else 10 / 7  # the harmonic mean of 2.5 and 1
        out[name] = CaptionScore(
            value, max(low, 0.0), min(high, top), len(ids), dict(zip(ids, each.tolist(), strict=True))
        )
    return out


def _encode(text: TextEncoder, captions: Sequence[str]) -> Vectors:
    blocks = [
        text.encode([PREFIX + caption for caption in captions[start : start + _BATCH]]).double().cpu().numpy()
        for start in range(0, len(captions), _BATCH)
    ]
    return np.concatenate(blocks)
