"""`convert`: a released checkpoint becomes a folder that answers questions like a run that was trained here.

conversion.json     every key of the checkpoint: used, dropped (and why), missing, misshapen, unknown
recipe.yaml         the recipe given, its model section replaced by what the checkpoint is
best.safetensors    the weights under our names, float32
assets.json         the vocabularies; absent until both were given
result.json         as of a run, without scores; its encoder has no fingerprint, for the checkpoint tells none
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from clipvil.convert.base import Conversion, loaded, translate
from clipvil.convert.checkpoint_file import CheckpointFile, read_checkpoint
from clipvil.convert.registry import source
from clipvil.encoders.base import EncoderSpec
from clipvil.environment import package_versions
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.files import atomic_write_json
from clipvil.training.checkpoint import save_weights
from clipvil.training.recipe import Recipe
from clipvil.training.result import SCHEMA
from clipvil.training.run_files import write_text

if TYPE_CHECKING:
    from clipvil.text.answers import AnswerVocabulary
    from clipvil.text.vocabulary import Vocabulary

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
    (heads, padding). `words` and `answers` are MMF's text files, one word or answer a line; without both the folder
    holds the weights but cannot be asked.

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
    if recipe.task != "vqa":
        raise UsageError(f"{name} answers questions, the recipe is for the task {recipe.task}")
    if (out / "recipe.yaml").exists():
        raise UsageError(f"{out}: holds a run already; choose another --out")
    read = read_checkpoint(file)
    try:
        found = translate(kind, read.tensors, _untold(recipe, kind.MODEL))
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    tables = _vocabularies(found, words, answers)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / REPORT, _report(file, name, read, found))
    if not found.complete:
        raise CheckpointError(
            f"{file}: does not fit the {kind.TITLE}: {found.problem()} ({found.counts()}); all keys are in "
            f"{out / REPORT}"
        )
    model = loaded(kind, found)
    recipe = recipe.model_copy(update={"model": found.settings})
    save_weights(out / "best.safetensors", model)
    spec = EncoderSpec(recipe.encoder.name, "", found.sizes.channels)
    if tables is not None:
        task = {"words": tables[0].to_json(), "answers": tables[1].to_json()}
        atomic_write_json(out / "assets.json", {"task": task, "encoder": asdict(spec), "data": {}})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    atomic_write_json(out / "result.json", result_of(recipe, spec, parameters))
    # Last: from here on the folder is a run.
    write_text(out / "recipe.yaml", recipe.to_yaml())
    return found


def _untold(recipe: Recipe, model: str) -> dict[str, Any]:
    """The recipe's own model section where it is of the same model: heads, padding, dropout come from there."""
    settings = dict(recipe.model)
    return settings if settings.pop("name", model) == model else {}


def _vocabularies(
    found: Conversion, words: str | Path | None, answers: str | Path | None
) -> tuple[Vocabulary, AnswerVocabulary] | None:
    from clipvil.text.answers import UNKNOWN_ANSWER, AnswerVocabulary
    from clipvil.text.vocabulary import Vocabulary

    if words is None and answers is None:
        return None
    if words is None or answers is None:
        raise UsageError("give both --words and --answers, or neither")
    vocabulary, classes = Vocabulary.load(words), AnswerVocabulary.load(answers)
    if len(vocabulary) != found.sizes.words:
        raise DataError(
            f"gives {len(vocabulary)} rows with the four special ones, the checkpoint's word table has "
            f"{found.sizes.words}",
            file=words,
            fix="give the vocabulary that the model was trained with",
        )
    first = next(line.strip() for line in Path(answers).read_text(encoding="utf-8-sig").splitlines() if line.strip())
    if first != UNKNOWN_ANSWER or len(classes) != found.sizes.answers:
        raise DataError(
            f"gives {len(classes)} classes beginning with {first!r}; the checkpoint has {found.sizes.answers}, the "
            f"first of them {UNKNOWN_ANSWER}",
            file=answers,
            fix="give the answers file that the model was trained with",
        )
    return vocabulary, classes


def _report(file: str | Path, name: str, read: CheckpointFile, found: Conversion) -> dict[str, Any]:
    return {
        "source": name,
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
