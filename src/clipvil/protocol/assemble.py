"""Puts finished runs together into the report of a protocol, again after every cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.compare.aggregate import Aggregator, Runs, difference
from clipvil.compare.cell_plan import TaskPlan
from clipvil.compare.ledger import Ledger
from clipvil.compare.left_out import describe
from clipvil.compare.plan import Plan
from clipvil.compare.stores import encoder_row
from clipvil.metrics.statistics import Contrast, average_runs, contrast
from clipvil.protocol.declaration import Declaration
from clipvil.protocol.planning import TEACHERS, Place, Scheme
from clipvil.protocol.results import (
    ConditionRow,
    Cost,
    Drop,
    Gain,
    MethodRow,
    Ratio,
    Report,
    ScoreRow,
    SubsetRow,
    TaskRow,
)
from clipvil.protocol.wording import sentences


class ProtocolLedger(Ledger):
    """Collects cells; `report` may be asked at any time and says what is known by then."""

    def __init__(self, plan: Plan, declaration: Declaration, scheme: Scheme) -> None:
        super().__init__(plan)
        self.declaration, self.scheme = declaration, scheme
        # The tasks of the plan stand in the order of the scheme's places.
        self.places = dict(zip((task.name for task in plan.tasks), scheme.places, strict=True))
        self._tasks = dict(zip(scheme.places, plan.tasks, strict=True))
        self._aggregator = Aggregator()
        self._known: dict[tuple[Any, ...], Any] = {}

    def report(self) -> Report:
        """Everything that is known now."""
        asked = self.declaration
        done = {place: runs for place in self.scheme.places if (runs := self._of(place))}
        return Report(
            name=asked.name or "protocol",
            title=asked.title or f"{asked.encoder.title}: {', '.join(task.title for task in asked.tasks)}",
            declaration=asked.model_dump(mode="json"),
            protocol=sentences(asked, self.scheme),
            reference=asked.reference,
            encoder=encoder_row(asked.encoder, self.plan.slugs[asked.encoder.title], self.plan.cells[0], self.plan),
            tasks=[self._task(name, done) for name in dict.fromkeys(place.task for place in self.scheme.places)],
            conditions=[self._condition(name) for name in (one.title for one in asked.conditions)],
            methods=[MethodRow(name=m.name, kind=m.kind, overrides=list(m.changes())) for m in asked.methods],
            scores=[row for place, runs in done.items() for row in self._scores(place, runs)],
            gains=self._gains(done),
            drops=[drop for place, runs in done.items() for drop in self._drops(place, runs)],
            costs=[_cost(place, runs) for place, runs in done.items()],
            cache_bytes=_cache_bytes(self.plan.out / TEACHERS),
            cells=self.cells(),
            initial_runs=self.initial_runs(),
            **self._about,
        )

    def splits(self, place: Place) -> list[str]:
        """The test splits of a task, the ordinary one first."""
        found = self._tasks[place].test_splits
        first = next((task.ordinary for task in self.declaration.tasks if task.title == place.task), "")
        return [first, *(name for name in found if name != first)] if first in found else found

    def _of(self, place: Place) -> Runs:
        return self._runs.get((self.declaration.encoder.title, self._tasks[place].name), {})

    def _plan_of(self, task: str) -> tuple[Place, TaskPlan]:
        return next((place, plan) for place, plan in self._tasks.items() if place.task == task)

    def _task(self, name: str, done: Mapping[Place, Runs]) -> TaskRow:
        place, plan = self._plan_of(name)
        corpus = self.scheme.corpora[name]
        results = [run.result for where, runs in done.items() if where.task == name for run in runs.values()]
        registered = next((task.recipe.task for p, task in self._tasks.items() if p.task == name), plan.recipe.task)
        return TaskRow(
            name=name,
            task=str(plan.recipe.task_settings.get("of")) if registered == "teacher_probe" else registered,
            metric=results[0]["metric"] if results else "",
            mode=results[0]["mode"] if results else "",
            splits=self.splits(place),
            data=dict(corpus.data),
            shift=dict(corpus.shift),
            fingerprints={split: data.fingerprint[:16] for split, data in plan.datasets.items()},
            sizes={split: len(plan.units(split)) for split in plan.datasets},
            pictures={split: len(data.pictures) for split, data in plan.datasets.items()},
            subsets={
                condition: [SubsetRow(**{**one.to_json(), "file": self._within(one.file)}) for one in subsets]
                for condition, subsets in corpus.subsets.items()
            },
            left_out=describe(self.plan.tasks[[task.name for task in self.plan.tasks].index(plan.name)]),
        )

    def _within(self, file: str) -> str:
        path = Path(file)
        return str(path.relative_to(self.plan.out)) if path.is_relative_to(self.plan.out) else file

    def _condition(self, name: str) -> ConditionRow:
        condition = next(one for one in self.declaration.conditions if one.title == name)
        counts = {task: condition.count(corpus.pictures) for task, corpus in self.scheme.corpora.items()}
        return ConditionRow(name=name, pictures=counts, overrides=list(condition.overrides))

    def _scores(self, place: Place, runs: Runs) -> list[ScoreRow]:
        rows = []
        for split in self.splits(place):
            if not all(split in run.scores for run in runs.values()):
                continue
            row = self._aggregator.row(place.method, f"{place.task}/{place.condition}", split, runs, {})
            rows.append(
                ScoreRow(
                    task=place.task, condition=place.condition, method=place.method, split=split,
                    mean=row.mean, per_seed=row.per_seed, breakdowns=row.breakdowns,
                )
            )  # fmt: skip
        return rows

    def _gains(self, done: Mapping[Place, Runs]) -> list[Gain]:
        out = []
        for place, runs in done.items():
            base = done.get(Place(place.task, place.condition, self.declaration.reference), {})
            seeds = tuple(sorted(runs.keys() & base.keys()))
            if place.method == self.declaration.reference or not seeds:
                continue
            for split in self.splits(place):
                key = ("gain", place, split, seeds)
                if key not in self._known:
                    self._known[key] = _gain(place, split, runs, base, seeds, self.declaration.reference)
                out.append(self._known[key])
        return out

    def _drops(self, place: Place, runs: Runs) -> list[Drop]:
        ordinary, *shifted = self.splits(place)
        out = []
        for split in shifted:
            key = ("drop", place, split, tuple(sorted(runs)))
            if key not in self._known:
                self._known[key] = _drop(place, split, ordinary, runs)
            out.append(self._known[key])
        return out


def _averaged(runs: Runs, split: str, seeds: tuple[int, ...]) -> dict[str, float]:
    return average_runs([runs[seed].scores[split].per_record for seed in seeds])


def _gain(place: Place, split: str, runs: Runs, base: Runs, seeds: tuple[int, ...], reference: str) -> Gain:
    found = difference(place.task, split, (place.method, reference), (runs, base), seeds)
    mine, other = _averaged(runs, split, seeds), _averaged(base, split, seeds)
    shared = [record for record in mine if record in other]
    images = base[seeds[0]].scores[split].images
    both = contrast({i: mine[i] for i in shared}, {i: other[i] for i in shared}, images, images)
    return Gain(
        task=place.task, condition=place.condition, split=split, method=place.method, relative=_ratio(both),
        value=found.value, low=found.low, high=found.high, p=found.p, n=found.n, seeds=list(seeds),
    )  # fmt: skip


def _drop(place: Place, split: str, ordinary: str, runs: Runs) -> Drop:
    seeds = tuple(sorted(runs))
    images = [runs[seeds[0]].scores[name].images for name in (split, ordinary)]
    # A picture has one name in all splits of a corpus; where it stands in two, it is drawn for both at once.
    both = contrast(_averaged(runs, split, seeds), _averaged(runs, ordinary, seeds), *images)
    value, low, high = -both.value, both.low, both.high
    relative = _ratio(both)
    return Drop(
        task=place.task, condition=place.condition, split=split, method=place.method,
        value=value, low=None if high is None else -high, high=None if low is None else -low,
        relative=None if relative is None else _turned(relative),
    )  # fmt: skip


def _ratio(found: Contrast) -> Ratio | None:
    if found.relative is None:
        return None
    return Ratio(value=found.relative, low=found.relative_low, high=found.relative_high)


def _turned(ratio: Ratio) -> Ratio:
    low = None if ratio.high is None else -ratio.high
    return Ratio(value=-ratio.value, low=low, high=None if ratio.low is None else -ratio.low)


def _cost(place: Place, runs: Runs) -> Cost:
    results = [run.result for run in runs.values()]
    seconds = sum(result["seconds"]["training"] for result in results) / len(results)
    steps = sum(result["stopped"]["step"] for result in results) / len(results)
    asked = [result["distillation"]["seconds"] for result in results if result.get("distillation")]
    return Cost(
        task=place.task,
        condition=place.condition,
        method=place.method,
        training_seconds=seconds,
        steps=steps,
        steps_per_second=steps / seconds if seconds > 0 else None,
        teacher_seconds=sum(asked) / len(asked) if asked else None,
        parameters=results[0].get("parameters"),
    )


def _cache_bytes(folder: Path) -> dict[str, int]:
    """Bytes of what teachers said of texts and of pictures."""
    found: dict[str, int] = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        kind = "pictures" if entry.name.startswith("cells-") else "texts"
        size = sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        found[kind] = found.get(kind, 0) + size
    return found
