"""How sure a mean is: bootstrap intervals clustered by picture, paired differences, several seeds.

Questions about one picture are not independent, so whole pictures are drawn with replacement (cluster bootstrap;
Cameron, Gelbach and Miller 2008). A mean over a draw is the ratio of two sums, so only the sum and the count of each
picture are needed and 200,000 questions cost no more than their pictures. Intervals are percentile intervals at 95 %.

A bootstrap knows no other pictures than those it has. With few of them, or with the same score on all, its intervals
are too narrow, down to a single point; there what can be said for certain of a score on a scale takes their place:

- fewer than `FEW` pictures: the exact limits of Clopper and Pearson (1934) for as many draws of a variable that is
  either end of the scale, which of all scores with that mean is the one that varies most. p is then that of the exact
  test that turns the sign of each picture's difference (Fisher 1935).
- the same score on all n pictures: at 95 % a further picture has another score with a probability of at most
  1 - 0.05^(1/n) (the rule of three), and that other score may be either end of the scale.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError

Floats = npt.NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
FEW = 10
"""Pictures below which a percentile interval is not to be believed."""
Scale = tuple[float, float]
SCALE: Scale = (0.0, 100.0)
_CHUNK = 1 << 20  # random picks held at once
_GROUPED = 8  # drawing a kind costs about as much as eight plain picks


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over paired records, its 95 % interval, the two-sided p of no difference, and the records."""

    value: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True)
class SeedSummary:
    """Several seeds of one cell: the mean over seeds and its interval over pictures; `spread` is over seeds.

    `low` and `high` answer "would other pictures change this mean", with the trained models held fixed. `spread`, the
    standard deviation between the seeds' own means (None for one seed), answers "would another seed", and is reported
    beside the interval, not mixed into it: two or three seeds are too few to be resampled.
    """

    value: float
    low: float
    high: float
    spread: float | None
    per_seed: tuple[float, ...]
    n: int


def bootstrap_mean(
    values: Sequence[float] | Floats,
    clusters: Sequence[Hashable],
    *,
    n: int = DRAWS,
    seed: int = 0,
    scale: Scale = SCALE,
) -> tuple[float, float, float]:
    """Mean of `values` and its 95 % interval when whole clusters are redrawn: (mean, low, high).

    `values` (N,) are finite numbers, `clusters` (N,) the picture of each; `n` is the number of draws, `scale` the least
    and the greatest that a value can be. With a single cluster, or with too few of values off the scale, the interval
    is unbounded (-inf, inf). Raises DataError on bad input.
    """
    numbers = _checked(values, clusters)
    sums, counts = _per_cluster(numbers, clusters)
    if len(sums) == 1:
        return float(numbers.mean()), -math.inf, math.inf
    low, high = _certain(numbers, sums, counts, scale) or _interval(_draws(sums, counts, n, seed))
    return float(numbers.mean()), low, high


