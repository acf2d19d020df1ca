"""Teachers: pictures from a feature store, texts from a cache, all of it said once by frozen networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.distillation.settings import TeacherChoice
from clipvil.distillation.text_teachers import ModelTeacher, TextTeacher, TowerTeacher
from clipvil.errors import EncoderError, RecipeError

if TYPE_CHECKING:
    from clipvil.encoders.base import Encoder
    from clipvil.features.base import FeatureSource
    from clipvil.images.sources import ImageSource


@dataclass(frozen=True)
class Joint:
    """A fixed map of cells (..., C) into the joint space (..., D): modules or matrices, one after the other."""

    steps: tuple[nn.Module | Tensor, ...]

    def __call__(self, cells: Tensor) -> Tensor:
        """Map them."""
        for step in self.steps:
            cells = cells @ step if isinstance(step, Tensor) else step(cells)
        return cells


@dataclass
class Teacher:
    """One teacher: its features of pictures (None: of texts alone), its reader of texts (None: of pictures alone).

    `joint` maps cells (..., C) into the space that its pictures and texts share, (..., D); None where none is known.
    """

    choice: TeacherChoice
    pictures: FeatureSource | None
    texts: TextTeacher | None
    joint: Joint | None = None

    @property
    def name(self) -> str:
        """As the recipe names it."""
        return self.choice.encoder or self.choice.text_model or ""

    @property
    def two_towers(self) -> bool:
        """Whether it can hold pictures against texts."""
        return self.pictures is not None and self.texts is not None and self.texts.joint

    def __getstate__(self) -> dict[str, Any]:
        """Without the reader: workers get what it said."""
        return {**self.__dict__, "texts": None}

    def fingerprints(self) -> dict[str, str]:
        """What its outputs follow from."""
        found = {} if self.pictures is None else {"pictures": self.pictures.spec.fingerprint}
        return found if self.texts is None else {**found, "texts": self.texts.fingerprint()}


Extract = Callable[[TeacherChoice], "FeatureSource"]
"""From a teacher's choice to its features of all training pictures, extracted where they are missing."""


def open_teacher(choice: TeacherChoice, extract: Extract) -> Teacher:
    """A teacher of a recipe.

    Raises EncoderError where it has no text tower and one was asked, StoreError as extraction does.
    """
    if choice.text_model is not None:
        return Teacher(choice, None, ModelTeacher(choice.text_model))
    from clipvil.encoders.registry import create_encoder
    from clipvil.encoders.weights import UntrainedWarning

    assert choice.encoder is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWarning)  # extraction says it again
        encoder = create_encoder(choice.encoder, layer=choice.layer)
    texts: TextTeacher | None = None
    if choice.text:
        own = getattr(encoder, "text", None)
        if own is None:
            raise EncoderError(f"{choice.encoder} has no text side; set text: false for this teacher")
        texts = TowerTeacher(own())
    return Teacher(choice, extract(choice), texts, joint_of(encoder))


def open_teacher_on(
    choice: TeacherChoice, pictures: ImageSource | str | Path, store: str | Path, *, resize: str = "square"
) -> Teacher:
    """A teacher that looks at pictures of one's own: a folder, a list, whatever `clipvil extract` takes.

    They are encoded into the feature store `store` once; their ids are what `Lesson.image_id` names (of a folder the
    paths inside it, as `red/1.png`). Raises as `open_teacher`.
    """
    from clipvil.features.extract import extract
    from clipvil.features.store import Store

    def encode(one: TeacherChoice) -> FeatureSource:
        assert one.encoder is not None
        extract(pictures, encoder=one.encoder, layer=one.layer, out=store, resize=resize, progress=False)
        return Store.open(store)

    return open_teacher(choice, encode)


def joint_of(encoder: Encoder) -> Joint | None:
    """How an encoder's cells come into the joint space; None where it is not known.

    Of CLIP's ResNets, whose cells reach that space through an attention pool alone, a cell is taken as the only one
    that the pool looks at: its value and output projections, without position (as MaskCLIP, Zhou et al. 2022, does;
    our reading here). Of CLIP's ViTs final norm and projection, unless the layer has them already.
    """
    visual: Any = getattr(encoder.module, "visual", None)
    pool: Any = getattr(visual, "attnpool", None)
    if (
        pool is not None
        and isinstance(getattr(pool, "v_proj", None), nn.Module)
        and encoder.grid_channels == pool.v_proj.in_features
    ):
        return Joint((pool.v_proj, pool.c_proj))
    if encoder.layer.endswith("+norm+proj"):
        return Joint(())
    norm, projection = getattr(visual, "ln_post", None), getattr(visual, "proj", None)
    if isinstance(norm, nn.Module) and isinstance(projection, Tensor) and encoder.grid_channels == len(projection):
        return Joint((projection.detach(),) if encoder.layer.endswith("+norm") else (norm, projection.detach()))
    return None


@torch.no_grad()
def cells_of(teacher: Teacher, cells: Tensor, kind: str) -> Tensor:
    """Cells (..., C) as a target: in the joint space where that was asked and is known, or as they are."""
    return teacher.joint(cells) if kind == "joint" and teacher.joint is not None else cells


def pooled_target(picture: Tensor | None, text: Tensor | None, kind: str) -> Tensor:
    """The target of the pooled state (L, D or 2 D) from a teacher's vectors of picture and text, either of them None.

    Raises RecipeError where the one that was asked for is not there.
    """
    if picture is None or text is None:
        only = picture if picture is not None else text
        wanted = {"picture": picture, "text": text}.get(kind, only)
        if wanted is None:
            raise RecipeError(f"'distillation.targets.pooled' asks for a {kind}, of which a teacher says nothing")
        return functional.normalize(wanted, dim=-1)
    u, v = functional.normalize(picture, dim=-1), functional.normalize(text, dim=-1)
    if kind == "concat":
        return torch.cat([u, v], dim=-1)
    return {"picture": u, "text": v}.get(kind, functional.normalize(u + v, dim=-1))


def cache_folder(cache: str | None, out: Path) -> Path:
    """Where what teachers said is kept."""
    return Path(cache).expanduser() if cache is not None else out / "teachers"


def relevant(teachers: Sequence[Teacher]) -> Teacher | None:
    """The teacher that tells which words and cells matter: the first that holds pictures against texts."""
    return next((teacher for teacher in teachers if teacher.two_towers), None)


def describe(teachers: Sequence[Teacher]) -> list[dict[str, Any]]:
    """Names and fingerprints, as JSON."""
    return [{"name": teacher.name, **teacher.fingerprints()} for teacher in teachers]
