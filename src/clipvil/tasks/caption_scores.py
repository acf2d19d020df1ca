"""Captions as tasks judge them: one prediction a picture, CIDEr-D first, everything times 100. Loads no torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipvil.errors import DataError
from clipvil.files import atomic_write_json
from clipvil.metrics.captions.native import TokenisedCorpus
from clipvil.metrics.captions.scores import CaptionScore, caption_scores
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks.base import Prediction, Score, Scores
from clipvil.text.ptb import tokenize

METRIC = "CIDEr-D"
MODE = "coco"
BESIDE = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L")
"""What is reported under the heading "metric"."""
SCALE = 100.0
_KEPT = 4
"""Splits whose references are kept tokenised."""

References = dict[str, list[str]]


def by_picture(captions: Sequence[Caption]) -> list[CaptionedImage]:
    """One record a picture with all its captions, in order of first appearance."""
    found: dict[str, list[Caption]] = {}
    for caption in captions:
        found.setdefault(caption.image_id, []).append(caption)
    return [CaptionedImage(image_id, tuple(own)) for image_id, own in found.items()]


class CaptionJudge:
    """Scores captions as the COCO evaluation does. The references of a split are tokenised once and kept."""

    def __init__(self) -> None:
        # By identity: the records of a run's split are one list for as long as it lasts. The list itself is kept with
        # them, so that no other can come to have its identity.
        self._kept: OrderedDict[int, tuple[Sequence[CaptionedImage], References]] = OrderedDict()

    def score(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[CaptionedImage],
        *,
        everything: bool = True,
        seed: int = 0,
    ) -> Scores:
        """CIDEr-D with its interval; with `everything` BLEU, ROUGE-L and the corpus's domains as breakdowns.

        Pictures without captions have a prediction and no score. Document frequencies are those of all references that
        are scored, and of a domain's own references for a domain, as NoCaps does it. `seed` is that of the bootstrap.

        Raises DataError on missing, unknown or double picture ids, and where no picture has a caption.
        """
        said, references = _outputs(predictions, records), self._references(records)
        hypotheses = dict(
            zip(references, tokenize([said[image_id] for image_id in references], mode="official"), strict=True)
        )
        values = TokenisedCorpus(list(hypotheses.values()), list(references.values())).cider_d() * SCALE
        per_record = dict(zip(references, values.tolist(), strict=True))
        return Scores(
            metric=METRIC,
            mode=MODE,
            overall=_mean(per_record, seed),
            breakdowns=_breakdowns(hypotheses, references, records, seed) if everything else {},
            per_record=per_record,
            images={image_id: image_id for image_id in per_record},
        )

    def _references(self, records: Sequence[CaptionedImage]) -> References:
        """The tokenised references by picture, of those that have any; all as one text, as the official one does it."""
        kept = self._kept.get(id(records))
        if kept is None:
            told = [record for record in records if record.told]
            if not told:
                raise DataError("no picture has a caption to compare with")
            flat = iter(tokenize([c.caption for record in told for c in record.told], mode="official"))
            kept = records, {record.image_id: [next(flat) for _ in record.told] for record in told}
            self._kept[id(records)] = kept
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return kept[1]


def _outputs(predictions: Sequence[Prediction], records: Sequence[CaptionedImage]) -> dict[str, str]:
    """Captions by picture, of every record's picture exactly one. Raises DataError."""
    said: dict[str, str] = {}
    for prediction in predictions:
        if prediction.record_id in said:
            raise DataError(f"picture {prediction.record_id} has two captions")
        said[prediction.record_id] = prediction.output
    known = {record.image_id for record in records}
    missing = next((image_id for image_id in known if image_id not in said), None)
    if missing is not None:
        raise DataError(f"picture {missing} has no caption")
    extra = next((image_id for image_id in said if image_id not in known), None)
    if extra is not None:
        raise DataError(f"a caption of picture {extra}, which is not among the pictures")
    return said


def _mean(per_record: Mapping[str, float], seed: int) -> Score:
    values = list(per_record.values())
    mean, low, high = bootstrap_mean(values, list(per_record), seed=seed, scale=(0.0, 10 * SCALE))
    # One single picture says nothing about others: the interval is the scale itself.
    return Score(mean, len(values), max(low, 0.0), min(high, 10 * SCALE))


def _breakdowns(
    said: Mapping[str, str], references: References, records: Sequence[CaptionedImage], seed: int
) -> dict[str, dict[str, Score]]:
    found = {"metric": _scaled(caption_scores(said, references, BESIDE, tokenised=True, seed=seed))}
    domains: dict[str, list[str]] = {}
    for record in records:
        if record.domain and record.image_id in references:
            domains.setdefault(record.domain, []).append(record.image_id)
    for domain, ids in sorted(domains.items()):
        mine, theirs = {i: said[i] for i in ids}, {i: references[i] for i in ids}
        score = _scaled(caption_scores(mine, theirs, (METRIC,), tokenised=True, seed=seed))[METRIC]
        found.setdefault("domain", {})[domain] = score
    return found


def _scaled(scores: Mapping[str, CaptionScore]) -> dict[str, Score]:
    return {
        name: Score(found.value * SCALE, found.n, found.low * SCALE, found.high * SCALE)
        for name, found in scores.items()
    }


def write_results(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the result file of the COCO server: a JSON list of {"image_id": int, "caption": str}.

    Raises DataError when there are no predictions, a picture comes twice or its id is not a whole number.
    """
    rows: dict[str, dict[str, int | str]] = {}
    for prediction in predictions:
        key = prediction.image_id
        if key in rows:
            raise DataError(f"picture {key} has two captions")
        if not (key.isascii() and key.isdigit()):
            raise DataError(f"picture id {key!r} is not a whole number, which the COCO server needs")
        rows[key] = {"image_id": int(key), "caption": prediction.output}
    if not rows:
        raise DataError("no predictions to submit")
    atomic_write_json(path, list(rows.values()), indent=None)
