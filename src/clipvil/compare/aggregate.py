"""From finished runs to rows and differences: seeds averaged record by record, pictures redrawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from clipvil.compare.kinds import kind_of
from clipvil.compare.results import Interval, PairDifference, Row, SeedScore
from clipvil.metrics.statistics import Scale, average_runs, bootstrap_mean, paired_difference
from clipvil.tasks.base import Score
from clipvil.training.run_files import RunResult

Runs = Mapping[int, RunResult]
"""Seed -> finished run of one encoder on one task."""
_SAME = 1e-6
"""Scores that differ by less are the same number, added up in another order."""


class Aggregator:
    """Turns runs into rows and differences, and remembers what it computed: a comparison asks again after every cell.

    `groups` maps a record id to its groups by heading, as `{"answer_type": "number"}`, for one split.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[Any, ...], Row] = {}
        self._pairs: dict[tuple[Any, ...], PairDifference] = {}

    def row(self, encoder: str, task: str, split: str, runs: Runs, groups: Mapping[str, Mapping[str, str]]) -> Row:
        """One encoder on one split, over the seeds in `runs` (at least one)."""
        key = (encoder, task, split, tuple(sorted(runs)))
        if key not in self._rows:
            self._rows[key] = _row(encoder, task, split, runs, groups)
        return self._rows[key]

    def differences(self, task: str, split: str, runs: Mapping[str, Runs]) -> list[PairDifference]:
        """All pairs of encoders (in the order of `runs`) that have a seed in common."""
        out = []
        for a, b in combinations(runs, 2):
            seeds = tuple(sorted(runs[a].keys() & runs[b].keys()))
            if not seeds:
                continue
            key = (task, split, a, b, seeds)
            if key not in self._pairs:
                self._pairs[key] = difference(task, split, (a, b), (runs[a], runs[b]), seeds)
            out.append(self._pairs[key])
        return out


def headings(runs: Sequence[RunResult], split: str) -> list[str]:
    """The breakdowns that a task reports, as `answer_type`."""
    return list(dict.fromkeys(heading for run in runs for heading in run.scores[split].breakdowns))


def _row(encoder: str, task: str, split: str, runs: Runs, groups: Mapping[str, Mapping[str, str]]) -> Row:
    ordered = [runs[seed] for seed in sorted(runs)]
    averaged = average_runs([run.scores[split].per_record for run in ordered])
    images, scale = ordered[0].scores[split].images, kind_of(ordered[0].scores[split].metric).scale
    per_seed = [
        SeedScore(seed=seed, n=o.n, value=o.value, **_bounds(o.value, o.low, o.high, scale))
        for seed in sorted(runs)
        for o in (runs[seed].scores[split].overall,)
    ]
    breakdowns = {
        heading: _breakdown(heading, split, ordered, averaged, groups, scale) for heading in headings(ordered, split)
    }
    seconds = [run.result["seconds"]["training"] for run in ordered]
    before = [run.result.get("init", {}).get("training_seconds", 0.0) for run in ordered]
    return Row(
        encoder=encoder,
        task=task,
        split=split,
        per_seed=per_seed,
        mean=_mean(averaged, images, list(averaged), scale),
        breakdowns=breakdowns,
        training_seconds=sum(seconds) / len(seconds) or None,  # zero-shot: none, not nought
        seconds_before=sum(before) / len(before),
    )


def _breakdown(
    heading: str,
    split: str,
    runs: Sequence[RunResult],
    averaged: Mapping[str, float],
    groups: Mapping[str, Mapping[str, str]],
    scale: Scale,
) -> dict[str, Interval]:
    """The groups of a heading: means of their records where they are that, else what the runs say, averaged.

    A breakdown need not be one of records: captions are also scored by other metrics, or by a domain's own frequencies.
    """
    said = [run.scores[split].breakdowns.get(heading, {}) for run in runs]
    members: dict[str, list[str]] = {}
    for record in averaged:
        group = groups.get(record, {}).get(heading)
        if group:
            members.setdefault(group, []).append(record)
    first = runs[0].scores[split].per_record
    alike = all(
        group not in said[0] or abs(said[0][group].value - sum(first[i] for i in ids) / len(ids)) < _SAME
        for group, ids in members.items()
    )
    if members and alike:
        images = runs[0].scores[split].images
        return {group: _mean(averaged, images, ids, scale) for group, ids in sorted(members.items())}
    return {
        group: _average([own[group] for own in said if group in own])
        for group in dict.fromkeys(g for o in said for g in o)
    }


def _average(scores: Sequence[Score]) -> Interval:
    """Of several seeds the mean value, and the mean bounds: how far other pictures could move one run."""
    value, low, high = (sum(getattr(s, name) for s in scores) / len(scores) for name in ("value", "low", "high"))
    return Interval(value=value, low=low, high=high, n=scores[0].n)


def _mean(scores: Mapping[str, float], images: Mapping[str, str], ids: Sequence[str], scale: Scale) -> Interval:
    value, low, high = bootstrap_mean([scores[i] for i in ids], [images[i] for i in ids], scale=scale)
    return Interval(value=value, n=len(ids), **_bounds(value, low, high, scale))


def difference(
    task: str, split: str, labels: tuple[str, str], runs: tuple[Runs, Runs], seeds: Sequence[int]
) -> PairDifference:
    """The first side minus the second over `seeds`, which both have; records that only one side has are left out."""
    a, b = (average_runs([side[seed].scores[split].per_record for seed in seeds]) for side in runs)
    images = runs[0][seeds[0]].scores[split].images
    # A picture that only one encoder could use leaves its records without a partner.
    shared = [record for record in a if record in b]
    least, greatest = kind_of(runs[0][seeds[0]].scores[split].metric).scale
    scale = (least - greatest, greatest - least)
    found = paired_difference({i: a[i] for i in shared}, {i: b[i] for i in shared}, images, scale=scale)
    bounds = _bounds(found.value, found.low, found.high, scale)
    return PairDifference(
        task=task, split=split, a=labels[0], b=labels[1], seeds=list(seeds),
        value=found.value, p=found.p, n=found.n, **bounds,
    )  # fmt: skip


def _bounds(value: float, low: float, high: float, scale: Scale) -> dict[str, float]:
    """An unbounded interval (a single picture cannot be redrawn) becomes the whole scale, which says as much."""
    return {
        "low": low if math.isfinite(low) else min(scale[0], value),
        "high": high if math.isfinite(high) else max(scale[1], value),
    }
