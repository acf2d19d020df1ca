"""The schema of `results.json`: everything that the table and the report say, and nothing they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipvil.compare.kinds import Kind, kind_of
from clipvil.errors import DataError
from clipvil.files import atomic_write_json

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA = 1

CellStatus = Literal["pending", "done", "failed"]


class Strict(BaseModel):
    """Strict on keys, so that a file of another schema is refused and not half understood; NaN never gets in."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Interval(Strict):
    """A mean on the metric's own scale (0 to 100; CIDEr-D can exceed it) with its 95 % interval.

    `n` is the number of records behind it.
    """

    value: float
    low: float
    high: float
    n: int


class Costs(Strict):
    """What an encoder costs; None where it was not measured (the question-only row has no encoder)."""

    parameters: int | None = None
    gflops: float | None = None
    """Billions of multiply-adds times two, a picture at the size it was extracted with."""
    pictures_per_second: float | None = None
    store_bytes: float | None = None
    """Bytes a picture in the feature store."""


class EncoderRow(Strict):
    """One contestant. `label` is unique and is how all other parts name it; `name` is what `create_encoder` takes,
    or `store:PATH`.

    `floor` marks the question-only row, which sees no picture.
    """

    label: str
    name: str
    slug: str
    floor: bool = False
    layer: str | None = None
    resize: str = ""
    precision: str = ""
    fingerprint: str = ""
    grid: str = ""
    """Shape of one picture's features, as in `4 x 4 x 256`."""
    costs: Costs = Costs()


class LeftOut(Strict):
    """Pictures of a corpus that no row was trained on or judged by, because one encoder has no features of them."""

    pictures: int
    records: dict[str, int]
    """How many records of each split that are."""
    reasons: dict[str, int]
    """How many pictures by the reason, as in `corrupt (mini/random)`."""
    first: list[str]
    """Ids of some of them."""
    listed: str
    """The file in each feature store that lists what failed there."""


class TaskInfo(Strict):
    """One task as it was run: `name` is how the suite calls it, `task` what the registry calls it."""

    name: str
    task: str
    metric: str = ""
    mode: str = ""
    splits: list[str] = Field(default_factory=list)
    """Test splits, the ordinary one first."""
    data: str = ""
    fingerprints: dict[str, str] = Field(default_factory=dict)
    """Data hash of each split."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """What is scored one by one in each split (questions, for captions pictures), what was left out among them."""
    left_out: LeftOut | None = None
    trains: bool = True
    baseline: bool = False
    """Whether it is a way without a model of its own, which the tasks scored alike are held against."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """The recipe without encoder and seed, which are what the matrix varies."""

    @property
    def kind(self) -> Kind:
        """What is said of it by its metric."""
        return kind_of(self.metric)


class SeedScore(Strict):
    """The score of one training run."""

    seed: int
    value: float
    low: float
    high: float
    n: int


class Row(Strict):
    """One encoder on one split of one task, over the seeds that finished.

    `mean` averages the seeds record by record and then bootstraps pictures; breakdowns likewise.
    """

    encoder: str
    task: str
    split: str
    per_seed: list[SeedScore]
    mean: Interval
    breakdowns: dict[str, dict[str, Interval]] = Field(default_factory=dict)
    training_seconds: float | None = None
    """Mean over the seeds, of these runs alone."""
    seconds_before: float = 0.0
    """Mean seconds of training of the runs that these started from."""

    def columns(self, kind: Kind) -> list[str]:
        """The groups that tables show beside the score, in the order in which the metric is always reported."""
        return kind.column_order(list(self.breakdowns.get(kind.columns, {})))


class Curve(Strict):
    """Validation score by training step for one run; `best_step` is the step whose weights were tested."""

    encoder: str
    task: str
    seed: int
    points: list[tuple[int, float]]
    best_step: int | None = None


class Paired(Strict):
    """A paired difference in points with its 95 % interval, the p of no difference, records and seeds behind it."""

    value: float
    low: float
    high: float
    p: float
    n: int
    seeds: list[int]

    @property
    def significant(self) -> bool:
        """Whether the 95 % interval excludes zero."""
        return self.low > 0 or self.high < 0


class PairDifference(Paired):
    """`a` minus `b`, in points, by a paired bootstrap clustered by picture over the seeds both have."""

    task: str
    split: str
    a: str
    b: str

    def flipped(self) -> PairDifference:
        """The same comparison seen from `b`."""
        swap = {"a": self.b, "b": self.a, "value": -self.value, "low": -self.high, "high": -self.low}
        return self.model_copy(update=swap)


class Baseline(Strict):
    """What the questions of one task and split are worth without a picture and without a model."""

    name: str
    task: str
    split: str
    mean: Interval
    breakdowns: dict[str, dict[str, Interval]] = Field(default_factory=dict)


class TaskDifference(Paired):
    """Task `a` minus task `b` on one encoder's features and the same records, in points: what another model gains.

    Paired and bootstrapped as `PairDifference`.
    """

    encoder: str
    split: str
    a: str
    b: str


class Reference(Strict):
    """One reference answer and how many annotators gave it."""

    answer: str
    count: int


class GalleryAnswer(Strict):
    """What one encoder answered, how sure it was (0..1), and the score it got on the metric's scale."""

    encoder: str
    answer: str
    confidence: float
    score: float


