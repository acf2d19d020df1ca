"""Pre-training as `Scores`: how often each objective is met, and their mean. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipvil.errors import DataError
from clipvil.metrics.statistics import balanced_mean, bootstrap_mean
from clipvil.tasks.base import Prediction, Score, Scores

METRIC = "pretraining_accuracy"
MODE = "mean of objectives"


def score_objectives(predictions: Sequence[Prediction], images: Mapping[str, str], *, seed: int = 0) -> Scores:
    """Score what `Pretraining.predict` measured; `images` is the picture of every record that must be there.

    Each objective's accuracy (0 to 100) is the mean over the records that it asked something of: of masked words the
    share that was found, of answers what the corpus gives for it. The score is the mean over objectives: it does
    not move with the share of questions in a corpus. `breakdowns["objective"]` has them one by one; `per_record` is the
    mean over the objectives of a record, and their mean is not the score. Records that nothing was asked of count
    nowhere. Raises DataError on missing, unknown and double record ids, and where nothing was asked at all.
    """
    met: dict[str, dict[str, float]] = {}
    for prediction in predictions:
        key = prediction.record_id
        if key in met:
            raise DataError(f"record {key} has two predictions")
        if key not in images:
            raise DataError(f"a prediction for {key}, which is not among the records")
        met[key] = {name: 100.0 * value for name, value in prediction.top}
    missing = next((key for key in images if key not in met), None)
    if missing is not None:
        raise DataError(f"no prediction for {missing}")
    by_objective: dict[str, dict[str, float]] = {}
    for key, found in met.items():
        for name, value in found.items():
            by_objective.setdefault(name, {})[key] = value
    if not by_objective:
        raise DataError("nothing was asked of any of the records")
    groups = [(list(values.values()), [images[key] for key in values]) for values in by_objective.values()]
    asked = {key: found for key, found in met.items() if found}
    return Scores(
        metric=METRIC,
        mode=MODE,
        overall=_score(balanced_mean(groups, seed=seed), len(asked)),
        breakdowns={
            "objective": {
                name: _score(bootstrap_mean(values, pictures, seed=seed), len(values))
                for name, (values, pictures) in zip(by_objective, groups, strict=True)
            }
        },
        per_record={key: sum(found.values()) / len(found) for key, found in asked.items()},
        images={key: images[key] for key in asked},
    )


def _score(found: tuple[float, float, float], n: int) -> Score:
    value, low, high = found
    # About one single picture all that is known is the scale itself.
    return Score(value, n, max(low, 0.0), min(high, 100.0))
