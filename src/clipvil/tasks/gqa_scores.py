"""GQA's scores as `Scores`: with intervals clustered by picture and the official breakdowns. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipvil.metrics.gqa import GqaQuestion, GqaScores
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.tasks.base import Score, Scores

METRIC = "gqa_accuracy"


def with_intervals(result: GqaScores, questions: Mapping[str, GqaQuestion], *, seed: int = 0) -> Scores:
    """Accuracy overall and by kind of question with 95 % intervals; `seed` is that of the bootstrap."""
    images = {key: questions[key].image_id for key in result.per_question}

    def interval(value: float, ids: Sequence[str]) -> Score:
        _, low, high = bootstrap_mean([result.per_question[i] for i in ids], [images[i] for i in ids], seed=seed)
        # A group about one single picture has no interval to speak of: all that is known is the scale itself.
        return Score(value, len(ids), max(low, 0.0), min(high, 100.0))

    return Scores(
        metric=METRIC,
        mode=result.mode,
        overall=interval(result.scores["accuracy"], list(images)),
        breakdowns={
            heading: {
                name: interval(value, result.groups[heading][name]) for name, value in result.breakdown(heading).items()
            }
            for heading in result.groups
        },
        per_record=result.per_question,
        images=images,
    )
