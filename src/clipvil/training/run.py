"""One run from a recipe to result.json: data, features, training, evaluation."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from clipvil.datasets.columns import column_of
from clipvil.encoders.base import EncoderSpec
from clipvil.environment import package_versions
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.features.base import FeatureSource
from clipvil.features.without import bare
from clipvil.files import atomic_write_json
from clipvil.tasks.base import (
    Scores,
    Task,
    attach,
    begin,
    continue_from,
    estimate,
    light,
    prepare_training,
    trains,
    units,
)
from clipvil.training.checkpoint import load_weights, save_weights
from clipvil.training.devices import best_device, create_accelerator, finish, start_trackers
from clipvil.training.distilling import Taught, check_distillation, teach
from clipvil.training.evaluation import predict_all
from clipvil.training.initial import FOLDER, Initial, changed, check, content, initial_recipe, open_initial
from clipvil.training.inputs import (
    Usable,
    holds_pictures,
    is_labelled,
    load_datasets,
    open_features,
    other_encoder,
    usable,
)
from clipvil.training.loop import Loop, Position, ResumeOptions
from clipvil.training.memory import in_memory
from clipvil.training.partial import PartialPredictions, partial_path
from clipvil.training.picture_task import task_of
from clipvil.training.randomness import seed_everything
from clipvil.training.recipe import Recipe, TrainingChoice
from clipvil.training.result import SCHEMA, UNTRAINED, Judged, Stopwatch, build_result, describe_split
from clipvil.training.run_files import (
    BEST,
    RunResult,
    holds_run,
    locked,
    read_json,
    read_recipe,
    read_run,
    refuse_foreign,
    write_predictions,
    write_text,
)
from clipvil.training.subset import chosen_of, list_hash

if TYPE_CHECKING:
    from accelerate import Accelerator

    from clipvil.datasets.base import Dataset


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    features: FeatureSource | None = None,
    datasets: Mapping[str, Dataset] | None = None,
    resume: bool = False,
    quiet: bool = False,
    allow_older: bool = False,
    allow_recipe_change: bool = False,
    retry_failed: bool = False,
) -> RunResult:
    """Train what a recipe describes, choose the best step on the validation split, judge all splits, write everything.

    A task that trains nothing (zero-shot) is judged at once; stopped in between, it goes on at the next batch.

    `datasets` (by split, with at least train and val) and `features` may be passed in ready, so that several runs
    share them. With `resume` an unfinished run goes on where its last checkpoint stands, and a finished one is returned
    as it is. `retry_failed` tries pictures again that could not be read when the features were extracted.

    A recipe with an `init` section starts from another run. Where it names a recipe and no run, that is trained first,
    in `initial` inside `out`; both phases are resumed at their exact step.

    Raises:
        RecipeError: the recipe to start from does not exist, starts from itself or is of a task that does not fit.
        UsageError: the folder already holds a run and `resume` was not given, it holds something else, or another
            process uses it.
        CheckpointError: a checkpoint is damaged or was trained with another recipe or other data, or the run to start
            from is not finished, does not fit or changed since.
        DataError, StoreError, EncoderError: as from the rooms that read them.
        ClipvilError: the loss is no longer a finite number.
    """
    options = ResumeOptions(resume, allow_older, allow_recipe_change)
    return _phase(recipe, Path(out), features, datasets, options, quiet, retry_failed)


def _phase(
    recipe: Recipe,
    out: Path,
    features: FeatureSource | None,
    datasets: Mapping[str, Dataset] | None,
    options: ResumeOptions,
    quiet: bool,
    retry_failed: bool = False,
    more: bool = False,
) -> RunResult:
    """`train` in its folder. `more` says that another run follows in the same processes."""
    accelerator = create_accelerator(recipe, out)
    with contextlib.ExitStack() as stack:
        if accelerator.is_main_process:
            refuse_foreign(out)
            stack.enter_context(locked(out))
        else:
            quiet = True
        done = _train(recipe, out, features, datasets, options, accelerator, quiet, retry_failed)
    accelerator.wait_for_everyone()
    finish(accelerator, more=more)
    return done


def evaluate(
    run: str | Path,
    split: str,
    *,
    features: FeatureSource | None = None,
    datasets: Mapping[str, Dataset] | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    quiet: bool = False,
) -> Scores | None:
    """Judge a finished run on a split, with its best weights.

    Writes predictions_<split>.jsonl and evaluation_<split>.json into `out` (the run itself when None). None for a split
    without answers, whose predictions are written all the same. `overrides` may change `data.*` and `features.*` of
    the run's recipe, as to judge it on another corpus; what is found then must go elsewhere than into the run.

    Raises:
        CheckpointError: the run is not finished, or its encoder is not that of the features.
        UsageError: an override of anything but data and features, or of data without `out`.
    """
    run, out = Path(run), Path(out) if out is not None else None
    for override in overrides:
        if not override.startswith(("data.", "features.")):
            raise UsageError(f"override '{override}': evaluation can change data.* and features.* only")
        if override.startswith("data.") and out is None:
            raise UsageError(f"override '{override}': scores on other data are not the run's own; give --out")
    elsewhere = any(override.startswith("data.") for override in overrides)
    out = out or run
    recipe = read_recipe(run).with_overrides(*overrides)
    datasets = datasets or load_datasets(recipe.data, (split,))
    features = features or open_features(recipe, datasets, out if elsewhere else run, quiet=quiet)
    task, model, assets = restore(run, recipe)
    features = attach(task, datasets, features)
    model.to(best_device())
    spec = EncoderSpec(**assets["encoder"])
    if problem := other_encoder(spec, features.spec.fingerprint, features.spec.grid_channels):
        raise CheckpointError(f"{run}: {problem}")
    chosen = _units_of(task, datasets[split], features, split, quiet)
    judged = _Materials(recipe, task, features, datasets, {split: chosen}).judge(model, split, None, quiet)
    write_predictions(out / f"predictions_{split}.jsonl", judged.predictions, judged.scores)
    found = judged.scores.to_json() if judged.scores else None
    atomic_write_json(
        out / f"evaluation_{split}.json",
        {
            "schema": SCHEMA,
            "split": split,
            "scores": found,
            "data": describe_split(datasets[split], chosen),
            "recipe_hash": recipe.hash(),
            "encoder": asdict(spec),
            "packages": package_versions(),
        },
    )
    return judged.scores


def restore(run: Path, recipe: Recipe) -> tuple[Task, nn.Module, dict[str, Any]]:
    """Task, model with the best weights, and assets of a finished run.

    Raises:
        CheckpointError: the run is not finished, or its files are damaged or do not fit together.
    """
    if (run / "conversion.json").is_file() and not (run / "assets.json").is_file():
        needed = read_json(run / "conversion.json").get("vocabularies", "its vocabularies")
        raise CheckpointError(f"{run}: converted without vocabularies; convert again with {needed}")
    assets = read_json(run / "assets.json")
    task = task_of(recipe)
    task.restore(assets["task"])
    seed_everything(recipe.seed, "model")
    model = task.build(recipe.model, EncoderSpec(**assets["encoder"]))
    if trains(task):
        load_weights(run / BEST, model)
    return task, model, assets


def _units_of(
    task: Task,
    dataset: Dataset,
    features: FeatureSource,
    split: str,
    quiet: bool,
    training: TrainingChoice | None = None,
) -> Usable:
    """What the task makes of the records of a split whose pictures have features.

    Of the training split those that `training` chooses by its share or subset.
    """
    found = usable(dataset.records, features, split, quiet=quiet)
    records = (
        found.records if training is None or split != "train" else chosen_of(found.records, training, dataset.pictures)
    )
    return replace(found, records=units(task, records))


@dataclass(frozen=True)
class _Materials:
    """What is trained: everything that stands before the first step."""

    recipe: Recipe
    task: Task
    features: FeatureSource
    datasets: Mapping[str, Dataset]
    chosen: Mapping[str, Usable]
    initial: Initial | None = None

    def prepare(self) -> None:
        """Let the task learn from the training records, or from the run that this one starts from."""
        train = self.chosen["train"].records
        if self.initial is None:
            self.task.prepare(train)
        else:
            continue_from(self.task, self.initial.run, train)
        if trains(self.task):
            prepare_training(self.task, train)

    def assets(self) -> dict[str, Any]:
        """What assets.json holds."""
        return {
            "task": self.task.assets(),
            "encoder": asdict(self.features.spec),
            "data": {name: self._data_of(name) for name in self.datasets},
            **({"init": dict(self.initial.origin)} if self.initial else {}),
        }

    def _data_of(self, split: str) -> str:
        """Stands for the records that are used: a run cannot go on when pictures were mended, or lost, meanwhile."""
        without = self.chosen[split].left_out
        subset = self.recipe.training.subset if split == "train" else None
        alone = f" of the pictures {list_hash(subset)[:16]} alone" if subset is not None else ""
        return self.datasets[split].fingerprint + (f" without {without}" if without else "") + alone

    def judge(
        self,
        model: nn.Module,
        split: str,
        accelerator: Accelerator | None,
        quiet: bool,
        keep: Path | None = None,
        task: Task | None = None,
    ) -> Judged:
        """Predictions and scores of a split. In the folder `keep` predictions are kept as they come, and taken up.

        `task` is the one that judges, if it is not the one that trains.
        """
        task = task or self.task
        records, training = self.chosen[split].records, self.recipe.training
        with contextlib.ExitStack() as stack:
            partial = (
                stack.enter_context(PartialPredictions(partial_path(keep, split), self._key(split))) if keep else None
            )
            predictions = predict_all(
                task,
                model,
                records,
                self.features,
                batch_size=training.evaluate_batch_size,
                workers=training.loader_workers,
                mixed_precision=training.mixed_precision,
                accelerator=accelerator,
                label=f"evaluate {split}",
                quiet=quiet,
                partial=partial,
            )
        return Judged(predictions, task.score(predictions, records) if is_labelled(records) else None)

    def _key(self, split: str) -> str:
        """Stands for everything that the predictions of a split depend on."""
        what = [self.recipe.hash(), self.assets(), split, len(self.chosen[split].records)]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _train(
    recipe: Recipe,
    out: Path,
    features: FeatureSource | None,
    datasets: Mapping[str, Dataset] | None,
    options: ResumeOptions,
    accelerator: Accelerator,
    quiet: bool,
    retry_failed: bool,
) -> RunResult:
    finished = _look_at_folder(out, recipe, options, quiet)
    if finished is not None:
        return finished
    # First what is cheap: a wrong name should not be found after an hour of extraction.
    task = task_of(recipe)
    check(recipe, task)
    check_distillation(recipe, task)
    watch = Stopwatch()
    # One process writes a corpus, extracts features that are missing or tries them again; the others find them there.
    retry_here = retry_failed and accelerator.is_main_process
    with accelerator.main_process_first():
        datasets = datasets or load_datasets(recipe.data)
        _check_splits(datasets)
        watch.lap("data")
        features = features or open_features(recipe, datasets, out, retry_failed=retry_here, quiet=quiet)
        source, features = features, attach(task, datasets, features)
        watch.lap("features")
    _check_source(recipe, features)
    initial = _start(recipe, out, task, features, datasets, options, quiet)
    if initial is not None:
        watch.lap("initial")
    materials = _gather(recipe, task, features, datasets, initial, quiet)
    chosen = materials.chosen
    # Before the assets are written: a task without training may have to say which model it found.
    fixed = None if trains(task) else _untrained(materials, accelerator, quiet)
    if accelerator.is_main_process:
        _write_beginnings(out, recipe, materials.assets(), options)
    adopted: dict[str, Any] = {}
    taught: Taught | None = None
    whole: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if fixed is None:
        taught = _teach(materials, out, accelerator, quiet)
        watch.lap("teachers")
        loop, adopted = _loop(materials, out, accelerator, quiet, taught)
        model, position, whole = loop.model, loop.run(options), loop.whole()
    else:
        model, position = fixed, Position(stopped=UNTRAINED)
    watch.lap("training")
    # What was trained has its checkpoints; what was not has nothing to go on from but its predictions so far.
    keep = out if fixed is not None and accelerator.num_processes == 1 else None
    with whole:
        judged = {name: materials.judge(model, name, accelerator, quiet, keep) for name in chosen if name != "train"}
    watch.lap("evaluation")
    result = build_result(recipe, model, source, datasets, chosen, judged, position, watch)
    result |= _beginnings(initial, adopted, taught)
    if fixed is None:
        save_weights(out / BEST, model, writes=accelerator.is_main_process)
    if accelerator.is_main_process:
        _write_end(out, result, judged, quiet)
    return RunResult(result, {name: value.scores for name, value in judged.items() if value.scores})


def _gather(
    recipe: Recipe,
    task: Task,
    features: FeatureSource,
    datasets: Mapping[str, Dataset],
    initial: Initial | None,
    quiet: bool,
) -> _Materials:
    """What each split has to train and judge on, its features held in memory where they fit, and the task prepared."""
    training = recipe.training
    chosen = {name: _units_of(task, data, features, name, quiet, training) for name, data in datasets.items()}
    held = features
    if recipe.features.source == "store":
        held = in_memory(features, (key for split in chosen.values() for key in column_of(split.records, "image_id")))
    materials = _Materials(recipe, task, held, datasets, chosen, initial)
    materials.prepare()
    return materials


def _untrained(materials: _Materials, accelerator: Accelerator, quiet: bool) -> nn.Module:
    """The model of a task that trains nothing, and what asking it will take, said before it begins."""
    model = materials.task.build(materials.recipe.model, materials.features.spec).to(accelerator.device)
    asked = [record for name, split in materials.chosen.items() if name != "train" for record in split.records]
    line = "" if quiet else estimate(materials.task, model, asked)
    if line:
        print(line, file=sys.stderr, flush=True)
    return model


def _beginnings(initial: Initial | None, adopted: dict[str, Any], taught: Taught | None) -> dict[str, Any]:
    """What a result says of the run that this one started from, and of its teachers."""
    found: dict[str, Any] = {}
    if initial is not None:
        found["init"] = {**initial.origin, **adopted, "training_seconds": round(initial.training_seconds, 3)}
    elif adopted:
        found["init"] = adopted
    return found if taught is None else {**found, "distillation": taught.report}


def _teach(materials: _Materials, out: Path, accelerator: Accelerator, quiet: bool) -> Taught | None:
    """What the teachers say of the training records; None where nothing is distilled."""
    recipe = materials.recipe
    if not recipe.distillation.asked:
        return None
    # One process asks; the others find what was said in the cache.
    with accelerator.main_process_first():
        records = materials.chosen["train"].records
        return teach(recipe, materials.task, records, materials.features, materials.datasets, out, quiet=quiet)


def _loop(
    materials: _Materials, out: Path, accelerator: Accelerator, quiet: bool, taught: Taught | None
) -> tuple[Loop, dict[str, Any]]:
    """The loop before its first step, and what its model took over of the run that it starts from."""
    recipe, initial = materials.recipe, materials.initial
    start_trackers(accelerator, recipe)
    seed_everything(recipe.seed, "model")
    model = materials.task.build(recipe.model, materials.features.spec)
    adopted = initial.adopt(materials.task, model) if initial is not None else begin(materials.task, model)
    judging = light(materials.task)

    def validate(plain: nn.Module) -> Scores:
        scores = materials.judge(plain, "val", accelerator, True, task=judging).scores
        if scores is None:
            raise DataError("the validation split has no answers: nothing to choose the best step by")
        return scores

    loop = Loop(
        materials.task,
        model,
        materials.chosen["train"].records,
        materials.features,
        recipe,
        out,
        validate=validate,
        accelerator=accelerator,
        quiet=quiet,
        taught=taught,
    )
    if initial is not None:
        initial.adopt_optimiser(loop.model, loop.optimisers)
    return loop, adopted


def _start(
    recipe: Recipe,
    out: Path,
    task: Task,
    features: FeatureSource,
    datasets: Mapping[str, Dataset],
    options: ResumeOptions,
    quiet: bool,
) -> Initial | None:
    """What the run starts from, trained first where the recipe names no finished run; None for fresh weights."""
    if not recipe.init.asked:
        return None
    before, run = initial_recipe(recipe), recipe.init.run
    if before is not None:
        folder = out / FOLDER
        run = str(folder)
        theirs: FeatureSource | None = features
        if before.data != recipe.data:
            given, datasets = datasets, load_datasets(before.data)
            theirs = features if holds_pictures(features, given, datasets) else None
        if before.features.store is None and theirs is not None:
            # So that `clipvil evaluate` on it finds them there.
            stored = before.features.model_copy(update={"store": str(out / "features")})
            before = before.model_copy(update={"features": stored})
        elif theirs is None:
            # Other pictures: a store of their own, inside the run.
            before = before.model_copy(update={"features": before.features.model_copy(update={"store": None})})
        _say(f"first {recipe.init.recipe}, in {folder}", quiet)
        _phase(before, folder, theirs, datasets, options, quiet, more=True)
    initial = open_initial(recipe, str(run), task, features.spec)
    step = initial.origin["step"]
    _say(f"starts from {run} ({recipe.init.weights} weights{'' if step is None else f', of step {step}'})", quiet)
    return initial


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def _look_at_folder(out: Path, recipe: Recipe, options: ResumeOptions, quiet: bool) -> RunResult | None:
    """The finished run that is there already; None when there is work to do."""
    if not options.resume:
        if holds_run(out):
            raise UsageError(f"{out}: holds a run already; go on with --resume, or choose another --out")
        return None
    if not (out / "result.json").exists():
        return None
    done = read_run(out)
    if done.result["recipe_hash"] == recipe.hash():
        _check_beginning(out, recipe, done.result.get("init", {}), quiet)
        return done
    if options.allow_recipe_change:
        return None
    differing = recipe.differences(done.result["recipe"])
    raise CheckpointError(
        f"{out}: finished with another recipe ({'; '.join(differing)}); take another --out, or --allow-recipe-change"
    )


def _check_beginning(out: Path, recipe: Recipe, origin: Mapping[str, Any], quiet: bool) -> None:
    """Refuse to give a finished run out as one that began from the run named now: the recipe's hash knows no folder."""
    run = recipe.init.run
    if run is None:
        return
    try:
        now = content(run, recipe.init)
    except CheckpointError as error:
        # A finished run needs nothing any more of what it began from, which may have been put away.
        _say(f"{out}: finished; whether it began from this cannot be told: {error}", quiet)
        return
    for key, value in now.items():
        if origin.get(key) != value:
            raise CheckpointError(
                f"{out}: finished, but it began from other weights than those of {run} "
                f"({key} {str(origin.get(key))[:16]} -> {value[:16]}); take another --out"
            )


