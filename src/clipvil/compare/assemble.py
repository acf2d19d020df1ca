"""Puts finished runs together into `Results`, again after every cell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from clipvil.compare import protocol
from clipvil.compare.aggregate import Aggregator, Runs, headings
from clipvil.compare.baselines import baselines, label_baselines
from clipvil.compare.caption_gallery import choose_captions
from clipvil.compare.cell_plan import TaskPlan
from clipvil.compare.gallery import Answers, choose, make_thumbnail, record_id
from clipvil.compare.house_plan import plan_of, walls_of
from clipvil.compare.ledger import Ledger
from clipvil.compare.left_out import describe
from clipvil.compare.navigation_baselines import navigation_baselines
from clipvil.compare.plan import Plan
from clipvil.compare.results import (
    Baseline,
    Curve,
    EncoderRow,
    GalleryGroup,
    PairDifference,
    Results,
    Row,
    TaskInfo,
)
from clipvil.compare.stores import encoder_row
from clipvil.compare.suite import BLIND
from clipvil.compare.task_pairs import TaskPairs
from clipvil.metrics.vqa import Mode
from clipvil.tasks.base import Prediction
from clipvil.tasks.entailment_scores import METRIC as ENTAILMENT_METRIC
from clipvil.tasks.vqa_scores import METRIC
from clipvil.training.run_files import read_predictions

_DRAWN = 4
"""Gallery entries a kind of outcome and split."""


class Assembler(Ledger):
    """Collects cells; `results` may be asked at any time and says what is known by then."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._aggregator = Aggregator()
        self._task_pairs = TaskPairs()
        self._answers: dict[tuple[str, str, str, int], Answers] = {}
        self._thumbnails: dict[str, str] = {}
        self._groups: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
        self._baselines: dict[tuple[str, str], list[Baseline]] = {}
        self._left_out = {task.name: describe(task) for task in plan.tasks}

    def results(self) -> Results:
        """Everything that is known now."""
        plan, suite = self.plan, self.plan.suite
        tasks = [self._task(task) for task in plan.tasks]
        rows: list[Row] = []
        differences: list[PairDifference] = []
        gallery: list[GalleryGroup] = []
        guessed: list[Baseline] = []
        for task in plan.tasks:
            runs = self._task_runs(task)
            for split in task.test_splits:
                rows += self._rows(task, split, runs)
                differences += self._aggregator.differences(task.name, split, runs)
                guessed += self._baselines_of(task, split, runs)
            gallery += self._gallery(task, runs)
        return Results(
            name=suite.name or "comparison",
            title=suite.title or _title(suite.labels(), [task.name for task in plan.tasks]),
            protocol=protocol.sentences(plan),
            suite=suite.model_dump(mode="json"),
            reference=self._reference(),
            encoders=self._encoders(),
            tasks=tasks,
            rows=rows,
            differences=differences,
            baselines=guessed,
            task_differences=self._task_pairs.differences(plan.tasks, suite.labels(), self._runs),
            curves=self._curves(),
            gallery=gallery,
            cells=self.cells(),
            initial_runs=self.initial_runs(),
            **self._about,
        )

    def _task_runs(self, task: TaskPlan) -> dict[str, Runs]:
        labels = self.plan.suite.labels()
        return {label: self._runs[label, task.name] for label in labels if (label, task.name) in self._runs}

    def _rows(self, task: TaskPlan, split: str, runs: Mapping[str, Runs]) -> list[Row]:
        found = []
        for label, by_seed in runs.items():
            groups = self._groups_of(task, split, by_seed)
            found.append(self._aggregator.row(label, task.name, split, by_seed, groups))
        return found

    def _groups_of(self, task: TaskPlan, split: str, runs: Runs) -> dict[str, dict[str, str]]:
        """Record id -> heading -> group: the breakdowns that the task reports, read from the records' own fields."""
        key = (task.name, split)
        if key not in self._groups:
            names = headings(list(runs.values()), split)
            self._groups[key] = {
                record_id(record): {name: getattr(record, name, "") for name in names} for record in task.units(split)
            }
        return self._groups[key]

    def _baselines_of(self, task: TaskPlan, split: str, runs: Mapping[str, Runs]) -> list[Baseline]:
        """Chance and majority for VQA accuracy and entailment labels, agents without a model for navigation.

        Nothing before a run says how it was scored.
        """
        scored = next((run.scores[split] for by_seed in runs.values() for run in by_seed.values()), None)
        if scored is None or (scored.metric not in (METRIC, ENTAILMENT_METRIC) and not task.kind.walks):
            return []
        key = (task.name, split)
        if key not in self._baselines and scored.metric == ENTAILMENT_METRIC:
            train, test = (task.records(name) for name in ("train", split))
            self._baselines[key] = label_baselines(task.name, split, train, test)
        if key not in self._baselines and task.kind.walks:
            graphs, spl = task.datasets[split].graphs or {}, str(task.recipe.task_settings.get("spl", "graph"))
            self._baselines[key] = navigation_baselines(task.name, split, task.records(split), graphs, spl)
        if key not in self._baselines:
            train, test = (task.records(name) for name in ("train", split))
            answers = task.recipe.task_settings.get("answers")
            self._baselines[key] = baselines(task.name, split, train, test, answers, cast(Mode, scored.mode))
        return self._baselines[key]

    def _reference(self) -> str:
        """The chosen reference; should none of its runs have finished, the first encoder that has one."""
        chosen = self.plan.suite.chosen_reference()
        finished = [label for label in self.plan.suite.labels() if any(label == key[0] for key in self._runs)]
        return chosen if chosen in finished or not finished else finished[0]

    def _encoders(self) -> list[EncoderRow]:
        rows = []
        for entry in self.plan.suite.entries():
            # Any cell of the encoder will do, a corpus is as good as another for what its pictures cost.
            cell = next((cell for cell in self.plan.cells if cell.entry.title == entry.title), None)
            if cell is not None:
                rows.append(encoder_row(entry, self.plan.slugs[entry.title], cell, self.plan))
        return rows

    def _task(self, task: TaskPlan) -> TaskInfo:
        runs = [run for by_seed in self._task_runs(task).values() for run in by_seed.values()]
        result = runs[0].result if runs else {}
        recipe = task.recipe.to_values()
        for varied in ("encoder", "seed"):
            recipe.pop(varied)
        recipe["data"] = dict(task.data)
        return TaskInfo(
            name=task.name,
            task=task.recipe.task,
            metric=result.get("metric", ""),
            mode=result.get("mode", ""),
            splits=task.test_splits,
            data=protocol.data_line(task),
            fingerprints={name: dataset.fingerprint[:16] for name, dataset in task.datasets.items()},
            sizes={name: len(task.units(name)) for name in task.datasets},
            trains=task.trains,
            baseline=task.baseline,
            left_out=self._left_out[task.name],
            recipe=recipe,
        )

    def _curves(self) -> list[Curve]:
        return [
            Curve(
                encoder=label,
                task=task,
                seed=seed,
                points=[(point["step"], point["value"]) for point in run.result["learning_curve"]],
                best_step=run.result["best"]["step"],
            )
            for (label, task), by_seed in self._runs.items()
            for seed, run in sorted(by_seed.items())
        ]

    def _gallery(self, task: TaskPlan, runs: Mapping[str, Runs]) -> list[GalleryGroup]:
        floor = next((entry.title for entry in self.plan.suite.entries() if entry.name == BLIND), None)
        lead = self._reference()
        if lead not in runs or lead == floor:
            return []
        groups: list[GalleryGroup] = []
        for split in task.test_splits:
            answers = {label: self._answers_of(task, label, split, min(by_seed)) for label, by_seed in runs.items()}
            records = {record_id(record): record for record in task.units(split)}
            draw = choose_captions if task.kind.captions else partial(choose, per_kind=_DRAWN)
            groups += draw(
                task.name, split, answers, records, lead=lead, floor=floor,
                thumbnail=partial(self._thumbnail, task.datasets[split].pictures),
            )  # fmt: skip
            if task.kind.walks:
                groups = [self._on_plans(group, task, records) if group.split == split else group for group in groups]
        return groups

    def _on_plans(self, group: GalleryGroup, task: TaskPlan, records: Mapping[str, Any]) -> GalleryGroup:
        """The same with the houses that were walked through."""
        graphs, entries = task.datasets[group.split].graphs or {}, []
        for entry in group.entries:
            episode = records[entry.record_id]
            plan = plan_of(graphs[episode.scan], walls_of(task.recipe.data, episode.scan), episode.path)
            entries.append(entry.model_copy(update={"plan": plan}))
        return group.model_copy(update={"entries": entries})

    def _answers_of(self, task: TaskPlan, label: str, split: str, seed: int) -> Answers:
        key = (task.name, label, split, seed)
        if key not in self._answers:
            path = next(
                path for path, c in self._cells.items()
                if path in self._shown and (c.encoder, c.task, c.seed) == (label, task.name, seed)
            )  # fmt: skip
            # Without the runners-up of each answer: on a large corpus they would fill the memory.
            self._answers[key] = {
                p.record_id: (Prediction(p.record_id, p.image_id, p.output, p.confidence), score)
                for p, score in read_predictions(self.plan.out / path, split)
                if score is not None
            }
        return self._answers[key]

    def _thumbnail(self, pictures: Mapping[str, Path], image_id: str) -> str:
        if image_id not in self._thumbnails:
            path = pictures.get(image_id)
            if path is None:  # a walk is no picture
                return ""
            try:
                self._thumbnails[image_id] = make_thumbnail(path.read_bytes(), str(path))
            except OSError:
                self._thumbnails[image_id] = ""
        return self._thumbnails[image_id]


def _title(labels: list[str], tasks: list[str]) -> str:
    encoders = [label for label in labels if label != BLIND]
    what = f"{len(encoders)} visual encoders" if len(encoders) > 1 else "".join(encoders) or BLIND
    return f"{what} on {', '.join(tasks)}"
