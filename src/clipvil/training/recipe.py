"""The recipe: a typed, validated description of one experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clipvil.distillation.settings import DistillationChoice
from clipvil.training.recipe_files import apply_overrides, explain, read_recipe_file

# Settings that change where things lie or how fast they go, never what comes out. They stay out of the hash, so that
# a run can be resumed with other workers and a cell of a comparison is recognised wherever its features were put.
_WITHOUT_EFFECT = (
    ("features", "store"),
    ("features", "workers"),
    ("training", "loader_workers"),
    ("training", "threads"),
    ("training", "checkpoint_every"),
    ("training", "trackers"),
    ("pictures", "keep"),
    ("pictures", "keep_mb"),
    ("distillation", "cache"),
)
# Settings that came later than runs that are there. At their default they stay out of the hash too, so that those runs
# are still what they were.
_LATER: tuple[tuple[str, Any], ...] = (
    ("trunk", None),
    ("pictures", None),
    ("features.source", "store"),
    ("optimiser.no_decay", []),
    ("schedule.warmup_ratio", None),
    ("schedule.d_model", 512),
    ("training.micro_batch", None),
    ("training.share", 1.0),
    ("training.subset", None),
    ("training.grad_clip_value", None),
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EncoderChoice(_Section):
    """Which visual encoder, and how pictures are brought to it; names as in `clipvil encoders`.

    `question-only` asks for no encoder at all: a constant cell in place of a picture, the floor of language alone.
    """

    name: str = "mini/contrastive"
    layer: str | None = None
    positions: Literal["resized", "zero"] = "resized"
    channels: Literal["RGB", "BGR"] = "RGB"
    resize: str = "square"


class FeatureChoice(_Section):
    """Where features are kept (None: inside the run folder) and how they are computed when they are missing.

    With `source: pictures` there are none: the model gets the pictures and encodes them anew in every batch, with an
    encoder that is trained with it; see `TrunkChoice` and `PictureChoice`.
    """

    source: Literal["store", "pictures"] = "store"
    store: str | None = None
    precision: str = "auto"
    dtype: Literal["float16", "float32", "bfloat16"] = "float16"
    workers: int = Field(default=2, ge=0)


class OptimiserChoice(_Section):
    """The optimiser by name. Options that an optimiser does not have (momentum of Adam) are ignored by it.

    `bert_adamw` is AdamW as transformers 3.3.1 had it, which CLIP-ViL_p was trained with. `no_decay` names what weight
    decay leaves alone: parts of parameter names, as published for BERT (`bias`, `LayerNorm.weight`), and `vectors` for
    every parameter of one dimension (biases and the scales of norms).
    """

    name: Literal["adamax", "adamw", "adam", "sgd", "rmsprop", "bert_adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    no_decay: tuple[str, ...] = ()

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each of the two must lie in 0..1, 1 excluded")
        return betas


class ScheduleShape(_Section):
    """How the learning rate moves, whatever the number of updates; see `clipvil.training.optim.learning_rate_factor`.

    `warmup_ratio` gives the warm-up as a share of all updates, not rounded to whole ones, in place of `warmup_steps`.
    """

    name: Literal["multistep", "cosine", "constant", "linear", "noam"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1)
    warmup_from: float = Field(default=0.0, ge=0, le=1)
    milestones: tuple[int, ...] = ()
    gamma: float = Field(default=0.1, gt=0, le=1)
    final: float = Field(default=0.0, ge=0, le=1)
    d_model: int = Field(default=512, gt=0)
    """The model's width, which the noam schedule goes by."""

    @model_validator(mode="after")
    def _in_order(self) -> ScheduleShape:
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        if self.milestones and self.name != "multistep":
            raise ValueError(f"milestones belong to the multistep schedule, not to {self.name}")
        if self.warmup_ratio is not None and self.warmup_steps:
            raise ValueError("the warm-up is given twice, as warmup_steps and as warmup_ratio")
        if self.name == "noam" and not self.warmup_steps:
            raise ValueError("the noam schedule needs warmup_steps")
        return self


class ScheduleChoice(ScheduleShape):
    """The schedule of the run, over `steps` updates."""

    steps: int = Field(default=1000, gt=0)


class TrunkChoice(_Section):
    """How the encoder is trained along (`features.source: pictures`).

    `trained: false` encodes pictures with fixed weights. `optimiser` and `schedule` are the encoder's own, or those of
    the rest where they are left out; they are also those of a BERT that is trained with navigation's follower
    (`task_settings.train_bert`). `batch_norm`: `frozen` normalises by the statistics that came with the weights
    and changes nothing of it, `sync` normalises by the statistics of the micro-batches of all processes together,
    `per_device` by those of one micro-batch in one process, as published. `checkpointing` keeps no
    activations inside the encoder's blocks and computes them again on the way back: less memory, a third more work.
    """

    trained: bool = True
    batch_norm: Literal["frozen", "sync", "per_device"] = "frozen"
    checkpointing: bool = False
    optimiser: OptimiserChoice | None = None
    schedule: ScheduleShape | None = None


