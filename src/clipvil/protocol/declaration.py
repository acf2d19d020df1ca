"""What a protocol asks: tasks, conditions, methods and seeds on one student, from a YAML file or the package."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from clipvil.compare.declared import Declared, Section
from clipvil.compare.suite import EncoderEntry, slug
from clipvil.protocol.methods import METHODS, PLAIN, PROBE

Shift = Literal["prior", "hypothesis_hard"]


class Condition(Section):
    """How many pictures are trained on: `pictures`, or a `share` of those there are, or all of them.

    `overrides` change the recipes of all tasks under this condition, the budget of steps above all, and
    `task_overrides` those of single tasks on top of that.
    """

    name: str = ""
    pictures: int | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0, lt=1)
    overrides: tuple[str, ...] = ()
    task_overrides: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_size(self) -> Condition:
        if self.pictures is not None and self.share is not None:
            raise ValueError("gives both pictures and share; one of them says how many")
        return self

    @property
    def title(self) -> str:
        """The name, made from the size where none was given."""
        if self.name:
            return self.name
        if self.share is not None:
            return f"{100 * self.share:g} %"
        return "full" if self.pictures is None else str(self.pictures)

    def count(self, pictures: int) -> int:
        """How many of that many pictures are used."""
        if self.share is not None:
            return max(1, round(self.share * pictures))
        return pictures if self.pictures is None else min(self.pictures, pictures)


class Method(Section):
    """One way of training: a name of `clipvil.protocol.methods`, or any name with its own `overrides`.

    `overrides` come on top of what the name stands for (and of what `method` stands for, where that is given).
    `conditions` and `tasks` are where it is tried; everywhere when left out.
    """

    name: str
    method: str | None = None
    overrides: tuple[str, ...] = ()
    conditions: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _known(self) -> Method:
        if self.method is not None and self.method not in (*METHODS, PROBE):
            raise ValueError(f"method '{self.method}' is none of {', '.join((*METHODS, PROBE))}")
        if self.kind is None and not self.overrides:
            raise ValueError(f"'{self.name}' is none of {', '.join((*METHODS, PROBE))} and has no overrides of its own")
        return self

    @property
    def kind(self) -> str | None:
        """What it stands for among the named ones; None for one of the user's own."""
        return self.method or (self.name if self.name in (*METHODS, PROBE) else None)

    @property
    def distils(self) -> bool:
        """Whether teachers are asked while it trains a student, as far as its name tells."""
        return self.kind not in (None, PLAIN, PROBE)

    def changes(self) -> tuple[str, ...]:
        """All overrides."""
        return (*METHODS.get(self.kind or "", ()), *self.overrides)


class ProtocolTask(Section):
    """One task: a recipe (a file, a packaged name or a task's name), what is changed of it, and what shifts its data.

    `shift: prior` lays the corpus out anew, with other answer priors in a split `prior_shift` (VQA-CP's idea);
    `shift: hypothesis_hard` adds a split `hard` with the test pairs that a hypothesis-only model gets wrong. Shifted
    splits that the corpus has itself need nothing. `data` changes entries of the recipe's data section. `ordinary` is
    the test split that drops are taken from (the first one when left out).
    """

    recipe: str
    name: str = ""
    overrides: tuple[str, ...] = ()
    data: dict[str, Any] = Field(default_factory=dict)
    shift: Shift | None = None
    ordinary: str = ""
    conditions: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        """The name, or the recipe's."""
        return self.name or self.recipe


class Declaration(Declared):
    """A whole protocol.

    `encoder` is the student's, with frozen features. `data` changes entries of every recipe's data section (`{out}` is
    the folder of the protocol), `overrides` every recipe, `distillation` every recipe of a method with a teacher (keys
    of that section, as `teachers`). `draw: seed` takes other shots for every seed, `draw: once` the same for all.
    `reference` is the method that gains are taken against.
    """

    KIND: ClassVar[str] = "protocol"

    encoder: EncoderEntry
    tasks: tuple[ProtocolTask, ...] = Field(min_length=1)
    conditions: tuple[Condition, ...] = Field(default=(Condition(),), min_length=1)
    methods: tuple[Method, ...] = Field(default=(Method(name=PLAIN),), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    data: dict[str, Any] = Field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    distillation: dict[str, Any] = Field(default_factory=dict)
    draw: Literal["seed", "once"] = "seed"
    reference: str = PLAIN

    @field_validator("encoder", mode="before")
    @classmethod
    def _encoder_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("tasks", mode="before")
    @classmethod
    def _recipes_alone(cls, value: Any) -> Any:
        return _entries(value, "recipe")

    @field_validator("methods", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return _entries(value, "name")

    @field_validator("conditions", mode="before")
    @classmethod
    def _sizes_alone(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return [_condition(item) for item in value]

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_of_seeds(cls, value: Any) -> Any:
        return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fits(self) -> Declaration:
        axes = {
            "task": [task.title for task in self.tasks],
            "condition": [condition.title for condition in self.conditions],
            "method": [method.name for method in self.methods],
        }
        for what, names in axes.items():
            double = next((name for name in names if [slug(other) for other in names].count(slug(name)) > 1), None)
            if double is not None:
                raise ValueError(f"the {what} {double} comes twice; give each its own name")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError("a seed is negative or comes twice")
        if self.reference not in axes["method"]:
            raise ValueError(f"the reference '{self.reference}' is none of the methods {', '.join(axes['method'])}")
        asked = [("condition", name) for task in self.tasks for name in task.conditions or ()]
        asked += [("condition", name) for method in self.methods for name in method.conditions or ()]
        asked += [("method", name) for task in self.tasks for name in task.methods or ()]
        asked += [("task", name) for method in self.methods for name in method.tasks or ()]
        asked += [("task", name) for condition in self.conditions for name in condition.task_overrides]
        unknown = next(((what, name) for what, name in asked if name not in axes[what]), None)
        if unknown is not None:
            raise ValueError(f"there is no {unknown[0]} '{unknown[1]}'; there are {', '.join(axes[unknown[0]])}")
        return self

    def cells(self) -> list[tuple[ProtocolTask, Condition, Method]]:
        """Everything that is run, but for seeds: in the order of tasks, conditions and methods."""
        return [
            (task, condition, method)
            for task in self.tasks
            for condition in self.conditions
            for method in self.methods
            if _in(condition.title, task.conditions)
            and _in(condition.title, method.conditions)
            and _in(method.name, task.methods)
            and _in(task.title, method.tasks)
        ]


def packaged_protocols() -> list[str]:
    """Names of the protocols that come with the library."""
    return Declaration.packaged()


def _in(name: str, names: tuple[str, ...] | None) -> bool:
    return names is None or name in names


def _entries(value: Any, key: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [{key: item} if isinstance(item, str) else item for item in value]
    return value


def _condition(item: Any) -> Any:
    """`100` is that many pictures, `0.1` or `10 %` that share, `full` all of them."""
    if isinstance(item, bool):
        return item
    if isinstance(item, int):
        return {"pictures": item}
    if isinstance(item, float):
        return {"share": item}
    if item == "full":
        return {}
    if isinstance(item, str) and item.endswith("%"):
        try:
            return {"share": float(item[:-1]) / 100}
        except ValueError:
            return item
    return item