class HousePlan(Strict):
    """A house from above, metres: viewpoints by id, edges between them, walls as x1, y1, x2, y2, and the right way."""

    places: dict[str, tuple[float, float]]
    edges: list[tuple[str, str]]
    walls: list[tuple[float, float, float, float]] = Field(default_factory=list)
    reference: list[str]


class GalleryEntry(Strict):
    """One picture with its question, where there is one, and everybody's answers or captions."""

    record_id: str
    image_id: str
    prompt: str
    references: list[Reference]
    answers: list[GalleryAnswer]
    place: str = ""
    """Where the picture stands in what it was chosen by, for captions."""
    thumbnail: str = ""
    """Base64 of a JPEG, empty where the picture could not be read again."""
    plan: HousePlan | None = None
    """Of navigation: what the walks are drawn on."""


class GalleryGroup(Strict):
    """Entries drawn from one kind of outcome; `share` is how often the kind occurs among `total` records.

    Captions have no kinds of outcome: their entries stand at fixed places in an order of all, and `share` is 1.
    """

    task: str
    split: str
    title: str
    share: float
    total: int
    entries: list[GalleryEntry]


class Cell(Strict):
    """One training run of the matrix."""

    encoder: str
    task: str
    seed: int
    path: str
    """Relative to the folder of the comparison, so that the folder can be moved."""
    status: CellStatus = "pending"
    error: str = ""
    recipe_hash: str = ""
    seconds: float | None = None
    training_seconds: float | None = None
    """Of this run alone, as `seconds` is; what it started from was trained before."""
    starts_from: str = ""
    """Path of the run of this comparison whose weights it started from; empty for fresh weights."""
    seconds_before: float = 0.0
    """Seconds of training of all that it started from."""


class Stored(Strict):
    """What every `results.json` has: who ran what, when and where.

    `load` and `save` are the only ways to and from the file. What one command alone has, its subclass adds.
    """

    WHAT: ClassVar[str] = ""
    """What was run, in a word."""

    schema_version: int = SCHEMA
    kind: str
    name: str
    title: str
    command: str = ""
    started: str = ""
    updated: str = ""
    wall_seconds: float = 0.0
    """Seconds spent by all invocations together; waiting between them does not count."""
    environment: dict[str, Any] = Field(default_factory=dict)
    protocol: list[str] = Field(default_factory=list)
    cells: list[Cell] = Field(default_factory=list)
    initial_runs: list[Cell] = Field(default_factory=list)
    """Runs that cells started from and that have no row themselves; `task` is the recipe."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read `results.json`. Raises DataError when it is absent, damaged, of another command or schema version."""
        path = Path(path)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError("no results here", file=path, fix=f"run the {cls.WHAT} first") from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as JSON ({error})", file=path) from None
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA:
            raise DataError(f"schema version {version!r}, this clipvil reads {SCHEMA}", file=path, fix="run it again")
        kind = cls.model_fields["kind"].default
        if value.get("kind", kind) != kind:
            raise DataError(f"holds no results of a {cls.WHAT} (kind {value['kind']!r})", file=path)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(first["msg"], file=path, field=where) from None

    def save(self, path: str | Path) -> None:
        """Write `results.json`, whole or not at all."""
        atomic_write_json(path, self.model_dump(mode="json"))

    @property
    def failures(self) -> list[Cell]:
        """Cells that failed, and runs to start from that did."""
        return [cell for cell in [*self.initial_runs, *self.cells] if cell.status == "failed"]