class PictureChoice(_Section):
    """How pictures come into batches (`features.source: pictures`).

    `sentences` is the most records of one picture that follow each other in an epoch, so that one encoding serves
    them. `aspects` sorts pictures by height / width into that many groups on either side of 1 (squares among the
    portraits), and a micro-batch holds one group, small ones joined; 0 mixes them. `padding`: what the resize policy
    put around a picture (`clipvil-pretrain`) is encoded and shown to the model where its `behaviour` is published, and
    masked elsewhere; `visible` or `masked` say so whatever the model is. `keep` says where resized pictures stay, up to
    `keep_mb` megabytes: in `memory`, on `disk` (in the run, or in the folder `features.store`), or nowhere.
    """

    sentences: int = Field(default=1, gt=0)
    aspects: int = Field(default=1, ge=0, le=32)
    padding: Literal["behaviour", "masked", "visible"] = "behaviour"
    keep: Literal["nowhere", "memory", "disk"] = "memory"
    keep_mb: int = Field(default=1024, ge=0)


class SubsetChoice(_Section):
    """Which training pictures are used: the ids in `file` (a JSON list, or text with one a line).

    `sha256` is that of the file; with it a run refuses another list, and the recipe is the same wherever the file lies.
    """

    file: str
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class TrainingChoice(_Section):
    """How training runs.

    `batch_size` is that of all processes together. `micro_batch` is how many records go through the model at once
    (None: the process's whole share of the batch); the gradients of an update are summed over micro-batches and
    processes, and what a micro-batch holds does not depend on the number of processes. Every
    `evaluate_every` steps the model is judged on the validation split and a checkpoint is kept; after `patience`
    evaluations without a better value training stops (None: never). `checkpoint_every` asks for further checkpoints
    between evaluations. `threads` is the most CPU threads to compute with (None: all cores): threads of a small model
    wait for each other longer than they compute. `grad_clip` is the longest that the gradient of all weights may be,
    `grad_clip_value` the largest that one weight's may be.

    `share` trains on the records of that share of the training pictures alone, to see what few data do: a picture is
    in when sha256("share/" + image_id), read as a fraction, lies below it. So a smaller share is part of a larger one,
    and the same pictures are chosen whatever else is in the corpus. `subset` trains on the records of listed pictures
    alone; the two exclude each other.
    """

    batch_size: int = Field(default=64, gt=0)
    share: float = Field(default=1.0, gt=0, le=1)
    subset: SubsetChoice | None = None
    micro_batch: int | None = Field(default=None, gt=0)
    evaluate_batch_size: int = Field(default=256, gt=0)
    evaluate_every: int = Field(default=200, gt=0)
    patience: int | None = Field(default=None, gt=0)
    grad_clip: float | None = Field(default=None, gt=0)
    grad_clip_value: float | None = Field(default=None, gt=0)
    mixed_precision: Literal["no", "bf16"] = "no"
    loader_workers: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, gt=0)
    log_every: int = Field(default=50, gt=0)
    checkpoint_every: int | None = Field(default=None, gt=0)
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_false_in_yaml(cls, value: Any) -> Any:
        return "no" if value is False else value

    @model_validator(mode="after")
    def _share_or_subset(self) -> TrainingChoice:
        if self.subset is not None and self.share < 1:
            raise ValueError("share and subset both choose pictures; give one of them")
        return self


class InitChoice(_Section):
    """What a run starts from, where it is not fresh weights: another run, which may have to be trained first.

    `run` is the folder of a finished run. Without it `recipe` (a file or packaged name, with `overrides` as on the
    command line) is trained first, in `initial` inside the run, on the same encoder, features and seed, and where it is
    of the same task on the same data (of another task, on its own); with it, `recipe` only says what the run is one of.
    `weights` are the best by validation or the last ones, and `optimiser` takes over the optimiser's state that belongs
    to them.
    """

    run: str | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    weights: Literal["best", "last"] = "best"
    optimiser: bool = False

    @property
    def asked(self) -> bool:
        """Whether the run starts from another one."""
        return self.run is not None or self.recipe is not None

    @model_validator(mode="after")
    def _of_something(self) -> InitChoice:
        if not self.asked and (self.overrides or self.optimiser or self.weights != "best"):
            raise ValueError("names neither a run nor a recipe to start from")
        if self.overrides and self.recipe is None:
            raise ValueError("overrides belong to init.recipe; a run that is there already has its own")
        return self


