"""`convert`: a released checkpoint becomes a folder that is used like a run that was trained here.

conversion.json     every key of the checkpoint: used, dropped (and why), missing, misshapen, unknown
recipe.yaml         the recipe given, its model section replaced by what the checkpoint is
best.safetensors    the weights under our names, float32
assets.json         the vocabularies; absent until all were given
result.json         as of a run, without scores; its encoder has no fingerprint, for the checkpoint tells none
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from clipvil.convert.base import Conversion, Release, loaded, translate
from clipvil.convert.checkpoint_file import CheckpointFile, read_checkpoint
from clipvil.convert.registry import source
from clipvil.encoders.base import EncoderSpec
from clipvil.environment import package_versions
from clipvil.errors import CheckpointError, UsageError
from clipvil.files import atomic_write_json
from clipvil.training.checkpoint import save_weights
from clipvil.training.recipe import Recipe
from clipvil.training.result import SCHEMA
from clipvil.training.run_files import write_text

REPORT = "conversion.json"


def convert(
    file: str | Path,
    name: str,
    out: str | Path,
    *,
    recipe: Recipe,
    words: str | Path | None = None,
    answers: str | Path | None = None,
) -> Conversion:
    """Translate a checkpoint and write the folder; returns the account of its keys.

    `name` is the source, `recipe` says encoder, resize policy and data, and in its `model` section what no shape tells
    (heads, padding). `words` and `answers` are the vocabularies that the source's own release has (see its `assets`);
    without them the folder holds the weights but cannot be asked.

    Raises:
        UsageError: an unknown source, a recipe of another task, or `out` already holds a run.
        CheckpointError: the file cannot be read, or a key is missing, misshapen or unknown (conversion.json in `out`
            then lists all of them, and nothing else is written).
        DataError: a vocabulary that cannot be read or has not as many rows as the weights.
    """
    kind, out = source(name), Path(out)
    own = getattr(kind, "convert", None)
    if own is not None:  # a source whose checkpoints hold more than a model over features
        return cast(Conversion, own(file, name, out, recipe=recipe, words=words, answers=answers))
    if recipe.task != kind.TASK:
        raise UsageError(f"{name} is for the task {kind.TASK}, the recipe for the task {recipe.task}")
    if (out / "recipe.yaml").exists():
        raise UsageError(f"{out}: holds a run already; choose another --out")
    read = read_checkpoint(file)
    try:
        found = translate(kind, read.tensors, _untold(recipe, kind.MODEL))
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    assets = kind.assets(found.sizes, words, answers)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / REPORT, _report(file, name, kind, read, found))
    if not found.complete:
        raise CheckpointError(
            f"{file}: does not fit the {kind.TITLE}: {found.problem()} ({found.counts()}); all keys are in "
            f"{out / REPORT}"
        )
    model = loaded(kind, found)
    recipe = recipe.model_copy(update={"model": found.settings})
    save_weights(out / "best.safetensors", model)
    # What a speaker's shapes tell are features and angles together.
    views = getattr(kind, "views", None)
    spec = EncoderSpec(recipe.encoder.name, "", found.sizes.channels if views is None else views(found))
    if assets is not None:
        atomic_write_json(out / "assets.json", {"task": assets, "encoder": asdict(spec), "data": {}})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    atomic_write_json(out / "result.json", result_of(recipe, spec, parameters))
    # Last: from here on the folder is a run.
    write_text(out / "recipe.yaml", recipe.to_yaml())
    return found


def _untold(recipe: Recipe, model: str) -> dict[str, Any]:
    """The recipe's own model section where it is of the same model: heads, padding, dropout come from there."""
    settings = dict(recipe.model)
    return settings if settings.pop("name", model) == model else {}


def _report(file: str | Path, name: str, kind: Release, read: CheckpointFile, found: Conversion) -> dict[str, Any]:
    return {
        "source": name,
        "vocabularies": kind.VOCABULARIES,
        "file": Path(file).name,
        "wrapper": read.wrapper,
        "beside the state dict, dropped": list(read.beside),
        "prefix": read.prefix,
        **found.to_json(),
    }


def result_of(recipe: Recipe, spec: EncoderSpec, parameters: int) -> dict[str, Any]:
    """What a run's result.json says, as far as it is known: nothing was trained or judged here."""
    return {
        "schema": SCHEMA,
        "task": recipe.task,
        "converted": True,
        "scores": {},
        "unscored": [],
        "best": {"step": 0, "value": None, "split": "val"},
        "stopped": {"step": 0, "reason": "converted"},
        "learning_curve": [],
        "encoder": {**recipe.encoder.model_dump(mode="json"), **asdict(spec)},
        "features": None,
        "data": {},
        "overlap_with_train": {},
        "parameters": parameters,
        "recipe": recipe.to_values(),
        "recipe_hash": recipe.hash(),
        "packages": package_versions(),
        "seconds": {"training": 0.0, "evaluation": 0.0, "total": 0.0},
    }
