"""Every way of answering the same questions, side by side: trained, zero-shot, and without any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clipvil.compare.results import Interval, Results, TaskInfo


@dataclass(frozen=True)
class Way:
    """One way of answering. `encoder` is empty for answers that need no model; `scores` are by split."""

    title: str
    encoder: str
    scores: Mapping[str, Interval]
    kinds: Mapping[str, Interval]
    """By kind of answer, on the first split."""


@dataclass(frozen=True)
class SideBySide:
    """Tasks that ask the same questions, scored alike; ways best first on the first split."""

    tasks: tuple[TaskInfo, ...]
    splits: tuple[str, ...]
    kinds: tuple[str, ...]
    ways: tuple[Way, ...]


def side_by_side(results: Results) -> list[SideBySide]:
    """One table for each set of questions or pictures for which other ways than trained models are known."""
    groups: dict[object, list[TaskInfo]] = {}
    for task in results.tasks:
        if task.splits and task.metric:
            key = (task.metric, task.mode, tuple(task.splits), tuple(sorted(task.fingerprints.items())))
            groups.setdefault(key, []).append(task)
    known = {baseline.task for baseline in results.baselines}
    # A task alone has its own table; it is worth another where more than its rows stand in it.
    return [
        _table(results, tasks)
        for tasks in groups.values()
        if any(task.name in known for task in tasks) or (len(tasks) > 1 and any(not task.trains for task in tasks))
    ]


def _table(results: Results, tasks: list[TaskInfo]) -> SideBySide:
    splits, kind = tuple(tasks[0].splits), tasks[0].kind
    ways = []
    for task in tasks:
        for row in results.ranked(task.name, splits[0]):
            rows = {split: results.row(task.name, split, row.encoder) for split in splits}
            scores = {split: found.mean for split, found in rows.items() if found}
            title = f"{task.name}, {row.encoder}" if len(tasks) > 1 else row.encoder
            ways.append(Way(title, row.encoder, scores, row.breakdowns.get(kind.columns, {})))
    # The same for all these tasks: they ask the same questions.
    first = [baseline for baseline in results.baselines if baseline.task == tasks[0].name]
    for name in dict.fromkeys(baseline.name for baseline in first):
        mine = {baseline.split: baseline for baseline in first if baseline.name == name}
        kinds = mine[splits[0]].breakdowns.get(kind.columns, {}) if splits[0] in mine else {}
        ways.append(Way(name, "", {split: baseline.mean for split, baseline in mine.items()}, kinds))
    kinds_in_order = tuple(kind.column_order(list(dict.fromkeys(name for way in ways for name in way.kinds))))
    ranked = sorted(ways, key=lambda way: -way.scores[splits[0]].value if splits[0] in way.scores else 1.0)
    return SideBySide(tuple(tasks), splits, kinds_in_order, tuple(ranked))