class Recipe(_Section):
    """One experiment: task, data, encoder, features, model, what it starts from, teachers, optimiser, schedule, seed.

    `data`, `model` and `task_settings` belong to the corpus, the model and the task, which check them themselves.
    Relative paths are taken from the folder in which the command runs.
    """

    task: str = "vqa"
    task_settings: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    encoder: EncoderChoice = EncoderChoice()
    features: FeatureChoice = FeatureChoice()
    model: dict[str, Any] = Field(default_factory=dict)
    init: InitChoice = InitChoice()
    optimiser: OptimiserChoice = OptimiserChoice()
    schedule: ScheduleChoice = ScheduleChoice()
    training: TrainingChoice = TrainingChoice()
    trunk: TrunkChoice = TrunkChoice()
    pictures: PictureChoice = PictureChoice()
    distillation: DistillationChoice = DistillationChoice()
    seed: int = Field(default=0, ge=0, lt=2**32)

    @classmethod
    def from_file(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a YAML file, or a packaged recipe by its name (`mini/vqa`), and apply `section.key=value` overrides.

        Raises:
            RecipeError: no such file or name, broken YAML, an unknown key (names the nearest right one), a wrong
                value (names the field).
        """
        values, where = read_recipe_file(path)
        return cls.from_values(values, overrides, where=where)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "recipe") -> Recipe:
        """Validate plain values, after the overrides were applied; `where` names their origin in errors.

        Raises:
            RecipeError: as for `from_file`.
        """
        merged = apply_overrides(values, overrides, cls, where=where)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise explain(error, cls, where) from None

    def with_overrides(self, *overrides: str) -> Recipe:
        """The same recipe with some `section.key=value` changed."""
        return type(self).from_values(self.to_values(), overrides)

    def to_values(self) -> dict[str, Any]:
        """Plain JSON values, every default written out."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The recipe as YAML, every default written out; `from_file` reads it back to an equal recipe."""
        return yaml.safe_dump(self.to_values(), sort_keys=False, allow_unicode=True)

    def hash(self) -> str:
        """sha256 (hex) over everything that can change a result; paths of stores and worker counts cannot."""
        values = _effective(self.to_values())
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Where the plain values of another recipe differ in what can change a result, as `field: other -> own`."""
        mine, theirs = dict(_leaves(_effective(self.to_values()))), dict(_leaves(_effective(dict(other))))
        return [
            f"{field}: {_shown(theirs.get(field))} -> {_shown(mine.get(field))}"
            for field in sorted(mine.keys() | theirs.keys())
            if mine.get(field) != theirs.get(field)
        ]


def _effective(values: dict[str, Any]) -> dict[str, Any]:
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for section, field in _WITHOUT_EFFECT:
        if isinstance(kept.get(section), dict):
            kept[section].pop(field, None)
    schedule = kept.get("schedule")
    if isinstance(schedule, dict) and schedule.get("name") != "noam":
        schedule.pop("d_model", None)  # the other schedules do not look at it
    subset = kept["training"].get("subset") if isinstance(kept.get("training"), dict) else None
    if isinstance(subset, Mapping) and subset.get("sha256"):
        kept["training"]["subset"] = {"sha256": subset["sha256"]}  # a list is what is in it, wherever it lies
    from_pictures = kept.get("features", {}).get("source") == "pictures"
    # A BERT that reads instructions and is trained along goes by the trunk's optimiser and schedule.
    reads_with_bert = bool(kept.get("task_settings", {}).get("train_bert"))
    for path, default in _LATER:
        section, _, field = path.partition(".")
        if not field:
            if not from_pictures and not (section == "trunk" and reads_with_bert):
                kept.pop(section, None)
        elif isinstance(kept.get(section), dict) and kept[section].get(field, default) == default:
            kept[section].pop(field, None)
    distillation = kept.get("distillation")
    if isinstance(distillation, dict) and not distillation.get("weight"):
        del kept["distillation"]  # plain fine-tuning, whatever else it says
    if isinstance(kept.get("init"), dict):
        kept["init"] = _effective_init(kept["init"])
        if not kept["init"]:
            del kept["init"]
    return kept


def _effective_init(init: dict[str, Any]) -> dict[str, Any]:
    """What tells beginnings apart: not where a run lies, whose weights the run itself knows by their checksum.

    Empty for fresh weights, so that recipes of before there was the section keep their hash.
    """
    if init.get("run") is None and init.get("recipe") is None:
        return {}
    kept = {key: value for key, value in init.items() if key != "run"}
    return kept if init.get("recipe") is not None else {**kept, "run": True}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
