"""Runs that start from another run: what they start from, found, checked and taken over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, RecipeError
from clipvil.models.configured import configured
from clipvil.tasks.base import InitialRun, Task, trains
from clipvil.training.checkpoint import OPTIMISER, WEIGHTS, Checkpoints, load_optimisers, load_weights, sha256
from clipvil.training.inputs import other_encoder
from clipvil.training.recipe import InitChoice, Recipe
from clipvil.training.run_files import BEST, read_json, read_recipe

FOLDER = "initial"
"""Where a run trains what it starts from."""
_KEPT_FROM_OUTSIDE = ("encoder", "features", "seed")
_SHAPELESS = {"padded_side"}
"""Whole numbers of a model that shape none of its weights."""


@dataclass(frozen=True)
class Initial:
    """A run to start from, ready to be taken over."""

    run: InitialRun
    recipe: Recipe
    encoder: EncoderSpec
    optimiser: Path | None
    origin: Mapping[str, Any]
    """What the run that starts here says of its beginning: checksums, never paths."""
    training_seconds: float = field(default=0.0, compare=False)
    """What its training took, and that of all that it started from itself."""

    def adopt(self, task: Task, model: nn.Module) -> dict[str, Any]:
        """Put its weights into a fresh model of `task`; returns what was taken over, as JSON values.

        Raises:
            CheckpointError: the weights do not fit, or the run is of another task that this one takes nothing from.
        """
        own = getattr(task, "adopt", None)
        if self.run.task == task.name and not getattr(task, "adopts_itself", False):
            load_weights(self.run.weights, model)
            return {"taken": "everything"}
        if own is None:
            raise CheckpointError(_other_task(self.run.task, task.name))
        return dict(own(model, self.run))

    def adopt_optimiser(self, model: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> None:
        """Put the state of its optimisers into fresh ones, where the recipe asks for that."""
        if self.optimiser is not None:
            load_optimisers(self.optimiser, model, optimisers)


def initial_recipe(recipe: Recipe) -> Recipe | None:
    """What `init.recipe` comes to: trained on encoder, features and seed of the recipe that starts from it.

    Of the same task it is trained on the same data, of another one on what its own recipe names. None where there is
    nothing to train first. The recipe that it starts from itself, if any, is looked at as well.

    Raises:
        RecipeError: no such recipe, a wrong one, or one that in the end starts from itself.
    """
    return _next(recipe, ())


def check(recipe: Recipe, task: Task) -> None:
    """Refuse what cannot start from another run, before anything is computed. Raises RecipeError."""
    if not recipe.init.asked:
        return
    if not trains(task):
        raise RecipeError(f"init: the task {task.name} trains nothing, so there is nothing to start from another run")
    before = initial_recipe(recipe)
    if before is not None:
        if before.task != task.name and getattr(task, "adopt", None) is None:
            raise RecipeError(f"init.recipe {recipe.init.recipe}: {_other_task(before.task, task.name)}")
        _check_optimiser(recipe, before, f"init.recipe {recipe.init.recipe}")
        if before.task == task.name:
            _check_sizes(recipe, before, f"init.recipe {recipe.init.recipe}")


def open_initial(recipe: Recipe, run: str | Path, task: Task, here: EncoderSpec) -> Initial:
    """The finished run `run`, from which `recipe` starts on features of the encoder `here`.

    Raises:
        CheckpointError: it is not there, not finished or damaged, its checkpoints are needed and gone, or it was
            trained on the features of another encoder or for another task.
        RecipeError: its optimiser's state is asked for and it used another optimiser.
    """
    run, choice = Path(run), recipe.init
    where = f"init.run {run}"
    _check_finished(run, where)
    before, assets, result = read_recipe(run), read_json(run / "assets.json"), read_json(run / "result.json")
    encoder = EncoderSpec(**assets["encoder"])
    if before.task != task.name and getattr(task, "adopt", None) is None:
        raise CheckpointError(f"{where}: {_other_task(before.task, task.name)}")
    problem = other_encoder(encoder, here.fingerprint, here.grid_channels) or _trained_along(before, recipe)
    if problem:
        raise CheckpointError(f"{where}: {problem}")
    _check_optimiser(recipe, before, where)
    weights, optimiser, step = _files(run, choice, result, where)
    origin: dict[str, Any] = {
        "task": before.task,
        "recipe_hash": before.hash(),
        "weights": choice.weights,
        "step": step,
    }
    origin |= {"sha256": sha256(weights), "data": dict(assets.get("data", {}))}
    if optimiser is not None:
        origin["optimiser_sha256"] = sha256(optimiser)
    if "init" in assets:
        origin["init"] = assets["init"]
    seconds = result.get("seconds", {}).get("training", 0.0) + result.get("init", {}).get("training_seconds", 0.0)
    known = InitialRun(before.task, assets["task"], before.to_values(), weights)
    return Initial(known, before, encoder, optimiser, origin, seconds)


def content(run: str | Path, choice: InitChoice) -> dict[str, str]:
    """The checksums of what a run that starts from `run` takes over: `sha256` of the weights and, where its state is

    asked for, `optimiser_sha256`; as they stand in `Initial.origin`.

    Raises:
        CheckpointError: the run is not there, not finished or damaged, or its checkpoints are needed and gone.
    """
    run = Path(run)
    where = f"init.run {run}"
    _check_finished(run, where)
    weights, optimiser, _ = _files(run, choice, read_json(run / "result.json"), where)
    found = {"sha256": sha256(weights)}
    return found if optimiser is None else {**found, "optimiser_sha256": sha256(optimiser)}


def changed(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """How what a run began from differs from what it would go on with; empty where it does not."""
    if before == now:
        return ""
    if before is None or now is None:
        return f"it began from {'another run' if before else 'fresh weights'}, not {'another run' if now else 'so'}"
    for key in ("task", "weights", "sha256", "optimiser_sha256"):
        if before.get(key) != now.get(key):
            return f"{key} of what it began from: {_short(before.get(key))} -> {_short(now.get(key))}"
    return "what it began from was trained by another recipe or on other data"


def _next(recipe: Recipe, seen: tuple[str, ...]) -> Recipe | None:
    name = recipe.init.recipe
    if name is None or recipe.init.run is not None:
        return None
    key = _identity(name)
    if key in seen:
        raise RecipeError(f"init.recipe: {name} starts from itself ({' <- '.join([*seen[seen.index(key) :], key])})")
    values = Recipe.from_file(name, recipe.init.overrides)
    kept = {section: getattr(recipe, section) for section in _KEPT_FROM_OUTSIDE}
    if values.task == recipe.task or not values.data:
        kept["data"] = recipe.data
    found = values.model_copy(update=kept)
    _next(found, (*seen, key))
    return found


def _identity(name: str) -> str:
    file = Path(name)
    return str(file.resolve()) if file.is_file() else name.removesuffix(".yaml")


def _check_finished(run: Path, where: str) -> None:
    if not run.is_dir():
        raise CheckpointError(f"{where}: no such folder")
    if not (run / "result.json").is_file():
        raise CheckpointError(f"{where}: not finished (result.json is missing); train it to its end first")


def _check_optimiser(recipe: Recipe, before: Recipe, where: str) -> None:
    if recipe.init.optimiser and before.optimiser.name != recipe.optimiser.name:
        raise RecipeError(
            f"{where}: trained with {before.optimiser.name}, whose state {recipe.optimiser.name} cannot take over; "
            "set init.optimiser=false or the same optimiser.name"
        )


def _check_sizes(recipe: Recipe, before: Recipe, where: str) -> None:
    """Refuse models whose weights cannot fit each other: better now than after the first of them was trained.

    Fractions (dropout, where logits start) shape no weights and may differ. What is left out of the section of a model
    from elsewhere is not known here.
    """
    mine, theirs = configured(recipe.model), configured(before.model)
    unsaid = {"word_size"} if "vectors" in recipe.task_settings or "vectors" in before.task_settings else set()
    for key in (key for key in mine if key in theirs and key not in _SHAPELESS | unsaid):
        sized = key == "name" or isinstance(mine[key], int)
        if sized and mine[key] != theirs[key]:
            raise RecipeError(
                f"{where}: its model.{key} is {theirs[key]}, here it is {mine[key]}, and the weights would not fit; "
                f'set both alike (init.overrides=["model.{key}={mine[key]}"] changes the recipe to start from)'
            )


def _files(
    run: Path, choice: InitChoice, result: Mapping[str, Any], where: str
) -> tuple[Path, Path | None, int | None]:
    """Weights, optimiser state where it is wanted, and the step they are of."""
    best = result.get("best", {}).get("step")
    if choice.weights == "best" and not choice.optimiser:
        if not (run / BEST).is_file():
            raise CheckpointError(f"{where}: {BEST} is missing")
        return run / BEST, None, best
    checkpoints = Checkpoints(run / "checkpoints")
    steps = checkpoints.steps()
    step = (steps[-1] if steps else None) if choice.weights == "last" else best
    if step not in steps:
        reasons = [("init.weights=last", choice.weights == "last"), ("init.optimiser=true", choice.optimiser)]
        asked = [reason for reason, holds in reasons if holds]
        raise CheckpointError(
            f"{where}: its checkpoints are gone, and {' and '.join(asked)} need{'s' if len(asked) == 1 else ''} them; "
            "train it again, or take init.weights=best without init.optimiser"
        )
    checkpoints.check(step)
    folder = checkpoints.path(step)
    return folder / WEIGHTS, folder / OPTIMISER if choice.optimiser else None, step


def _other_task(theirs: str, mine: str) -> str:
    return f"a run of the task {theirs}, from which the task {mine} takes nothing over"


def _trained_along(before: Recipe, recipe: Recipe) -> str:
    """Why features from a store would be no use: the run's weights go with an encoder that was trained with them."""
    if recipe.features.source == "store" and before.features.source == "pictures" and before.trunk.trained:
        return "trained its encoder along; set features.source=pictures, so that this run takes that encoder over"
    return ""


def _short(value: Any) -> str:
    return "nothing" if value is None else str(value)[:16]
