"""`convert --from clip-vil-p`: the folder of a released CLIP-ViL_p, and reading it back whatever its task.

conversion.json     every key of the checkpoint: used, dropped (and why), missing, misshapen, unknown
encoder/            the ResNet that was trained with it, in open_clip's format
recipe.yaml, best.safetensors, assets.json, result.json    as of a run (see `clipvil.convert.folder`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from clipvil.convert.base import Conversion, loaded, translate
from clipvil.convert.checkpoint_file import CheckpointFile, read_checkpoint
from clipvil.convert.clip_vil_p import DECODER, VISUAL, ClipVilPSource, layout
from clipvil.convert.clip_vil_p_encoder import take_encoder, write_encoder
from clipvil.encoders.base import Encoder, EncoderSpec
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.files import atomic_write, atomic_write_json
from clipvil.models.clip_vil_p import ClipVilPModel, build
from clipvil.tasks.registry import create_task
from clipvil.text.answer_table import AnswerTable
from clipvil.text.answers import UNKNOWN_ANSWER, AnswerVocabulary
from clipvil.text.wordpiece import MAX_TOKENS, WordPiece
from clipvil.training.checkpoint import load_weights, model_tensors
from clipvil.training.recipe import Recipe
from clipvil.training.run_files import read_json, read_recipe, write_text

RESIZE = "clipvil-pretrain"
PRETRAINING = "pretraining"
"""The task whose run such a folder is, for others to start from."""
TASKS = (PRETRAINING, "vqa")
"""Those whose run a released checkpoint can be: it has their heads."""


@dataclass
class Released:
    """A released checkpoint, translated: the account of its keys, the model without its encoder, and the encoder."""

    found: Conversion
    kind: ClipVilPSource
    encoder: dict[str, Tensor]
    sizes: Any

    def model(self) -> ClipVilPModel:
        """The model with the translated weights. Raises CheckpointError for a conversion that is not complete."""
        model = loaded(self.kind, self.found)
        assert isinstance(model, ClipVilPModel)
        return model


def take(state: Mapping[str, Tensor], options: Mapping[str, Any] | None = None, *, answer: bool = False) -> Released:
    """Translate a plain state dict (no leading `module.`); `options` say what no shape tells, as heads=4.

    `answer` leaves the heads of pre-training behind. Raises CheckpointError for one of another model, or without the
    answer head that is asked for; what does not fit is in the account.
    """
    try:
        kind = layout(state)
    except KeyError as error:
        raise CheckpointError(f"not a {ClipVilPSource.TITLE}: it has no {error}") from None
    if answer and "answers" not in kind.heads:
        raise CheckpointError("has no answer head (pre-training of stage one), and the task vqa needs one")
    if answer:
        kind = replace(kind, heads=("answers",))
    prefix = kind.body + VISUAL
    visual = {key[len(prefix) :]: tensor for key, tensor in state.items() if key.startswith(prefix)}
    rest = {key: tensor for key, tensor in state.items() if not key.startswith(prefix)}
    found = translate(kind, rest, options)
    sizes, encoder = take_encoder(visual, prefix, found)
    table = state[kind.source_name("body.text.words.weight")]
    if DECODER in state and not torch.equal(state[DECODER], table):
        found.dropped.pop(DECODER, None)
        found.misshapen[DECODER] = "differs from the word table, of which it should be a second name"
    channels = 32 * sizes.width
    if channels != found.sizes.channels:
        key = kind.source_name("body.grid.project.weight")
        found.used.pop(key, None)
        found.misshapen[key] = f"reads cells of {found.sizes.channels} channels, the encoder's have {channels}"
    return Released(found, kind, encoder, sizes)


def convert(
    file: str | Path,
    name: str,
    out: str | Path,
    *,
    recipe: Recipe,
    words: str | Path | None = None,
    answers: str | Path | None = None,
) -> Conversion:
    """Translate a checkpoint and write the folder; returns the account of its keys. See `clipvil.convert.folder`.

    `recipe` says task and data; its encoder becomes the one of the checkpoint, its resize policy clipvil-pretrain
    unless it names that policy with other limits, and its features.source store, for the encoder lies in a folder of
    its own and not among the weights. `words` is what `WordPiece.load` takes; `answers` a JSON list of
    strings (trainval_label2ans.json) or of objects with `ans` (all_ans.json), or a text file with one answer a line, in
    the order of the rows. Raises as `clipvil.convert.folder.convert`, and RecipeError for wrong settings of the task.
    """
    out = Path(out)
    if recipe.task not in TASKS:
        raise UsageError(
            f"clip-vil-p is for the tasks {' and '.join(TASKS)}, the recipe for the task {recipe.task}; convert with a "
            f"recipe of {PRETRAINING} and name the folder as its init.run"
        )
    if (out / "recipe.yaml").exists():
        raise UsageError(f"{out}: holds a run already; choose another --out")
    read = read_checkpoint(file)
    options = dict(recipe.model)
    if options.pop("name", ClipVilPSource.MODEL) != ClipVilPSource.MODEL:
        options = {}
    try:
        released = take(read.tensors, options, answer=recipe.task == "vqa")
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    found = released.found
    if recipe.task == PRETRAINING and released.kind.heads == ("answers",):
        raise CheckpointError(
            f"{file}: is fine-tuned, without the heads of pre-training; take a recipe of the task vqa"
        )
    recipe = _settled(recipe, released)
    create_task(recipe.task, recipe.task_settings)  # settings that could not be opened are refused here
    task = _vocabularies(released, words, answers, recipe.task)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / "conversion.json", _report(file, name, read, released))
    if not found.complete:
        raise CheckpointError(
            f"{file}: does not fit the {released.kind.TITLE}: {found.problem()} ({found.counts()}); all keys are in "
            f"{out / 'conversion.json'}"
        )
    _write(out, recipe, released, task)
    return found


def _settled(recipe: Recipe, released: Released) -> Recipe:
    """The recipe as the checkpoint has it, all but the encoder's name: that is known when the encoder is written."""
    resize = recipe.encoder.resize if recipe.encoder.resize.startswith(RESIZE) else RESIZE
    settings = {**recipe.task_settings, "max_tokens": MAX_TOKENS}
    if recipe.task == PRETRAINING:
        there = {"mlm": "mlm", "itm": "itm", "answers": "qa"}
        settings["objectives"] = [there[head] for head in released.kind.heads]
        if "qa" not in settings["objectives"]:
            settings.pop("qa_from_epoch", None)
    else:
        settings["tokenizer"] = "wordpiece"
    return recipe.model_copy(
        update={
            "model": released.found.settings,
            "encoder": recipe.encoder.model_copy(update={"layer": None, "resize": resize}),
            "features": recipe.features.model_copy(update={"source": "store"}),
            "task_settings": settings,
        }
    )