def balanced_mean(
    groups: Sequence[tuple[Sequence[float], Sequence[Hashable]]],
    *,
    n: int = DRAWS,
    seed: int = 0,
    scale: Scale = SCALE,
) -> tuple[float, float, float]:
    """Mean of the means of several groups of values, and its 95 % interval when clusters are redrawn for all at once.

    Each group is its values (N,) and the clusters (N,) that they belong to; groups may differ in length and clusters.
    With few clusters, or a group whose values are all the same, the mean of the groups' own limits takes the place of
    the percentiles, which is wider. Raises DataError on bad input.
    """
    numbers = [_checked(values, clusters) for values, clusters in groups]
    value = float(np.mean([own.mean() for own in numbers]))
    index: dict[Hashable, int] = {}
    for _, clusters in groups:
        for cluster in clusters:
            index.setdefault(cluster, len(index))
    singles = [
        bootstrap_mean(own, group[1], n=n, seed=seed, scale=scale) for own, group in zip(numbers, groups, strict=True)
    ]
    if len(index) < FEW or any(len(np.unique(own)) == 1 for own in numbers):
        return value, float(np.mean([low for _, low, _ in singles])), float(np.mean([high for _, _, high in singles]))
    generator = np.random.default_rng(seed)
    size, draws = len(index), np.zeros(n)
    tables = []
    for own, (_, clusters) in zip(numbers, groups, strict=True):
        codes = np.fromiter((index[cluster] for cluster in clusters), dtype=np.int64, count=len(own))
        tables.append((np.bincount(codes, own, size), np.bincount(codes, minlength=size), float(own.mean())))
    step = max(1, _CHUNK // size)
    for start in range(0, n, step):
        rows = min(step, n - start)
        times = generator.multinomial(size, np.full(size, 1 / size), size=rows).astype(np.float64)
        for sums, counts, mean in tables:
            total, count = times @ sums, times @ counts
            # A draw without any cluster of a small group says nothing of it.
            draws[start : start + rows] += np.where(count > 0, total / np.maximum(count, 1), mean) / len(tables)
    low, high = _interval(draws)
    return value, low, high


def paired_difference(
    a: Mapping[str, float],
    b: Mapping[str, float],
    clusters: Mapping[str, str],
    *,
    n: int = DRAWS,
    seed: int = 0,
    scale: Scale = (-100.0, 100.0),
) -> Difference:
    """Mean difference a - b over the same records, with interval and p from redrawing pictures.

    `scale` is the least and the greatest that a difference can be.

    p is twice the smaller share of draws on either side of zero, with one added to both counts so that it is never 0
    (Davison and Hinkley 1997, section 4.4.1). Raises DataError when the two sides do not hold the same record ids.
    """
    if a.keys() != b.keys():
        odd = next(iter(a.keys() ^ b.keys()))
        raise DataError(f"cannot pair the two runs: record {odd} was scored in only one of them")
    ids = list(a)
    absent = next((i for i in ids if i not in clusters), None)
    if absent is not None:
        raise DataError(f"record {absent} belongs to no picture")
    groups = [clusters[i] for i in ids]
    numbers = _checked([a[i] - b[i] for i in ids], groups)
    sums, counts = _per_cluster(numbers, groups)
    value = float(numbers.mean())
    if len(sums) == 1:
        return Difference(value, -math.inf, math.inf, 1.0, len(ids))
    draws = _draws(sums, counts, n, seed)
    low, high = _certain(numbers, sums, counts, scale) or _interval(draws)
    if len(sums) < FEW:
        return Difference(value, low, high, _sign_flip_p(sums), len(ids))
    below, above = int((draws <= 0).sum()), int((draws >= 0).sum())
    p = min(1.0, 2.0 * (min(below, above) + 1) / (n + 1))
    return Difference(value, low, high, p, len(ids))


@dataclass(frozen=True)
class Contrast:
    """Two means against each other: a - b, and 100 (a - b) / b (None where b is not above zero), with 95 % bounds.

    Bounds are None where fewer than `FEW` pictures cannot tell them.
    """

    value: float
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None


def contrast(
    a: Mapping[str, float],
    b: Mapping[str, float],
    clusters_a: Mapping[str, str],
    clusters_b: Mapping[str, str],
    *,
    n: int = DRAWS,
    seed: int = 0,
) -> Contrast:
    """The mean of `a` against that of `b`, by redrawing the pictures of both at once.

    `a` and `b` are record id -> score and may be of different records (a shifted test set and the ordinary one), some
    of them about the same pictures: a picture that is drawn twice counts twice on both sides. Draws in which a side
    has no picture, or `b` has the mean 0, say nothing and are left out. Raises DataError on bad input.
    """
    sides = [
        ([scores[i] for i in scores], [cl[i] for i in scores]) for scores, cl in ((a, clusters_a), (b, clusters_b))
    ]
    numbers = [_checked(values, clusters) for values, clusters in sides]
    first, second = (float(own.mean()) for own in numbers)
    index: dict[Hashable, int] = {}
    for _, clusters in sides:
        for cluster in clusters:
            index.setdefault(cluster, len(index))
    relative = 100 * (first - second) / second if second > 0 else None
    if min(len(set(clusters)) for _, clusters in sides) < FEW:
        return Contrast(first - second, None, None, relative, None, None)
    size = len(index)
    tables = []
    for own, (_, clusters) in zip(numbers, sides, strict=True):
        codes = np.fromiter((index[cluster] for cluster in clusters), dtype=np.int64, count=len(own))
        tables.append((np.bincount(codes, own, size), np.bincount(codes, minlength=size)))
    generator = np.random.default_rng(seed)
    step, found = max(1, _CHUNK // size), []
    for start in range(0, n, step):
        rows = min(step, n - start)
        times = generator.multinomial(size, np.full(size, 1 / size), size=rows).astype(np.float64)
        counts = [times @ count for _, count in tables]
        good = (counts[0] > 0) & (counts[1] > 0)
        found.append([(times @ sums)[good] / own[good] for (sums, _), own in zip(tables, counts, strict=True)])
    one, other = (np.concatenate([part[side] for part in found]) for side in (0, 1))
    low, high = _interval(one - other)
    above = other > 0
    if relative is None or not above.any():
        return Contrast(first - second, low, high, relative, None, None)
    bounds = _interval(100 * (one[above] - other[above]) / other[above])
    return Contrast(first - second, low, high, relative, *bounds)


def average_runs(runs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean over runs (seeds) of each record's score. Raises DataError when the runs scored different records."""
    runs = list(runs)
    if not runs:
        raise DataError("no runs to average")
    for run in runs[1:]:
        if run.keys() != runs[0].keys():
            odd = next(iter(run.keys() ^ runs[0].keys()))
            raise DataError(f"cannot average the runs: record {odd} was not scored in all of them")
    return {key: math.fsum(run[key] for run in runs) / len(runs) for key in runs[0]}


def summarise_seeds(
    runs: Sequence[Mapping[str, float]], clusters: Mapping[str, str], *, n: int = DRAWS, seed: int = 0
) -> SeedSummary:
    """Mean over seeds with a picture-clustered interval: records are averaged over seeds, then pictures are redrawn.

    `runs` hold one mapping record id -> score a seed. To compare two cells with several seeds each, give
    `paired_difference` the two results of `average_runs`.
    """
    averaged = average_runs(runs)
    ids = list(averaged)
    mean, low, high = bootstrap_mean([averaged[i] for i in ids], [clusters[i] for i in ids], n=n, seed=seed)
    means = tuple(math.fsum(run.values()) / len(run) for run in runs)
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return SeedSummary(mean, low, high, spread, means, len(ids))


def _checked(values: Sequence[float] | Floats, clusters: Sequence[Hashable]) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise DataError("no values to average")
    if len(numbers) != len(clusters):
        raise DataError(f"{len(numbers)} values but {len(clusters)} pictures")
    if not np.isfinite(numbers).all():
        raise DataError(f"value {int(np.flatnonzero(~np.isfinite(numbers))[0])} is not a finite number")
    return numbers


def _per_cluster(values: Floats, clusters: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Sum and count of each cluster, in order of first appearance."""
    index: dict[Hashable, int] = {}
    codes = np.fromiter((index.setdefault(c, len(index)) for c in clusters), dtype=np.int64, count=len(clusters))
    return np.bincount(codes, weights=values).astype(np.float64), np.bincount(codes).astype(np.float64)


def _draws(sums: Floats, counts: Floats, n: int, seed: int) -> Floats:
    """`n` bootstrap means, drawing as many clusters as there are."""
    generator = np.random.default_rng(seed)
    # The sum rides in the real part and the count in the imaginary one. Sums are rounded far below any difference that
    # matters, so that clusters with equal scores fall together whatever the order of their additions was.
    kinds, many = np.unique(np.round(sums, 9) + 1j * counts, return_counts=True)
    out = np.empty(n, dtype=np.float64)
    size = len(sums)
    grouped = _GROUPED * len(kinds) < size
    step = max(1, _CHUNK // (len(kinds) if grouped else size))
    both = sums + 1j * counts
    for start in range(0, n, step):
        rows = min(step, n - start)
        if grouped:
            # Drawing clusters one by one and drawing how often each kind of cluster comes up are the same experiment.
            total = generator.multinomial(size, many / size, size=rows) @ kinds
        else:
            total = both[generator.integers(0, size, size=(rows, size), dtype=np.int32)].sum(axis=1)
        out[start : start + rows] = total.real / total.imag
    return out


def _interval(draws: Floats) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _certain(values: Floats, sums: Floats, counts: Floats, scale: Scale) -> tuple[float, float] | None:
    """The interval of the module's text where clusters are few or all alike; None where the bootstrap serves."""
    means, (least, greatest) = sums / counts, scale
    alike = float(np.ptp(means)) <= 1e-9 * max(1.0, float(np.abs(means).max()))
    if len(means) >= FEW and not alike:
        return None
    if values.min() < least or values.max() > greatest:
        return -math.inf, math.inf
    mean = float(values.mean())
    if len(means) >= FEW:
        other = 1.0 - (1.0 - LEVEL) ** (1.0 / len(means))
        return mean - other * (mean - least), mean + other * (greatest - mean)
    low, high = _clopper_pearson((mean - least) / (greatest - least), len(means))
    return least + low * (greatest - least), least + high * (greatest - least)


def _clopper_pearson(share: float, n: int) -> tuple[float, float]:
    """Exact limits of a share 0..1 of `n` draws; `share * n` need not be a whole number."""
    from scipy.special import betaincinv  # here, because scoring many pictures never needs it

    hits, tail = min(max(share, 0.0), 1.0) * n, (1.0 - LEVEL) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def _sign_flip_p(sums: Floats) -> float:
    """Two-sided p of no difference: how often the sum is as far from zero when each cluster's sign may be either."""
    signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
    totals = np.abs(signs @ sums)
    return float((totals >= abs(float(sums.sum())) - 1e-9).mean())
