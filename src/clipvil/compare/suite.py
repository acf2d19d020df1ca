"""What is to be compared: a suite, from a YAML file, from the package, or from the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from clipvil.compare.declared import Declared, Section, mapping, read_yaml_text
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.features.ready import ready_store

BLIND = "question-only"
_TABLES = (".csv", ".tsv", ".jsonl", ".json")


class EncoderEntry(Section):
    """One encoder of a suite; everything but the name may be left to the recipe.

    A name `store:PATH` takes features that are there already, whoever computed them; it has no options.
    """

    name: str
    label: str = ""
    """How tables call it; the name, and what differs from the recipe, when left out."""
    layer: str | None = None
    positions: Literal["resized", "zero"] | None = None
    channels: Literal["RGB", "BGR"] | None = None
    resize: str | None = None

    @model_validator(mode="after")
    def _store_as_it_is(self) -> EncoderEntry:
        if ready_store(self.name) is not None and self.choices():
            raise ValueError(f"{self.name} is a store: its features are there, {', '.join(self.choices())} is too late")
        return self

    @property
    def title(self) -> str:
        """The label, made from name and options where none was given."""
        if self.label:
            return self.label
        ready = ready_store(self.name)
        if ready is not None:
            return f"store:{ready.name}"
        options = [f"{key}={value}" for key, value in self.choices().items()]
        return self.name + (f" ({', '.join(options)})" if options else "")

    def choices(self) -> dict[str, str]:
        """The options that are set, by their names in a recipe's `encoder` section."""
        options = {"layer": self.layer, "positions": self.positions, "channels": self.channels, "resize": self.resize}
        return {key: value for key, value in options.items() if value is not None}


class TaskEntry(Section):
    """One task of a suite: a recipe (as `Suite.tasks` takes them), and what this task changes of it.

    So one recipe may stand in a suite several times: with few data and with all, with and without what it starts from.
    `question_only: false` leaves the task out of the row of what language alone gives. `seed_overrides` are changes of
    single seeds, on top of the others.
    """

    recipe: str
    label: str = ""
    """How tables call it; made of recipe and overrides when left out."""
    overrides: tuple[str, ...] = ()
    seed_overrides: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    question_only: bool = True
    minus: tuple[str, ...] | None = None
    """Labels of earlier tasks that this one is held against; all of the same records when left out."""

    @property
    def title(self) -> str:
        """The label, made from recipe and overrides where none was given."""
        return self.label or " ".join([self.recipe, *self.overrides])


