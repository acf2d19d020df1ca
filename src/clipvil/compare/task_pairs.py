"""What another model gains on the same features: tasks of one comparison that ask the same records, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from clipvil.compare.aggregate import Runs, difference
from clipvil.compare.cell_plan import TaskPlan
from clipvil.compare.results import TaskDifference


class TaskPairs:
    """Turns runs into differences between tasks, and remembers them: a comparison asks again after every cell."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], TaskDifference] = {}

    def differences(
        self, tasks: Sequence[TaskPlan], labels: Sequence[str], runs: Mapping[tuple[str, str], Runs]
    ) -> list[TaskDifference]:
        """The later task minus the earlier for every pair that can be held against each other, encoder by encoder.

        `runs` is by encoder label and task name. Two tasks are held against each other when they are of one kind, or
        one of them is a baseline, which then comes second, read one corpus and are scored by the same metric in the
        same mode, and the later one does not name others to be held against; an encoder counts with the seeds that it
        has finished in both. What trains nothing has one run for all seeds.
        """
        out = []
        for earlier, later in combinations(tasks, 2):
            if earlier.datasets is not later.datasets or not _comparable(earlier, later):
                continue
            if later.minus is not None and earlier.name not in later.minus:
                continue
            if later.baseline:
                earlier, later = later, earlier
            for split in later.test_splits:
                for label in labels:
                    found = self._difference(label, split, later.name, earlier.name, runs, not earlier.trains)
                    out += [found] if found else []
        return out

    def _difference(
        self, label: str, split: str, a: str, b: str, runs: Mapping[tuple[str, str], Runs], untrained: bool
    ) -> TaskDifference | None:
        first, second = runs.get((label, a), {}), runs.get((label, b), {})
        if first and second and untrained:
            second = dict.fromkeys(first, next(iter(second.values())))
        seeds = tuple(sorted(first.keys() & second.keys()))
        if not seeds:
            return None
        one, other = first[seeds[0]].scores[split], second[seeds[0]].scores[split]
        if (one.metric, one.mode) != (other.metric, other.mode):
            return None
        key = (label, split, a, b, seeds)
        if key not in self._known:
            found = difference("", split, (a, b), (first, second), seeds)
            self._known[key] = TaskDifference(encoder=label, **found.model_dump(exclude={"task"}))
        return self._known[key]


def _comparable(one: TaskPlan, other: TaskPlan) -> bool:
    if one.baseline != other.baseline:
        return one.kind is other.kind
    return one.recipe.task == other.recipe.task
