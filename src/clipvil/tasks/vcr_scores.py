"""VCR as `Scores`, and the columns in which 20 probabilities travel. Loads no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clipvil.errors import DataError
from clipvil.files import atomic_write
from clipvil.metrics.vcr import CHOICES, Gold, Said, VcrScores, vcr_scores
from clipvil.records import Commonsense
from clipvil.tasks.base import Prediction, Score, Scores

METRIC = "VCR accuracy"
ANSWERS = tuple(f"answer_{place}" for place in range(CHOICES))
RATIONALES = tuple(
    tuple(f"rationale_conditioned_on_a{given}_{place}" for place in range(CHOICES)) for given in range(CHOICES)
)
COLUMNS = (*ANSWERS, *(name for names in RATIONALES for name in names))
"""The 20 columns of the leaderboard's file, behind `annot_id`."""


def said_of(values: Mapping[str, float]) -> Said:
    """What columns by name say; those that are not there are not said."""
    answer = tuple(values[name] for name in ANSWERS if name in values)
    rationales = {}
    for given, names in enumerate(RATIONALES):
        found = tuple(values[name] for name in names if name in values)
        if found:
            rationales[given] = found
    return Said(answer, rationales)


def columns_of(said: Said) -> dict[str, float]:
    """The columns by name; the reverse of `said_of`."""
    out = dict(zip(ANSWERS, said.answer, strict=False))
    for given, values in said.rationales.items():
        out |= dict(zip(RATIONALES[given], values, strict=True))
    return out


def gold_of(records: Iterable[Commonsense]) -> dict[str, Gold]:
    """What is right by question id. Raises DataError for a question without a label, or that comes twice."""
    gold: dict[str, Gold] = {}
    for record in records:
        if record.annotation_id in gold:
            raise DataError(f"question {record.annotation_id} stands twice")
        if record.answer_label is None:
            raise DataError(f"question {record.annotation_id} has no answer_label", fix="score labelled questions only")
        gold[record.annotation_id] = Gold(record.image_id, record.answer_label, record.rationale_label)
    return gold


def by_question(predictions: Sequence[Prediction]) -> dict[str, Said]:
    """What is said by question id. Raises DataError when a question is answered twice."""
    said: dict[str, Said] = {}
    for prediction in predictions:
        if prediction.record_id in said:
            raise DataError(f"question {prediction.record_id} has two predictions")
        said[prediction.record_id] = said_of(dict(prediction.top))
    return said


def score_predictions(predictions: Sequence[Prediction], records: Iterable[Commonsense], *, seed: int = 0) -> Scores:
    """Judge predictions as `vcr_scores` does; raises as it does."""
    gold = gold_of(records)
    return as_scores(vcr_scores(by_question(predictions), gold, seed=seed), gold)


def as_scores(result: VcrScores, gold: Mapping[str, Gold]) -> Scores:
    """Q->AR where both subtasks were predicted, else the one that was; all of them as the breakdown `subtask`."""
    return Scores(
        metric=METRIC,
        mode=result.main,
        overall=_score(result, result.main),
        breakdowns={"subtask": {name: _score(result, name) for name in result.measured}},
        per_record={key: hits[result.main] for key, hits in result.per_record.items()},
        images={key: right.image_id for key, right in gold.items()},
    )


def write_columns(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the leaderboard's CSV: annot_id and the 20 columns, in the order of the predictions.

    Raises DataError where there are no predictions, and for one without all 20.
    """
    if not predictions:
        raise DataError("no predictions to write")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["annot_id", *COLUMNS])
    by_question(predictions)
    for prediction in predictions:
        values = dict(prediction.top)
        missing = [name for name in COLUMNS if name not in values]
        if missing:
            raise DataError(
                f"question {prediction.record_id} has no {missing[0]} ({len(missing)} of {len(COLUMNS)} are missing)",
                fix="the file wants answers and rationales: task_settings.subtask must be both",
            )
        writer.writerow([prediction.record_id, *(repr(float(values[name])) for name in COLUMNS)])
    with atomic_write(path) as out:
        out.write(stream.getvalue().encode("utf-8"))


def _score(result: VcrScores, name: str) -> Score:
    found = result.measured[name]
    return Score(found.value, found.n, found.low, found.high)
