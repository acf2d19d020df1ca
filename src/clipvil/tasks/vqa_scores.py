"""VQA accuracy as `Scores`: with intervals clustered by picture and the breakdowns people expect. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from clipvil.errors import DataError
from clipvil.files import atomic_write_json
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.metrics.vqa import ANNOTATORS, Mode, vqa_accuracy
from clipvil.records import Question
from clipvil.tasks.base import Prediction, Score, Scores

METRIC = "vqa_accuracy"
HEADINGS = ("answer_type", "question_type")
MODES = ("auto", *get_args(Mode))
"""What a recipe may ask for; auto is `fitting_mode`."""


def fitting_mode(questions: Sequence[Question]) -> Mode:
    """`official` where every question has ten annotators, as the official metric wants, else `lenient`."""
    return "official" if all(len(question.answers) == ANNOTATORS for question in questions) else "lenient"


def score_answers(said: Mapping[str, str], questions: Sequence[Question], mode: Mode, *, seed: int = 0) -> Scores:
    """Score answers by question id. `seed` is that of the bootstrap.

    Raises DataError on missing or unknown question ids and on questions without answers.
    """
    result = vqa_accuracy(said, questions, mode)
    images = {question.question_id: question.image_id for question in questions}
    groups: dict[str, dict[str, list[str]]] = {heading: {} for heading in HEADINGS}
    for question in questions:
        for heading, by_group in groups.items():
            group = getattr(question, heading)
            if group:
                by_group.setdefault(group, []).append(question.question_id)

    def interval(value: float, ids: Sequence[str]) -> Score:
        scores = [result.per_question[i] for i in ids]
        _, low, high = bootstrap_mean(scores, [images[i] for i in ids], seed=seed)
        # A group about one single picture has no interval to speak of: all that is known is the scale itself.
        return Score(value, len(ids), max(low, 0.0), min(high, 100.0))

    means = {"answer_type": result.per_answer_type, "question_type": result.per_question_type}

    return Scores(
        metric=METRIC,
        mode=result.mode,
        overall=interval(result.overall, list(images)),
        breakdowns={h: {g: interval(means[h][g], ids) for g, ids in sorted(v.items())} for h, v in groups.items() if v},
        per_record=result.per_question,
        images=images,
    )


def by_question(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Answers by question id. Raises DataError when a question is answered twice."""
    said: dict[str, str] = {}
    for prediction in predictions:
        if prediction.record_id in said:
            raise DataError(f"question {prediction.record_id} has two predictions")
        said[prediction.record_id] = prediction.output
    return said


def write_results(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the result file of the VQA v2 server: a JSON list of {"question_id": int, "answer": str}.

    Raises DataError when there are no predictions, a question comes twice or its id is not a whole number.
    """
    rows = []
    for key, answer in by_question(predictions).items():
        if not (key.isascii() and key.isdigit()):
            raise DataError(f"question id {key!r} is not a whole number, which the VQA server needs")
        rows.append({"question_id": int(key), "answer": answer})
    if not rows:
        raise DataError("no predictions to submit")
    atomic_write_json(path, rows, indent=None)