class Suite(Declared):
    """Encoders x tasks x seeds, and the data they all share.

    `tasks` are recipes (a file, a packaged name, or a task's name, for which the recipe that fits the data is taken),
    or entries with a recipe and what is changed of it; `data` replaces the data section of every recipe, or, where it
    names no format, some entries of each; `{out}` in it stands for the folder of the comparison; `overrides` are
    `key=value` as on the command line; `reference` is the label that differences are taken against (the first encoder
    when left out); `question_only` adds the row of what language alone gives. With `share_features` a task whose
    pictures are all among another's, from the same place, is done on the features of that one.
    """

    KIND: ClassVar[str] = "suite"

    encoders: tuple[EncoderEntry, ...] = Field(min_length=1)
    tasks: tuple[TaskEntry, ...] = Field(default=(TaskEntry(recipe="vqa"),), min_length=1)
    data: dict[str, Any] | None = None
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    overrides: tuple[str, ...] = ()
    question_only: bool = True
    reference: str = ""
    share_features: bool = False

    @field_validator("encoders", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("tasks", mode="before")
    @classmethod
    def _recipes_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"recipe": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_of_seeds(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return list(range(value))
        return value

    @model_validator(mode="after")
    def _labels_unique(self) -> Suite:
        seeds = [str(seed) for seed in self.seeds]
        for what, names in (("encoder", self.labels()), ("task", [task.title for task in self.tasks]), ("seed", seeds)):
            double = next((name for name in names if names.count(name) > 1), None)
            if double is not None:
                raise ValueError(f"the {what} {double} comes twice; give each its own label")
        titles = [task.title for task in self.tasks]
        for place, task in enumerate(self.tasks):
            unknown = next((name for name in task.minus or () if name not in titles[:place]), None)
            if unknown is not None:
                raise ValueError(f"the task {task.title} is held against '{unknown}', which is no task before it")
        if self.reference and self.reference not in self.labels():
            raise ValueError(f"the reference '{self.reference}' is none of {', '.join(self.labels())}")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError("a seed is negative")
        return self

    def labels(self) -> list[str]:
        """Labels of all rows, the floor last."""
        blind = [BLIND] if self.question_only and all(entry.name != BLIND for entry in self.encoders) else []
        return [entry.title for entry in self.encoders] + blind

    def entries(self) -> list[EncoderEntry]:
        """All rows to run, the floor last."""
        added = len(self.labels()) > len(self.encoders)
        return [*self.encoders, *([EncoderEntry(name=BLIND)] if added else [])]

    def chosen_reference(self) -> str:
        """The label that differences are taken against."""
        return self.reference or self.encoders[0].title


def packaged_suites() -> list[str]:
    """Names of the suites that come with the library."""
    return Suite.packaged()


def read_data(path: str | Path) -> dict[str, Any]:
    """A recipe's data section from a file: YAML, or a table of questions, which is read as `format: custom`.

    Relative paths in the YAML count from its own folder, so that data and description can travel together.

    Raises:
        DataError: no such file, or no mapping with a `format`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", file=path, fix="--data takes a YAML file or a table of questions")
    if path.suffix.lower() in _TABLES:
        return {"format": "custom", "questions": path.name, "root": str(path.parent)}
    try:
        data = mapping(read_yaml_text(path), str(path))
    except RecipeError as error:
        raise DataError(str(error)) from None
    data = data.get("data", data) if isinstance(data.get("data"), dict) else data
    if "format" not in data:
        raise DataError("says no format", file=path, field="format", fix="write, for example, 'format: custom'")
    root = data.get("root")
    if root is not None or data["format"] in ("custom", "vqa_v2"):
        data["root"] = str(path.parent / str(root or ""))
    return data


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", label).strip("-.") or "encoder"


def unique_slugs(labels: Sequence[str]) -> dict[str, str]:
    """Label -> folder name, kept apart where two labels give the same."""
    out: dict[str, str] = {}
    for label in labels:
        name, number = slug(label), 2
        while name in out.values():
            name, number = f"{slug(label)}-{number}", number + 1
        out[label] = name
    return out


def merge(
    suite: str | Path | Suite | None,
    *,
    encoders: Sequence[str | Mapping[str, Any] | EncoderEntry] | None = None,
    tasks: Sequence[str] | None = None,
    data: Mapping[str, Any] | str | Path | None = None,
    seeds: int | Sequence[int] | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    question_only: bool | None = None,
) -> Suite:
    """A suite with some of its parts replaced; overrides are added to the suite's own.

    Raises:
        UsageError: neither a suite nor encoders were named, or `recipe` and `tasks` both.
    """
    if recipe is not None and tasks:
        raise UsageError("give tasks or one recipe, not both: a recipe names its task itself")
    values: dict[str, Any] = {}
    if suite is not None:
        values = (suite if isinstance(suite, Suite) else Suite.load(suite)).model_dump()
    elif not encoders:
        raise UsageError(f"name a suite ({', '.join(packaged_suites())}) or --encoders to compare")
    if encoders:
        values["encoders"] = [e.model_dump() if isinstance(e, EncoderEntry) else e for e in encoders]
        values["reference"] = ""
    if recipe is not None or tasks:
        values["tasks"] = [str(recipe)] if recipe is not None else list(tasks or ())
    if data is not None:
        values["data"] = dict(data) if isinstance(data, Mapping) else read_data(data)
    if seeds is not None:
        values["seeds"] = seeds if isinstance(seeds, int) else list(seeds)
    if question_only is not None:
        values["question_only"] = question_only
    values["overrides"] = [*values.get("overrides", ()), *overrides]
    return Suite.from_values(values)
