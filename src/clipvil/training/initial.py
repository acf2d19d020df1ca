"""Runs that start from another run: what they start from, found, checked and taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, RecipeError
from clipvil.tasks.base import InitialRun, Task, trains
from clipvil.training.checkpoint import OPTIMISER, WEIGHTS, Checkpoints, load_optimiser, load_weights, sha256
from clipvil.training.inputs import other_encoder
from clipvil.training.recipe import InitChoice, Recipe
from clipvil.training.run_files import BEST, read_json, read_recipe

FOLDER = "initial"
"""Where a run trains what it starts from."""
_KEPT_FROM_OUTSIDE = ("data", "encoder", "features", "seed")


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
        if self.run.task == task.name:
            load_weights(self.run.weights, model)
            return {"taken": "everything"}
        own = getattr(task, "adopt", None)
        if own is None:
            raise CheckpointError(_other_task(self.run.task, task.name))
        return dict(own(model, self.run))

    def adopt_optimiser(self, model: nn.Module, optimiser: Any) -> None:
        """Put the state of its optimiser into a fresh one, where the recipe asks for that."""
        if self.optimiser is not None:
            load_optimiser(self.optimiser, model, optimiser)


def initial_recipe(recipe: Recipe) -> Recipe | None:
    """What `init.recipe` comes to: trained on the data, encoder, features and seed of the recipe that starts from it.

    None where there is nothing to train first. The recipe that it starts from itself, if any, is looked at as well.

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


def open_initial(recipe: Recipe, run: str | Path, task: Task, here: EncoderSpec) -> Initial:
    """The finished run `run`, from which `recipe` starts on features of the encoder `here`.

    Raises:
        CheckpointError: it is not there, not finished or damaged, its checkpoints are needed and gone, or it was
            trained on the features of another encoder or for another task.
        RecipeError: its optimiser's state is asked for and it used another optimiser.
    """
    run, choice = Path(run), recipe.init
    where = f"init.run {run}"
    if not run.is_dir():
        raise CheckpointError(f"{where}: no such folder")
    if not (run / "result.json").is_file():
        raise CheckpointError(f"{where}: not finished (result.json is missing); train it to its end first")
    before, assets, result = read_recipe(run), read_json(run / "assets.json"), read_json(run / "result.json")
    encoder = EncoderSpec(**assets["encoder"])
    if before.task == task.name:
        problem = other_encoder(encoder, here.fingerprint, here.grid_channels)
        if problem:
            raise CheckpointError(f"{where}: {problem}")
    elif getattr(task, "adopt", None) is None:
        raise CheckpointError(f"{where}: {_other_task(before.task, task.name)}")
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
    found = values.model_copy(update=kept)
    _next(found, (*seen, key))
    return found


def _identity(name: str) -> str:
    file = Path(name)
    return str(file.resolve()) if file.is_file() else name.removesuffix(".yaml")


def _check_optimiser(recipe: Recipe, before: Recipe, where: str) -> None:
    if recipe.init.optimiser and before.optimiser.name != recipe.optimiser.name:
        raise RecipeError(
            f"{where}: trained with {before.optimiser.name}, whose state {recipe.optimiser.name} cannot take over; "
            "set init.optimiser=false or the same optimiser.name"
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
        asked = "weights=last" if choice.weights == "last" else "optimiser"
        asked = "weights=last" if choice.weights == "last" else "optimiser"
        raise CheckpointError(
            f"{where}: its checkpoints are gone, and init.{asked} needs them; train it again, or take "
            "init.weights=best without init.optimiser"
        )
    checkpoints.check(step)
    folder = checkpoints.path(step)
    return folder / WEIGHTS, folder / OPTIMISER if choice.optimiser else None, step


def _other_task(theirs: str, mine: str) -> str:
    return f"a run of the task {theirs}, from which the task {mine} takes nothing over"


def _short(value: Any) -> str:
    return "nothing" if value is None else str(value)[:16]
