"""Visual entailment as `Scores`: accuracy with intervals clustered by picture, broken down by class. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clipvil.errors import DataError
from clipvil.files import atomic_write_json
from clipvil.metrics.entailment import EntailmentScores, Measured, entailment_scores
from clipvil.records import Entailment
from clipvil.tasks.base import Prediction, Score, Scores

METRIC = "entailment_accuracy"
MODE = "accuracy"


def score_labels(said: Mapping[str, str], pairs: Sequence[Entailment], *, seed: int = 0) -> Scores:
    """Score labels by pair id. Raises DataError as `entailment_scores` does."""
    return as_scores(entailment_scores(said, pairs, seed=seed), pairs)


def as_scores(result: EntailmentScores, pairs: Sequence[Entailment]) -> Scores:
    """The accuracy; by `label` (which is the recall of the class), and `precision` and `f1` by class.

    A class that the split has not, or that nobody named, has no value there and is left out.
    """
    parts = {
        "label": {name: found.recall for name, found in result.classes.items()},
        "precision": {name: found.precision for name, found in result.classes.items()},
        "f1": {name: found.f1 for name, found in result.classes.items()},
    }
    return Scores(
        metric=METRIC,
        mode=MODE,
        overall=_score(result.accuracy),
        breakdowns={
            heading: {name: _score(value) for name, value in by_class.items() if value.n}
            for heading, by_class in parts.items()
        },
        per_record=result.per_pair,
        images={pair.pair_id: pair.image_id for pair in pairs},
    )


def by_pair(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Labels by pair id. Raises DataError when a pair is judged twice."""
    said: dict[str, str] = {}
    for prediction in predictions:
        if prediction.record_id in said:
            raise DataError(f"pair {prediction.record_id} has two predictions")
        said[prediction.record_id] = prediction.output
    return said


def write_labels(predictions: Sequence[Prediction], path: Path) -> None:
    """Write a JSON list of {"pairID", "gold_label"}, in the corpus's own field names: SNLI-VE has no server.

    Raises DataError when there are no predictions or a pair comes twice.
    """
    rows = [{"pairID": key, "gold_label": label} for key, label in by_pair(predictions).items()]
    if not rows:
        raise DataError("no predictions to write")
    atomic_write_json(path, rows, indent=None)


def _score(found: Measured) -> Score:
    return Score(found.value, found.n, found.low, found.high)
