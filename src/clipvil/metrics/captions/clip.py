"""CLIPScore and RefCLIPScore (Hessel et al. 2021) from embeddings, whatever encoder they come from.

This is the variant of the paper, 2.5 * max(cos, 0) of a picture and its caption behind the words "A photo depicts";
other libraries print 100 * max(cos, 0) without the words. Values of different encoders are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError
from clipvil.metrics.captions.ngrams import Floats

WEIGHT = 2.5
PREFIX = "A photo depicts "


def clip_score(pictures: npt.ArrayLike, captions: npt.ArrayLike) -> Floats:
    """CLIPScore (N,) of embeddings (N, D) of pictures and of their captions; they need not be normalised."""
    a, b = _unit(pictures, "pictures"), _unit(captions, "captions")
    if a.shape != b.shape:
        raise DataError(f"embeddings of pictures are {a.shape} and of captions {b.shape}")
    out: Floats = WEIGHT * np.maximum((a * b).sum(1), 0)
    return out


def ref_clip_score(pictures: npt.ArrayLike, captions: npt.ArrayLike, references: Sequence[npt.ArrayLike]) -> Floats:
    """RefCLIPScore (N,): the harmonic mean of CLIPScore and the best cosine (at least 0) to a reference.

    `references` has the embeddings (R, D) of one picture's references an item.
    """
    score, said = clip_score(pictures, captions), _unit(captions, "captions")
    if len(references) != len(said):
        raise DataError(f"references of {len(references)} pictures, but {len(said)} captions")
    best = np.array(
        [max(float((_unit(given, "references") @ one).max()), 0.0) for given, one in zip(references, said, strict=True)]
    )
    total = score + best
    out: Floats = np.divide(2 * score * best, total, out=np.zeros_like(total), where=total > 0)
    return out


def _unit(vectors: npt.ArrayLike, what: str) -> Floats:
    values = np.asarray(vectors, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise DataError(f"embeddings of {what} must be a table (N, D), not of shape {values.shape}")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(values).all() or (length == 0).any():
        raise DataError(f"embeddings of {what} hold a row that is zero or not finite")
    out: Floats = values / length
    return out
