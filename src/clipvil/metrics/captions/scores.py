"""Captions against references by name of the metric: for the corpus with 95 % intervals, and a picture at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipvil.errors import DataError, UsageError
from clipvil.metrics.captions.bleu import BleuCounts, bleu_from_counts
from clipvil.metrics.captions.java import meteor, spice
from clipvil.metrics.captions.native import TokenisedCorpus
from clipvil.metrics.captions.ngrams import Floats
from clipvil.metrics.statistics import DRAWS, LEVEL, bootstrap_mean
from clipvil.text.ptb import Mode, tokenize

BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
NATIVE = (*BLEU, "ROUGE-L", "CIDEr-D", "CIDEr")
"""What needs neither Java nor a download."""
JAVA = ("METEOR", "SPICE")
METRICS = (*NATIVE, *JAVA)


@dataclass(frozen=True)
class CaptionScore:
    """One metric over a corpus with its 95 % interval (pictures redrawn), on the official scale (CIDEr-D about 0 to 10,

    all others 0 to 1), and the value of each picture (image id -> value).
    """

    value: float
    low: float
    high: float
    n: int
    per_image: Mapping[str, float]


def caption_scores(
    said: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str] = NATIVE,
    *,
    mode: Mode = "official",
    tokenised: bool = False,
    seed: int = 0,
) -> dict[str, CaptionScore]:
    """Score one caption a picture against its references: metric -> score.

    Pictures count in the order of `references`, which matters to the tokenizer (see `clipvil.text.ptb`). `tokenised`
    says that both sides are tokenised already. `seed` is that of the bootstrap; document frequencies and the tokens
    stay what they are while pictures are redrawn.

    Raises UsageError for an unknown metric, DataError when the two sides are about different pictures or a picture has
    no reference, JavaError where METEOR or SPICE cannot be computed.
    """
    unknown = next((metric for metric in metrics if metric not in METRICS), None)
    if unknown is not None:
        raise UsageError(f"unknown metric '{unknown}'; known are {', '.join(METRICS)}")
    if said.keys() != references.keys():
        odd = next(iter(said.keys() ^ references.keys()))
        raise DataError(f"picture {odd} has {'no reference' if odd in said else 'no caption'}")
    ids = list(references)
    bare = next((key for key in ids if not references[key]), None)
    if bare is not None:
        raise DataError(f"picture {bare} has no reference")
    hypotheses, given = [said[key] for key in ids], [list(references[key]) for key in ids]
    if not tokenised:
        hypotheses, given = _tokenise(hypotheses, given, mode)
    return _score(ids, TokenisedCorpus(hypotheses, given), metrics, seed)


def _tokenise(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], mode: Mode
) -> tuple[list[str], list[list[str]]]:
    """Each side as one text, as the official evaluation does it."""
    flat = iter(tokenize([text for given in references for text in given], mode=mode))
    return tokenize(hypotheses, mode=mode), [[next(flat) for _ in given] for given in references]


def _score(ids: Sequence[str], corpus: TokenisedCorpus, metrics: Sequence[str], seed: int) -> dict[str, CaptionScore]:
    means: dict[str, Callable[[], Floats]] = {
        "ROUGE-L": corpus.rouge_l,
        "CIDEr-D": corpus.cider_d,
        "CIDEr": corpus.cider,
    }
    counts = corpus.bleu() if any(metric in BLEU for metric in metrics) else None
    bleu = _bleu(ids, counts, seed) if counts is not None else {}
    out: dict[str, CaptionScore] = {}
    for metric in metrics:
        if metric in bleu:
            out[metric] = bleu[metric]
            continue
        if metric in means:
            values = means[metric]()
            value = float(values.mean())
        else:
            value, values = (meteor if metric == "METEOR" else spice)(corpus.hypotheses, corpus.references)
        known = values[np.isfinite(values)]
        known, scale = np.clip(known, 0.0, _top(metric)), (0.0, _top(metric))
        mean, low, high = bootstrap_mean(known, np.arange(len(known)).tolist(), seed=seed, scale=scale)
        # METEOR's corpus value is no mean; the spread of the mean is put around it.
        shift = value - mean if metric == "METEOR" else 0.0
        out[metric] = _bounded(value, low + shift, high + shift, metric, dict(zip(ids, values.tolist(), strict=True)))
    return out


def _bounded(value: float, low: float, high: float, metric: str, per_image: Mapping[str, float]) -> CaptionScore:
    # One picture says nothing about others: the interval is the scale itself.
    return CaptionScore(value, max(low, 0.0), min(high, _top(metric)), len(per_image), per_image)


def _top(metric: str) -> float:
    """The greatest value that there is."""
    return 10.0 if metric in ("CIDEr", "CIDEr-D") else 1.0


def _bleu(ids: Sequence[str], counts: BleuCounts, seed: int) -> dict[str, CaptionScore]:
    """BLEU of redrawn pictures comes from redrawn counts, since it is no mean."""
    each, corpus = counts.per_image(), counts.corpus()
    low, high = bleu_interval(counts, seed=seed)
    return {
        metric: _bounded(
            float(corpus[k]),
            float(low[k]),
            float(high[k]),
            metric,
            dict(zip(ids, each[:, k].tolist(), strict=True)),
        )
        for k, metric in enumerate(BLEU)
    }


def bleu_interval(counts: BleuCounts, *, n: int = DRAWS, seed: int = 0) -> tuple[Floats, Floats]:
    """The 95 % interval of BLEU-1 to BLEU-4 (4,) each, pictures being redrawn `n` times."""
    size = len(counts.length)
    if size == 1:
        return np.full(4, -np.inf), np.full(4, np.inf)
    guesses = np.maximum(counts.length[:, None] - np.arange(4), 0)
    table = np.column_stack([counts.matches, guesses, counts.length, counts.reference_length])
    generator = np.random.default_rng(seed)
    sums = np.empty((n, table.shape[1]))
    step = max(1, (1 << 20) // size)
    for start in range(0, n, step):
        rows = min(step, n - start)
        picks = generator.integers(0, size, size=(rows, size), dtype=np.int32)
        # How often each picture was drawn, all draws of the block in one count.
        flat = (picks + size * np.arange(rows, dtype=np.int64)[:, None]).reshape(-1)
        weights = np.bincount(flat, minlength=rows * size).reshape(rows, size)
        sums[start : start + rows] = weights @ table
    draws = bleu_from_counts(sums[:, :4], sums[:, 8], sums[:, 9], sums[:, 4:8])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