def _write(out: Path, recipe: Recipe, released: Released, task: dict[str, Any] | None) -> None:
    from clipvil.convert.folder import result_of

    found, model = released.found, released.model()
    encoder = write_encoder(out / "encoder", released.sizes, released.encoder)
    recipe = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"name": encoder})})
    tensors = model_tensors(model)
    if recipe.task == "vqa" and task is not None and len(task["answers"]["answers"]) == found.sizes.answers:
        # The table has no row for answers outside it, and class 0 is that of the task: one that is never predicted.
        for leaf in ("weight", "bias"):
            row = tensors[f"heads.answers.out.{leaf}"]
            tensors[f"heads.answers.out.{leaf}"] = torch.cat([torch.zeros_like(row[:1]), row])
    with atomic_write(out / "best.safetensors") as stream:
        stream.write(save(tensors))
    built = _encoder(encoder)
    spec = EncoderSpec(encoder, built.fingerprint(), found.sizes.channels, built.pooled_channels)
    if task is not None:
        atomic_write_json(out / "assets.json", {"task": task, "encoder": asdict(spec), "data": {}})
    parameters = sum(tensor.numel() for tensor in tensors.values())
    parameters += sum(tensor.numel() for name, tensor in released.encoder.items() if "attnpool" not in name)
    atomic_write_json(out / "result.json", result_of(recipe, spec, parameters))
    # Last: from here on the folder is a run.
    write_text(out / "recipe.yaml", recipe.to_yaml())


