"""From a declaration to a comparison: shifted corpora and lists of shots are made, and every cell becomes a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.compare.cell_plan import expanded
from clipvil.compare.plan import recipe_of
from clipvil.compare.suite import Suite, TaskEntry, slug
from clipvil.datasets.listed import FORMAT as LISTED
from clipvil.datasets.listed import write_lists
from clipvil.errors import UsageError
from clipvil.files import atomic_write_json
from clipvil.protocol import hypothesis_hard, prior_shift
from clipvil.protocol.declaration import Condition, Declaration, Method, ProtocolTask
from clipvil.protocol.methods import PROBE, PROBE_TRAINING
from clipvil.protocol.subsets import Subset, write_subset
from clipvil.training.inputs import load_datasets

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

SUBSETS, SHIFTS, TEACHERS = "subsets", "shifts", "teachers"


@dataclass(frozen=True)
class Place:
    """Which task, condition and method a cell is of."""

    task: str
    condition: str
    method: str


@dataclass(frozen=True)
class Corpus:
    """What a task is trained on and judged by, and the shots that were drawn from it, by condition."""

    data: Mapping[str, Any]
    """The data section, `{out}` in it."""
    shift: Mapping[str, Any]
    """What the shift maker says of its work; empty where nothing was made."""
    pictures: int
    """Of the training split."""
    subsets: Mapping[str, tuple[Subset, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scheme:
    """The comparison, what each of its tasks stands for (in order), and the corpora by task."""

    suite: Suite
    places: tuple[Place, ...]
    corpora: Mapping[str, Corpus]


def make_scheme(declaration: Declaration, out: Path) -> Scheme:
    """Make what the conditions need, in `shifts` and `subsets` of the folder, and lay out all cells.

    The same declaration on the same data gives the same files, byte for byte.
    Raises RecipeError, DataError, UsageError: a recipe, the data or a combination is wrong; nothing was trained yet.
    """
    base = _suite(declaration)
    corpora = {}
    index: dict[str, Any] = {}
    for task in declaration.tasks:
        corpora[task.title] = _corpus(task, declaration, base, out)
        index[task.title] = _listed(corpora[task.title])
    atomic_write_json(out / SUBSETS / "index.json", index)
    entries, places = [], []
    for task, condition, method in declaration.cells():
        entries.append(_entry(task, condition, method, declaration, corpora[task.title], out))
        places.append(Place(task.title, condition.title, method.name))
    if not entries:
        raise UsageError("the protocol has no cells: its tasks, conditions and methods exclude each other")
    return Scheme(base.model_copy(update={"tasks": tuple(entries)}), tuple(places), corpora)


def _suite(declaration: Declaration) -> Suite:
    """Everything that all cells share."""
    return Suite(
        name=declaration.name,
        title=declaration.title,
        encoders=(declaration.encoder,),
        data=declaration.data or None,
        seeds=declaration.seeds,
        overrides=declaration.overrides,
        question_only=False,
        share_features=True,
    )


def _corpus(task: ProtocolTask, declaration: Declaration, base: Suite, out: Path) -> Corpus:
    recipe, where = recipe_of(_plain_entry(task), base)
    data = recipe.data
    if not data:
        raise UsageError(f"{where} names no data; give data.format and the rest in the task '{task.title}'")
    about: Mapping[str, Any] = {}
    if task.shift is not None:
        data, about = _shifted(task, data, out)
    train = _split(expanded(data, out), "train")
    pictures = len(train.pictures)
    draws = declaration.seeds if declaration.draw == "seed" else declaration.seeds[:1]
    subsets = {}
    for condition in declaration.conditions:
        count = condition.count(pictures)
        used = any((task, condition) == cell[:2] for cell in declaration.cells())
        if condition.pictures is not None and condition.pictures > pictures and used:
            raise UsageError(f"{condition.pictures} pictures: '{task.title}' has {pictures} to train on")
        if used and count < pictures:
            folder = out / SUBSETS / slug(task.title)
            subsets[condition.title] = tuple(
                write_subset(folder / f"draw-{draw}-{count}.json", train.records, count, draw) for draw in draws
            )
    return Corpus(data, about, pictures, subsets)


def _plain_entry(task: ProtocolTask) -> TaskEntry:
    data = [f"data.{key}={json.dumps(value)}" for key, value in task.data.items()]
    if "format" in task.data:
        data = [f"data={json.dumps(task.data)}"]
    return TaskEntry(recipe=task.recipe, label=task.title, overrides=(*data, *task.overrides))


def _shifted(task: ProtocolTask, data: Mapping[str, Any], out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data section with the shifted split in it, and what was made."""
    place = f"{SHIFTS}/{slug(task.title)}.json"
    inner = expanded(dict(data), out)
    if task.shift == "prior":
        splits = {name: _split(inner, name).records for name in ("train", "val")}
        lists, about = prior_shift.shift_priors(splits)
        digest = write_lists(out / place, lists, keeps=False, about=about)
    else:
        test = task.ordinary or "test"
        hard, about = hypothesis_hard.hard_pairs(_split(inner, "train").records, _split(inner, test).records)
        digest = write_lists(out / place, {hypothesis_hard.SPLIT: {test: hard}}, keeps=True, about=about)
    return {"format": LISTED, "lists": f"{{out}}/{place}", "sha256": digest, "of": dict(data)}, about


def _split(data: Mapping[str, Any], name: str) -> Dataset:
    return load_datasets(data, (name,))[name]


def _entry(
    task: ProtocolTask, condition: Condition, method: Method, declaration: Declaration, corpus: Corpus, out: Path
) -> TaskEntry:
    changes = [*task.overrides, f"data={json.dumps(dict(corpus.data))}", *condition.overrides]
    changes += condition.task_overrides.get(task.title, ())
    if method.kind == PROBE:
        changes += _probe(task, declaration)
    if method.distils:
        changes += [f"distillation.cache={out / TEACHERS}"]
        changes += [f"distillation.{key}={json.dumps(value)}" for key, value in declaration.distillation.items()]
    changes += method.changes()
    subsets = corpus.subsets.get(condition.title, ())
    own = {seed: subsets[min(place, len(subsets) - 1)] for place, seed in enumerate(declaration.seeds) if subsets}
    return TaskEntry(
        recipe=task.recipe,
        label=f"{task.title} / {condition.title} / {method.name}",
        overrides=tuple(changes),
        seed_overrides={seed: (_subset_override(subset),) for seed, subset in own.items()},
        question_only=False,
    )


def _subset_override(subset: Subset) -> str:
    return f"training.subset={json.dumps({'file': subset.file, 'sha256': subset.sha256})}"


def _probe(task: ProtocolTask, declaration: Declaration) -> list[str]:
    """The task done by a linear probe on the first teacher."""
    recipe, _ = recipe_of(_plain_entry(task), _suite(declaration))
    teachers = declaration.distillation.get("teachers") or [{}]
    settings = {"of": recipe.task, "settings": recipe.task_settings, "resize": recipe.encoder.resize}
    if teachers[0].get("encoder"):
        settings["teacher"] = teachers[0]["encoder"]
    nothing = ["init.recipe=null", "init.overrides=[]", "model={}"]
    return [*nothing, "task=teacher_probe", f"task_settings={json.dumps(settings)}", *PROBE_TRAINING]


def _listed(corpus: Corpus) -> dict[str, Any]:
    """What index.json says of a task's shots."""
    return {
        "pictures": corpus.pictures,
        "subsets": {name: [one.to_json() for one in subsets] for name, subsets in corpus.subsets.items()},
    }
