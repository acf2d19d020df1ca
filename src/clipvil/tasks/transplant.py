"""Starting a CLIP-ViL_p from a run of another task: the body whole, the answer head by what its answers say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clipvil.errors import CheckpointError, ClipvilError, RecipeError
from clipvil.models.answer_transplant import plan_transplant, transplant_head
from clipvil.models.clip_vil_p import ClipVilPModel
from clipvil.models.clip_vil_p_config import ClipVilPConfig, configure_clip_vil_p
from clipvil.tasks.base import InitialRun
from clipvil.text.answers import AnswerVocabulary
from clipvil.text.vocabulary import Vocabulary
from clipvil.text.wordpiece import WordPiece

TRUNK, HEAD = "trunk.", "head."
"""Beginnings of names in a model that is trained with its encoder: see `clipvil.models.picture_model`."""
SHOWN = 20
"""Answers that were not there, as many as result.json names."""
_MUST_AGREE = ("behaviour", "pooler_tanh", "heads", "normalise")
"""What weights of the same shapes mean something else by."""


def initial_words(initial: InitialRun) -> WordPiece:
    """The word pieces of a run. Raises CheckpointError where it read no word pieces."""
    try:
        return WordPiece.from_json(initial.assets.get("words"))
    except ClipvilError as error:
        raise CheckpointError(
            f"init: the run of the task {initial.task} has no word pieces, which clip_vil_p reads ({error})"
        ) from None


def check_words(initial: InitialRun, words: str | None, bert: str | None, kept: Vocabulary | WordPiece | None) -> None:
    """See that `task_settings.words` and `.bert` ask for nothing else than the run that is gone on with has.

    `kept` are its words. Raises RecipeError, or DataError where `words` cannot be read.
    """
    # Rows are compared alone: converted checkpoints also know special pieces where they are typed.
    if words and kept is not None and _rows(type(kept).load(words)) != _rows(kept):
        raise other_setting("words", words, "the words of the run")
    if bert and bert != initial.recipe.get("task_settings", {}).get("bert"):
        raise other_setting("bert", bert, "the weights of the run")


def _rows(words: Vocabulary | WordPiece) -> list[str]:
    return list(words.pieces if isinstance(words, WordPiece) else words.words)


def other_setting(name: str, given: str, kept: str) -> RecipeError:
    """What refuses a setting that a run which starts from another one cannot follow."""
    return RecipeError(f"'task_settings.{name}': {given} differs from what init goes on with, {kept}; leave it out")


def initial_tensors(initial: InitialRun) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a run without its encoder, and those of the encoder, where it was trained along, by bare names.

    Raises CheckpointError for a damaged file.
    """
    try:
        tensors = load_file(initial.weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{initial.weights}: not a whole safetensors file ({error})") from None
    trunk = {name[len(TRUNK) :]: value for name, value in tensors.items() if name.startswith(TRUNK)}
    rest = {name: value for name, value in tensors.items() if not name.startswith(TRUNK)}
    inside = all(name.startswith(HEAD) for name in rest)
    return {name[len(HEAD) :] if inside else name: value for name, value in rest.items()}, trunk


def adopt_model(
    model: ClipVilPModel,
    initial: InitialRun,
    *,
    heads: Collection[str] = (),
    answers: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Put the body of another run into a model, all of it or an error, and of its heads those named that are there.

    `answers` are the classes of this model's answer head as the task writes them: rows of the same answers are taken
    over, the others begin at zero. The report says what was taken, what begins fresh and what was left behind.
    Raises CheckpointError for a run of another model, of other sizes or of another behaviour.
    """
    there, _ = initial_tensors(initial)
    _check_config(model.config, initial)
    taken: dict[str, Tensor] = {name: value for name, value in there.items() if name.startswith("body.")}
    if not taken:
        raise CheckpointError(f"init: the run of the task {initial.task} is of another model than clip_vil_p")
    report: dict[str, Any] = {"taken": ["body"]}
    for head in heads:
        own = {name: value for name, value in there.items() if name.startswith(f"heads.{head}.")}
        if own:
            taken |= own
            report["taken"].append(head)
    if answers is not None and (old := _answers_of(initial)) is not None:
        rows, told = _answer_head(there, old, answers)
        taken |= rows
        report["taken"].append("answers")
        report["answers"] = told
    _load(model, taken, initial)
    kept = {name.split(".")[1] for name in taken if name.startswith("heads.")}
    report["fresh"] = sorted(set(model.heads) - kept)
    report["left_behind"] = sorted({name.split(".")[1] for name in there if name.startswith("heads.")} - kept)
    report["tensors"] = len(taken)
    return report


def _load(model: ClipVilPModel, taken: Mapping[str, Tensor], initial: InitialRun) -> None:
    """Put tensors into a model: every one must fit, and every tensor of the body must be there."""
    own = model.state_dict()
    for name, value in taken.items():
        if name not in own:
            raise CheckpointError(f"init: the run of the task {initial.task} has '{name}', which this model has not")
        if own[name].shape != value.shape:
            raise CheckpointError(
                f"init: '{name}' of the run of the task {initial.task} is {tuple(value.shape)}, here "
                f"{tuple(own[name].shape)}: take the same model section"
            )
    missing = next((name for name in own if name.startswith("body.") and name not in taken), None)
    if missing is not None:
        raise CheckpointError(f"init: the run of the task {initial.task} lacks '{missing}'")
    model.load_state_dict({**own, **taken})


def _answers_of(initial: InitialRun) -> list[str] | None:
    """The answers of a run's head in the order of its classes; None for a run without one."""
    value = initial.assets.get("answers")
    if value is None:
        return None
    if isinstance(value, list):
        return [str(item["ans"]) for item in value]
    vocabulary = AnswerVocabulary.from_json(value)
    return list(vocabulary.answers)


def _answer_head(
    there: Mapping[str, Tensor], old: Sequence[str], new: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    prefix = "heads.answers."
    head = {name[len(prefix) :]: value for name, value in there.items() if name.startswith(prefix)}
    if not head:
        raise CheckpointError("init: the run has an answer table and no answer head; its files do not fit together")
    plan = plan_transplant(old, new)
    if len(old) != len(head["out.bias"]):
        raise CheckpointError(f"init: {len(old)} answers and an answer head of {len(head['out.bias'])} rows")
    told = {"found": plan.found, "of": len(new), "missing": list(plan.missing[:SHOWN])}
    return {prefix + name: value for name, value in transplant_head(head, plan).items()}, told


def _check_config(mine: ClipVilPConfig, initial: InitialRun) -> None:
    theirs = configure_clip_vil_p(dict(initial.recipe.get("model", {})))
    get: Callable[[ClipVilPConfig, str], Any] = getattr
    for name in _MUST_AGREE:
        if get(mine, name) != get(theirs, name):
            raise CheckpointError(
                f"init: the run of the task {initial.task} has {name} {get(theirs, name)}, this model "
                f"{get(mine, name)}: the weights would mean something else"
            )
