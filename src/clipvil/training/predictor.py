"""Ask a run, trained or zero-shot, about a picture that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, overload

from torch import nn

from clipvil.encoders.base import Encoder, EncoderSpec
from clipvil.errors import UsageError
from clipvil.features.base import FeatureSource
from clipvil.records import Caption, Question
from clipvil.tasks.base import Task
from clipvil.training.evaluation import evaluating
from clipvil.training.loader import to_device
from clipvil.training.pictures import Picture, open_picture
from clipvil.training.recipe import Recipe
from clipvil.training.restored import PictureEncoder, PicturesAtHand, restore_task, with_encoder

Answers: TypeAlias = "list[tuple[str, float]]"
_ONE = "picture"
_AT_ONCE = 64
"""Questions about one picture that are answered at once."""


class Predictor:
    """A trained model with its encoder. Build it with `load`."""

    def __init__(
        self, task: Task, model: nn.Module, recipe: Recipe, spec: EncoderSpec, encoder: Encoder | None
    ) -> None:
        """`encoder` is None for a question-only run, which looks at no picture."""
        self.task, self.model, self.recipe, self.spec, self.encoder = task, model, recipe, spec, encoder
        self._encoder = PictureEncoder(recipe, encoder)

    @overload
    def answer(self, picture: Picture, question: str, top: int = 5) -> Answers: ...

    @overload
    def answer(self, picture: Picture, question: list[str] | tuple[str, ...], top: int = 5) -> list[Answers]: ...

    def answer(
        self, picture: Picture, question: str | list[str] | tuple[str, ...], top: int = 5
    ) -> Answers | list[Answers]:
        """The `top` best answers with their confidence (0..1), best first; fewer where there are fewer.

        Several questions about the picture give a list of such answers, in their order, for one encoding. `picture` is
        a path, a PIL image, a uint8 array (H, W, 3) or (H, W), or a tensor (3, H, W), uint8 or in 0..1; see
        `clipvil.training.pictures.open_picture`.

        Raises:
            ImageError: the picture cannot be used.
            UsageError: an array of another type or shape, a question without words, a `top` below one.
        """
        questions = [question] if isinstance(question, str) else list(question)
        for text in questions:
            if not isinstance(text, str):
                raise UsageError(f"a question must be text, not {type(text).__name__}")
            if not text.strip():
                raise UsageError("the question is empty")
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise UsageError(f"top must be a whole number from 1 on, not {top!r}")
        found = self._predict(picture, questions, top) if questions else []
        return found[0] if isinstance(question, str) else found

    def _predict(self, picture: Picture, questions: Sequence[str], top: int) -> list[Answers]:
        source = self._features(picture)
        records = [Question(str(number), _ONE, text) for number, text in enumerate(questions)]
        device = next(iter(self.model.parameters())).device
        before = getattr(self.task, "top", None)
        if before is not None:
            self.task.top = top  # type: ignore[attr-defined]
        found: list[Answers] = []
        try:
            with evaluating(self.model):
                for start in range(0, len(records), _AT_ONCE):
                    part = records[start : start + _AT_ONCE]
                    batch = to_device(self.task.collate(part, source), device)
                    for prediction in self.task.predict(self.model, batch, part):
                        answers = prediction.top or ((prediction.output, prediction.confidence),)
                        found.append(list(answers[:top]))
        finally:
            if before is not None:
                self.task.top = before  # type: ignore[attr-defined]
        return found

    def _features(self, picture: Picture) -> FeatureSource:
        if self.encoder is None:
            return PicturesAtHand.unseen([_ONE])
        resized = self._encoder.resize(open_picture(picture))
        assert resized is not None
        return PicturesAtHand(self.spec, [_ONE], self._encoder.grids(resized.pixels[None]))


def load(run: str | Path) -> Predictor:
    """A finished run, ready to answer.

    Raises:
        CheckpointError: the run is not finished or damaged, or the encoder of that name is not the one it was trained
            with (other weights, another version).
        UsageError: the run's task does not answer questions, or it was trained on a ready store (`store:PATH`).
    """
    run = Path(run)
    task, model, recipe, spec = restore_task(run)
    if task.record_type is Caption:
        raise UsageError(f"{run}: describes pictures and answers no questions; ask `clipvil caption IMAGES {run}`")
    if task.record_type is not Question:
        raise UsageError(f"{run}: the task {recipe.task} does not answer questions about pictures")
    found = with_encoder(run, task, model, recipe, spec)
    return Predictor(found.task, found.model, found.recipe, found.spec, found.encoder)