def load_clip_vil_p(folder: str | Path) -> tuple[ClipVilPModel, Encoder, WordPiece | None]:
    """Model in evaluation mode (cells in), its encoder, and the tokenizer where it was converted with one.

    Pixels in: `PictureModel(GridTrunk(encoder), model, encoder.preprocess)`. Raises CheckpointError for another or a
    broken folder.
    """
    folder = Path(folder)
    recipe = read_recipe(folder)
    if read_json(folder / "conversion.json").get("source") != "clip-vil-p":
        raise CheckpointError(f"{folder}: was not converted from clip-vil-p")
    weights = folder / "best.safetensors"
    try:
        with safe_open(weights, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
        heads = {name.split(".")[1] for name in shapes if name.startswith("heads.")}
        words, channels = shapes["body.text.words.weight"][0], shapes["body.grid.rows.weight"][1]
        answers = shapes["heads.answers.out.bias"][0] if "answers" in heads else 0
    except (SafetensorError, OSError, KeyError, IndexError) as error:
        raise CheckpointError(f"{weights}: not the weights of a CLIP-ViL_p ({error})") from None
    model = build(recipe.model, words=words, channels=channels, answers=answers, heads=heads)
    load_weights(weights, model)
    assets = folder / "assets.json"
    pieces = WordPiece.from_json(read_json(assets)["task"]["words"]) if assets.is_file() else None
    return model.eval(), _encoder(recipe.encoder.name), pieces


def _encoder(name: str) -> Encoder:
    from clipvil.encoders.registry import create_encoder

    return create_encoder(name)


def _report(file: str | Path, name: str, read: CheckpointFile, released: Released) -> dict[str, Any]:
    return {
        "source": name,
        "file": Path(file).name,
        "wrapper": read.wrapper,
        "beside the state dict, dropped": list(read.beside),
        "prefix": read.prefix,
        "layout": "fine-tuned" if released.kind.answer_head == "" else "pre-trained",
        "heads": list(released.kind.heads),
        "encoder": released.sizes.title,
        **released.found.to_json(),
    }


def _vocabularies(
    released: Released, words: str | Path | None, answers: str | Path | None, name: str
) -> dict[str, Any] | None:
    wanted = "answers" in released.kind.heads
    if words is None or (answers is None) == wanted:
        if words is None and answers is None:
            return None
        raise UsageError("give both --words and --answers, or neither" if wanted else "give --words alone, or neither")
    pieces = WordPiece.load(words)
    if len(pieces) != released.found.sizes.words:
        raise DataError(
            f"gives {len(pieces)} pieces, the checkpoint's word table has {released.found.sizes.words} rows",
            file=words,
            fix="give the vocabulary that the model was trained with",
        )
    classes = _answers(answers) if answers is not None else None
    if classes is not None and len(classes) != released.found.sizes.answers:
        raise DataError(
            f"gives {len(classes)} answers, the checkpoint has {released.found.sizes.answers}",
            file=answers,
            fix="give the answers file that the model was trained with",
        )
    task: dict[str, Any] = {"words": WordPiece(pieces.pieces, typed_specials=True).to_json()}
    if classes is not None and name == PRETRAINING:
        task["answers"] = AnswerTable(classes).to_json()
    elif classes is not None:
        first = classes[0] in ("", UNKNOWN_ANSWER)  # the published table of VQA v2 begins with the empty answer
        task["answers"] = AnswerVocabulary(classes[1:] if first else classes, exact=True).to_json()
    return task


def _answers(path: str | Path) -> list[str]:
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the answers ({error})", file=path) from None
    if isinstance(rows, list):
        rows = [row.get("ans") if isinstance(row, dict) else row for row in rows]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) for row in rows):
        raise DataError("must be a list of answers, or of objects with 'ans'", file=path)
    return rows