def _write_beginnings(out: Path, recipe: Recipe, assets: dict[str, Any], options: ResumeOptions) -> None:
    """Recipe and assets, before the first step; refuses to go on with other data or another encoder."""
    path = out / "assets.json"
    if options.resume and path.exists() and not options.allow_recipe_change:
        before = read_json(path)
        for part, fingerprint in {**assets["data"], "encoder": assets["encoder"]["fingerprint"]}.items():
            was = before["encoder"]["fingerprint"] if part == "encoder" else before["data"].get(part)
            if was != fingerprint:
                what = "the encoder" if part == "encoder" else f"the data of split '{part}'"
                raise CheckpointError(
                    f"{out}: {what} changed since the run began ({was} -> {fingerprint}); take another --out"
                )
        if difference := changed(before.get("init"), assets.get("init")):
            raise CheckpointError(f"{out}: {difference}; take another --out, or --allow-recipe-change")
    write_text(out / "recipe.yaml", recipe.to_yaml())
    atomic_write_json(path, assets)


def _write_end(out: Path, result: Mapping[str, Any], judged: Mapping[str, Judged], quiet: bool) -> None:
    """Predictions and the result of a finished run."""
    for name, value in judged.items():
        write_predictions(out / f"predictions_{name}.jsonl", value.predictions, value.scores)
        partial_path(out, name).unlink(missing_ok=True)
    # Last: its presence says that the run is finished.
    atomic_write_json(out / "result.json", result)
    _warn_of_overlap(result, quiet)


def _check_source(recipe: Recipe, features: FeatureSource) -> None:
    if recipe.features.source == "pictures" and not hasattr(bare(features), "pixels"):
        raise UsageError("features.source is pictures, and features were passed in: pass a PictureSource, or none")


def _check_splits(datasets: Mapping[str, Dataset]) -> None:
    for name in ("train", "val"):
        if name not in datasets:
            raise DataError(
                f"the data has no split '{name}' (it has {', '.join(datasets)}): training needs train and val"
            )


def _warn_of_overlap(result: Mapping[str, Any], quiet: bool) -> None:
    for split, shared in result["overlap_with_train"].items():
        if shared["records"] and not quiet:
            print(f"{split}: {shared['records']} of its records were also trained on", file=sys.stderr)
