"""How far each lesson's teacher is trusted, worked out once from what the teacher said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from clipvil.distillation.probe import FOLDS, STEPS, probe_chances, probe_features
from clipvil.distillation.weighting import NEEDS_CHANCES, alignment, choice_chances, confidence
from clipvil.errors import DataError, RecipeError
from clipvil.features.tensorfile import TensorFile
from clipvil.files import atomic_write
from clipvil.tasks.lessons import Lesson

if TYPE_CHECKING:
    from clipvil.distillation.curriculum import Curriculum
    from clipvil.distillation.word_scores import Keeping

DEFAULT_SCALE = 100.0


class Trust:
    """Weights of all lessons, not normalised: see `weighting.confidence`. Constant ones need no teacher at all."""

    def __init__(self, lessons: Sequence[Lesson], curriculum: Curriculum, keep: Keeping) -> None:
        """Raises RecipeError where no teacher can tell, DataError where a lesson has no right answer to be told by."""
        form = curriculum.choice.confidence
        golds = [lesson.gold for lesson in lessons]
        self.gold: Tensor | None = None
        if all(gold is not None for gold in golds):
            self.gold = torch.tensor([gold for gold in golds if gold is not None])
        if form == "constant":
            self.values = torch.ones(len(lessons))
            return
        teacher, said, cells = curriculum.judging
        pictures = cells.pooled(curriculum.image)
        if pictures is None:
            raise RecipeError(f"the features of {teacher.name} were stored without pooled vectors; extract them again")
        texts = said.vectors[said.rows[curriculum.text]].float()
        kept = (
            None
            if keep.folder is None
            else keep.folder / f"trust-{_digest(form, lessons, pictures, texts)}.safetensors"
        )
        if kept is not None and kept.is_file():
            found = TensorFile(kept).array("values", "F32", (len(lessons),))
            self.values = torch.from_numpy(found.copy())
            return
        chances, agreement = None, None
        if form == "alignment":
            polarity = torch.tensor([float(lesson.polarity) for lesson in lessons])
            agreement = alignment(functional.cosine_similarity(pictures, texts, dim=1), polarity)
        if form in NEEDS_CHANCES:
            if self.gold is None:
                raise DataError(
                    "a training example has no label to judge the teacher by",
                    fix="set distillation.confidence to constant, or train on a split whose records have labels",
                )
            if lessons and lessons[0].choices:
                chances = _choices(lessons, pictures, curriculum, keep)
            else:
                images = [lesson.image_id for lesson in lessons]
                chances = probe_chances(probe_features(pictures, texts), self.gold, images)
        self.values = confidence(form, chances, self.gold, agreement)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept) as stream:
                stream.write(save({"values": self.values}))

    def weights(self, numbers: Tensor) -> Tensor:
        """(L,)"""
        return self.values[numbers]


def _digest(form: str, lessons: Sequence[Lesson], pictures: Tensor, texts: Tensor) -> str:
    """Stands for everything that the weights follow from."""
    digest = hashlib.sha256(f"{form}/{STEPS}/{FOLDS}".encode())
    for lesson in lessons:
        about = [lesson.image_id, lesson.gold, lesson.polarity, *lesson.choices]
        digest.update(json.dumps(about).encode())
    digest.update(pictures.contiguous().numpy().tobytes())
    digest.update(texts.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _choices(lessons: Sequence[Lesson], pictures: Tensor, curriculum: Curriculum, keep: Keeping) -> Tensor:
    teacher, _, _ = curriculum.judging
    assert teacher.texts is not None
    distinct = list(dict.fromkeys((text,) for lesson in lessons for text in lesson.choices))
    said = keep.cache(teacher.texts, distinct)
    vectors = said.vectors[said.rows].float()
    places = {text[0]: place for place, text in enumerate(distinct)}
    scale = float(getattr(getattr(teacher.texts, "text", None), "scale", DEFAULT_SCALE))
    of = [vectors[torch.tensor([places[text] for text in lesson.choices])] for lesson in lessons]
    return choice_chances(pictures, of, scale)
