"""The schema of a protocol's `results.json`: everything that table and report say."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from clipvil.compare.kinds import Kind, kind_of
from clipvil.compare.results import EncoderRow, Interval, LeftOut, Paired, SeedScore, Stored, Strict


class SubsetRow(Strict):
    """One list of shots, see `clipvil.protocol.subsets.Subset`; `file` is relative to the folder of the protocol."""

    file: str
    sha256: str
    draw: int
    pictures: int
    records: int
    strata: dict[str, int]


class TaskRow(Strict):
    """One task as it was run. `splits` are the test splits, the ordinary one first; the others are shifted."""

    name: str
    task: str
    metric: str = ""
    mode: str = ""
    splits: list[str] = Field(default_factory=list)
    data: dict[str, Any] = Field(default_factory=dict)
    shift: dict[str, Any] = Field(default_factory=dict)
    """What the maker of a shifted split says of its work."""
    fingerprints: dict[str, str] = Field(default_factory=dict)
    sizes: dict[str, int] = Field(default_factory=dict)
    """Records of each split."""
    pictures: dict[str, int] = Field(default_factory=dict)
    subsets: dict[str, list[SubsetRow]] = Field(default_factory=dict)
    """Condition -> the lists of shots, one a draw."""
    left_out: LeftOut | None = None

    @property
    def kind(self) -> Kind:
        """What is said of it by its metric."""
        return kind_of(self.metric)

    @property
    def shifted(self) -> list[str]:
        """The splits that differ from training on purpose."""
        return self.splits[1:]


class ConditionRow(Strict):
    """One size of the training set; `pictures` by task."""

    name: str
    pictures: dict[str, int] = Field(default_factory=dict)
    overrides: list[str] = Field(default_factory=list)


class MethodRow(Strict):
    """One way of training, by what it changes."""

    name: str
    kind: str | None = None
    overrides: list[str] = Field(default_factory=list)


class ScoreRow(Strict):
    """One method under one condition on one split, over the seeds that finished; see `compare.results.Row`."""

    task: str
    condition: str
    method: str
    split: str
    mean: Interval
    per_seed: list[SeedScore]
    breakdowns: dict[str, dict[str, Interval]] = Field(default_factory=dict)


class Ratio(Strict):
    """A relative change in per cent with its 95 % interval; the bounds are None where too few pictures tell."""

    value: float
    low: float | None = None
    high: float | None = None


class Gain(Paired):
    """A method minus the reference under the same condition, in points and in per cent of the reference.

    Paired record by record over the seeds both have, bootstrapped by picture.
    """

    task: str
    condition: str
    split: str
    method: str
    relative: Ratio | None = None


class Drop(Strict):
    """A method on a shifted split against itself on the ordinary one: points and per cent lost (negative: gained)."""

    task: str
    condition: str
    split: str
    method: str
    value: float
    low: float | None = None
    high: float | None = None
    relative: Ratio | None = None


class Cost(Strict):
    """What one run of a method costs, mean over the seeds."""

    task: str
    condition: str
    method: str
    training_seconds: float | None = None
    steps: float
    steps_per_second: float | None = None
    teacher_seconds: float | None = None
    """Asking the teachers, from the cache where another run asked before."""
    parameters: int | None = None


class Report(Stored):
    """A whole protocol."""

    WHAT: ClassVar[str] = "protocol"

    kind: Literal["clipvil.protocol"] = "clipvil.protocol"
    declaration: dict[str, Any] = Field(default_factory=dict)
    reference: str = ""
    encoder: EncoderRow | None = None
    tasks: list[TaskRow] = Field(default_factory=list)
    conditions: list[ConditionRow] = Field(default_factory=list)
    methods: list[MethodRow] = Field(default_factory=list)
    scores: list[ScoreRow] = Field(default_factory=list)
    gains: list[Gain] = Field(default_factory=list)
    drops: list[Drop] = Field(default_factory=list)
    costs: list[Cost] = Field(default_factory=list)
    cache_bytes: dict[str, int] = Field(default_factory=dict)
    """What teachers said and saw, on disk: bytes of texts and of cells, for all runs together."""

    def score(self, task: str, condition: str, method: str, split: str) -> ScoreRow | None:
        """The row, or None while no seed of it has finished."""
        key = (task, condition, method, split)
        return next((r for r in self.scores if (r.task, r.condition, r.method, r.split) == key), None)

    def gain(self, task: str, condition: str, method: str, split: str) -> Gain | None:
        """The gain of a method, or None: it is the reference, or was not tried there."""
        key = (task, condition, method, split)
        return next((g for g in self.gains if (g.task, g.condition, g.method, g.split) == key), None)

    def drop(self, task: str, condition: str, method: str, split: str) -> Drop | None:
        """The drop of a method on a shifted split, or None."""
        key = (task, condition, method, split)
        return next((d for d in self.drops if (d.task, d.condition, d.method, d.split) == key), None)

    def methods_of(self, task: str, condition: str) -> list[str]:
        """The methods that have a score there, in order."""
        found = {row.method for row in self.scores if (row.task, row.condition) == (task, condition)}
        return [method.name for method in self.methods if method.name in found]

    def conditions_of(self, task: str) -> list[str]:
        """The conditions under which anything was scored, in order."""
        found = {row.condition for row in self.scores if row.task == task}
        return [condition.name for condition in self.conditions if condition.name in found]
