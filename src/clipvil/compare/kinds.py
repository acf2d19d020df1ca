"""What a comparison says of a task by its metric: the scale, the words, and what its breakdowns are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clipvil.metrics.statistics import Scale

_USUAL_KINDS = ("yes/no", "number", "other")


@dataclass(frozen=True)
class Kind:
    """Everything that differs between metrics in table, report and statistics."""

    unit: str
    """Behind a score: ` %`, or nothing."""
    axis: str
    """The metric as an axis and a caption name it; `{metric}` stands for its name."""
    scale: Scale
    """The least and the greatest that a record can score."""
    records: str
    """What is scored one by one, in the plural."""
    clustered: str
    """What a bootstrap redraws."""
    floor: str
    """What the row without pictures is, after a `which`."""
    floor_note: str
    """The same under its name in a table."""
    gives_away: str
    """What that row shows."""
    columns: str
    """The breakdown that stands beside the score in tables."""
    columns_note: str
    columns_shown: tuple[str, ...]
    """Which of its groups, where not all have room; the others stand in a table of their own."""
    output: str
    """The heading of the gallery."""
    ways: str
    """What the table of all ways says they do."""
    captions: bool = False
    untrained_is_baseline: bool = False
    """Whether a task that trains nothing is what those that are scored alike are held against."""
    walks: bool = False

    @property
    def redrawn(self) -> str:
        """What a bootstrap redraws, in a word."""
        return "paths" if self.walks else "pictures"

    def name(self, metric: str) -> str:
        """The metric for an axis."""
        return self.axis.format(metric=metric)

    def column_order(self, found: list[str]) -> list[str]:
        """The groups that are shown, in the order in which they are always reported, unknown ones last."""
        found = [name for name in found if not self.columns_shown or name in self.columns_shown]
        usual = self.columns_shown or _USUAL_KINDS
        return [k for k in usual if k in found] + [k for k in found if k not in usual]


ACCURACY = Kind(
    unit=" %",
    axis="accuracy, %",
    scale=(0.0, 100.0),
    records="questions",
    clustered="pictures with all their questions",
    floor="sees no picture",
    floor_note="sees no picture",
    gives_away="what the questions alone give away",
    columns="answer_type",
    columns_note="by kind of answer",
    columns_shown=(),
    output="What they answered",
    ways="answering the same questions",
)
CHOICES = replace(
    ACCURACY,
    gives_away="what questions and choices alone give away",
    columns="subtask",
    columns_note="by what is asked: answers, rationales given the right answer, both",
    columns_shown=("Q->A", "QA->R"),
    output="What they chose",
)
CAPTIONS = Kind(
    unit="",
    axis="{metric}",
    scale=(0.0, 1000.0),
    records="pictures",
    clustered="pictures",
    floor="is a picture-blind language model",
    floor_note="picture-blind language model",
    gives_away="a picture-blind language model, which writes the likeliest caption of all",
    columns="metric",
    columns_note="by other metrics, times 100",
    columns_shown=("BLEU-4", "ROUGE-L"),
    output="What they wrote",
    ways="captioning the same pictures",
    captions=True,
    untrained_is_baseline=True,
)
WALKS = Kind(
    unit=" %",
    axis="success rate, %",
    scale=(0.0, 100.0),
    records="instructions",
    clustered="paths with all their instructions",
    floor="sees nothing but the ways that lead on",
    floor_note="sees no view, only where ways lead",
    gives_away="what instructions and the shape of the houses alone give away",
    columns="metric",
    columns_note="by other metrics, in percent",
    columns_shown=("OSR", "SPL", "nDTW", "sDTW", "CLS"),
    output="Where they went",
    ways="following the same instructions",
    walks=True,
)
OTHER = Kind(
    unit="",
    axis="{metric}",
    scale=(0.0, 100.0),
    records="records",
    clustered="pictures with all their records",
    floor="sees no picture",
    floor_note="sees no picture",
    gives_away="what is known without a picture",
    columns="answer_type",
    columns_note="by kind of answer",
    columns_shown=(),
    output="What they answered",
    ways="doing the same",
)


def kind_of(metric: str) -> Kind:
    """The kind of a metric by its name; that of CIDEr can exceed 100, as papers print it."""
    if metric.startswith("CIDEr"):
        return CAPTIONS
    if metric == "success rate":
        return WALKS
    if metric == "VCR accuracy":
        return CHOICES
    return ACCURACY if "acc" in metric.lower() else OTHER