class Results(Stored):
    """A whole comparison."""

    WHAT: ClassVar[str] = "comparison"

    kind: Literal["clipvil.compare"] = "clipvil.compare"
    suite: dict[str, Any] = Field(default_factory=dict)
    reference: str = ""
    """Label of the encoder that the others are compared with."""
    encoders: list[EncoderRow] = Field(default_factory=list)
    tasks: list[TaskInfo] = Field(default_factory=list)
    rows: list[Row] = Field(default_factory=list)
    differences: list[PairDifference] = Field(default_factory=list)
    baselines: list[Baseline] = Field(default_factory=list)
    task_differences: list[TaskDifference] = Field(default_factory=list)
    """Between tasks that ask the same records, the later one of the suite minus the earlier."""
    curves: list[Curve] = Field(default_factory=list)
    gallery: list[GalleryGroup] = Field(default_factory=list)

    def encoder(self, label: str) -> EncoderRow:
        """The contestant called `label`. Raises KeyError."""
        for encoder in self.encoders:
            if encoder.label == label:
                return encoder
        raise KeyError(label)

    def row(self, task: str, split: str, encoder: str) -> Row | None:
        """The row of an encoder, or None while no seed of it has finished."""
        for row in self.rows:
            if (row.task, row.split, row.encoder) == (task, split, encoder):
                return row
        return None

    def ranked(self, task: str, split: str) -> list[Row]:
        """Rows of one split, best first."""
        rows = [row for row in self.rows if (row.task, row.split) == (task, split)]
        return sorted(rows, key=lambda row: -row.mean.value)

    def difference(self, task: str, split: str, a: str, b: str) -> PairDifference | None:
        """`a` minus `b`, whichever way round it was computed, or None."""
        for pair in self.differences:
            if (pair.task, pair.split) == (task, split):
                if (pair.a, pair.b) == (a, b):
                    return pair
                if (pair.a, pair.b) == (b, a):
                    return pair.flipped()
        return None

    def task(self, name: str) -> TaskInfo:
        """The task called `name`. Raises KeyError."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(name)

    def task_pairs(self) -> list[tuple[str, str]]:
        """The pairs of tasks (a, b) between which there are differences."""
        return list(dict.fromkeys((pair.a, pair.b) for pair in self.task_differences))

    def task_difference(self, a: str, b: str, split: str, encoder: str) -> TaskDifference | None:
        """Task `a` minus task `b` on one encoder, or None."""
        for pair in self.task_differences:
            if (pair.a, pair.b, pair.split, pair.encoder) == (a, b, split, encoder):
                return pair
        return None

    def beginning(self, cell: Cell) -> Cell | None:
        """The run of this comparison that a cell started from, or None."""
        return next((run for run in [*self.cells, *self.initial_runs] if run.path == cell.starts_from), None)

    def standing(self, task: str, encoder: str) -> str:
        """Why an encoder has no score on a task: `failed`, or `not finished`; empty where neither is known."""
        found = {cell.status for cell in self.cells if (cell.task, cell.encoder) == (task, encoder)}
        return "not finished" if "pending" in found else "failed" if "failed" in found else ""

    @property
    def complete(self) -> bool:
        """Whether every cell is done."""
        return all(cell.status == "done" for cell in self.cells)
