"""Questions answered without training: the answer whose text, in CLIP's joint space, lies nearest to the picture."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec, TextEncoder, TwoTower
from clipvil.errors import CheckpointError, EncoderError, RecipeError, UsageError
from clipvil.features.base import pooled_of
from clipvil.metrics.vqa import Mode
from clipvil.metrics.vqa_normalise import simple_word
from clipvil.records import Question
from clipvil.tasks.base import Prediction, Scores
from clipvil.tasks.settings import one_of, read_settings
from clipvil.tasks.vqa_scores import METRIC, MODES, by_question, fitting_mode, score_answers, write_results
from clipvil.tasks.zero_shot_prompts import CANDIDATES, PROMPTS, Candidates, count_seen
from clipvil.text.answers import PUBLISHED_ANSWERS, AnswerVocabulary

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

TOP = 5
KEPT_BYTES = 2**28
"""Text vectors of whole questions that are remembered, the longest unused one forgotten first."""
_SAMPLE = 256


@dataclass(frozen=True)
class ZeroShotSettings:
    """A recipe's `task_settings`; see `clipvil.tasks.zero_shot_prompts` for prompts and candidates."""

    prompt: str = "authors"
    candidates: str = "all"
    answers: str | None = None
    """A file with one answer a line (`answers_vqa.txt`) instead of the training answers."""
    top_answers: int = PUBLISHED_ANSWERS - 1
    min_answer_count: int = 1
    mode: str = "auto"
    """Metric mode, as of the task vqa; `exact` keeps answers as they are written."""


class ZeroShotVqa:
    """The task `zero_shot_vqa`. Nothing is trained: training questions serve for the list of answers alone.

    Every picture is its pooled vector from the feature store, every question with each candidate answer a text; the
    answer is the text with the highest cosine, equal ones (words the tower does not know) by their place in the list,
    the more frequent first. The confidence is the softmax over the candidates at the scale that the two towers were
    trained with.
    """

    name = "zero_shot_vqa"
    metric = METRIC
    record_type: type = Question
    trains = False

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(ZeroShotSettings, settings, self.name)
        one_of(self.settings.prompt, tuple(PROMPTS), "prompt")
        one_of(self.settings.candidates, CANDIDATES, "candidates")
        one_of(self.settings.mode, MODES, "mode")
        self.top = TOP
        self.answers: AnswerVocabulary | None = None
        self._seen: dict[str, list[int]] = {}
        self._text_print = ""

    def prepare(self, train: Sequence[Question]) -> None:
        """Take the list of answers from the training questions, or from the named file."""
        chosen, exact = self.settings, self.settings.mode == "exact"
        self.answers = (
            AnswerVocabulary.load(chosen.answers, exact=exact)
            if chosen.answers
            else AnswerVocabulary.build(
                (r.answers for r in train), top=chosen.top_answers, min_count=chosen.min_answer_count, exact=exact
            )
        )
        if chosen.candidates == "seen":
            places = {answer: place for place, answer in enumerate(self._vocabulary().answers[1:])}
            self._seen = count_seen(
                ((r.question, map(str if exact else simple_word, r.answers)) for r in train), places
            )

    def assets(self) -> dict[str, Any]:
        """The answers, what questions were seen with them, and the fingerprint of the text side that was built."""
        return {"answers": self._vocabulary().to_json(), "seen": self._seen, "text": self._text_print}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back what `assets` returned. Raises DataError for anything else."""
        self.answers = AnswerVocabulary.from_json(assets.get("answers"))
        self._seen = {str(key): [int(p) for p in places] for key, places in dict(assets.get("seen") or {}).items()}
        self._text_print = str(assets.get("text") or "")

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """The text side of the encoder whose features are read. `model` must be empty: there is nothing to choose.

        Raises EncoderError where the encoder has no text side, UsageError where there is no picture to compare with,
        CheckpointError when the text side is not the one that a finished run used.
        """
        if model:
            raise RecipeError(f"the task {self.name} has no model to choose; leave 'model.{next(iter(model))}' out")
        if encoder.pooled_channels is None:
            raise UsageError(f"{encoder.name} has no pooled vector, which the task {self.name} compares with texts")
        from clipvil.encoders.registry import create_encoder
        from clipvil.encoders.weights import UntrainedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UntrainedWarning)  # `text` says it again
            both = create_encoder(encoder.name)
        if not isinstance(both, TwoTower):
            raise EncoderError(f"{encoder.name} has no text side, which the task {self.name} needs")
        text = both.text()
        if text.channels != encoder.pooled_channels:
            raise EncoderError(
                f"{encoder.name}: texts have {text.channels} channels, the stored pictures {encoder.pooled_channels}; "
                "extract the features again with this encoder"
            )
        if self._text_print and self._text_print != text.fingerprint():
            raise CheckpointError(
                f"the run used a text side of {encoder.name} with fingerprint {self._text_print}, the one here has "
                f"{text.fingerprint()}: other weights or another version"
            )
        self._text_print = text.fingerprint()
        return Matcher(text, self._vocabulary().spellings(), self.settings, self._seen)

    def refuses(self, encoder: str) -> str:
        """Why an encoder of that name cannot answer: one that has no text side, or sees no picture."""
        from clipvil.encoders.registry import may_have_text

        return "" if may_have_text(encoder) else "it has no text side to compare pictures with"

    def order(self, records: Sequence[Question]) -> list[int]:
        """The order to answer in: equal questions behind one another, so that each is encoded once."""
        first: dict[str, int] = {}
        for record in records:
            first.setdefault(record.question, len(first))
        return sorted(range(len(records)), key=lambda index: first[records[index].question])

    def estimate(self, model: nn.Module, records: Sequence[Question]) -> str:
        """What answering these records comes to, measured on a few texts, as a line for people."""
        matcher = cast(Matcher, model)
        questions = list(dict.fromkeys(record.question for record in records))
        total = sum(len(matcher.candidates(question)) for question in questions)
        speed = matcher.speed(questions)
        return (
            f"{len(records):,} questions, {len(questions):,} distinct; with their candidate answers {total:,} texts, "
            f"at {speed:,.0f} a second about {_duration(total / speed)}"
        )

    def collate(self, records: Sequence[Question], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: pooled (B, D) float32. Raises UsageError where the store keeps none."""
        pooled = pooled_of(features, [record.image_id for record in records])
        if pooled is None:
            raise UsageError(f"these features of {features.spec.name} were stored without pooled vectors")
        return {"pooled": pooled}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """There is none: raises UsageError."""
        raise UsageError(f"the task {self.name} trains nothing and so has no loss")

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Question]) -> list[Prediction]:
        """Best answer and the `top` best (five, unless somebody sets it), with their share of the softmax."""
        rows: dict[str, list[int]] = {}
        for row, record in enumerate(records):
            rows.setdefault(record.question, []).append(row)
        matcher, labels = cast(Matcher, model), self._vocabulary().spellings()
        pictures = functional.normalize(batch["pooled"].float(), dim=1)
        found: list[Prediction | None] = [None] * len(records)
        for question, mine in rows.items():
            texts, places = matcher.encode(question), matcher.candidates(question)
            cosines = (pictures[mine] @ texts.vectors.T)[:, texts.columns]
            shares = (matcher.scale * cosines).softmax(1)
            # Stable, so that texts the tower cannot tell apart keep the order of the answer list.
            order = cosines.argsort(dim=1, descending=True, stable=True)[:, : self.top]
            best = shares.gather(1, order)
            for row, values, picks in zip(mine, best.tolist(), order.tolist(), strict=True):
                top = tuple((labels[places[pick]], value) for pick, value in zip(picks, values, strict=True))
                found[row] = Prediction(records[row].question_id, records[row].image_id, top[0][0], top[0][1], top)
        return [prediction for prediction in found if prediction is not None]

    def score(self, predictions: Sequence[Prediction], records: Sequence[Question]) -> Scores:
        """VQA accuracy with intervals, as of the task vqa. Raises DataError as there."""
        return score_answers(by_question(predictions), records, self.mode(records))

    def mode(self, records: Sequence[Question]) -> Mode:
        """The metric mode that `score` uses for these records."""
        chosen = self.settings.mode
        return fitting_mode(records) if chosen == "auto" else cast(Mode, chosen)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write the result file of the VQA v2 server, as the task vqa does."""
        write_results(predictions, path)

    def _vocabulary(self) -> AnswerVocabulary:
        if self.answers is None:
            raise UsageError(f"the task {self.name} has no answers yet; call prepare or restore first")
        return self.answers


@dataclass(frozen=True)
class Texts:
    """The texts of one question: `vectors` (U, D) of unit length, those that the tower can tell apart, and `columns`
    (A,) int64, which of them each candidate answer has: candidates with one vector get one cosine, to the last bit.
    """

    vectors: Tensor
    columns: Tensor


class Matcher(nn.Module):
    """The text tower with the prompt: from questions to the vectors of their candidate answers."""

    def __init__(
        self,
        text: TextEncoder,
        labels: Sequence[str],
        settings: ZeroShotSettings,
        seen: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.tower = text.module  # so that the task's model moves and counts like any other
        self.text, self.labels = text, tuple(labels)
        self.scale = text.scale
        self.candidates = Candidates(settings.candidates, self.labels, seen)
        self._prompt = PROMPTS[settings.prompt]
        self._kept: OrderedDict[str, Texts] = OrderedDict()
        self._bytes = 0

    def texts(self, question: str) -> list[str]:
        """One text a candidate, in the order of `candidates(question)`."""
        return [self._prompt(question, self.labels[place]) for place in self.candidates(question)]

    def encode(self, question: str) -> Texts:
        """The texts of a question, encoded once as long as it is remembered.

        Questions go through the tower one at a time: put together with others, the last bits of a vector would depend
        on which others, and a run that was stopped could not go on to the very same numbers.
        """
        found = self._kept.get(question)
        if found is None:
            found = self._kept[question] = self._encode(question)
            self._bytes += found.vectors.nbytes
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].vectors.nbytes
        self._kept.move_to_end(question)
        return found

    def speed(self, questions: Sequence[str]) -> float:
        """Texts a second, measured on the texts of the first questions."""
        sample: list[str] = []
        for question in questions:
            sample += self.texts(question)
            if len(sample) >= _SAMPLE:
                break
        sample = sample[:_SAMPLE]
        self.text.encode(sample[:8])  # the first call is never typical
        start = time.perf_counter()
        self.text.encode(sample)
        return len(sample) / max(time.perf_counter() - start, 1e-9)

    def _encode(self, question: str) -> Texts:
        vectors = functional.normalize(self.text.encode(self.texts(question)).float(), dim=1)
        known: dict[bytes, int] = {}
        first = [known.setdefault(row.tobytes(), number) for number, row in enumerate(vectors.cpu().numpy())]
        rows, columns = torch.tensor(first).unique(return_inverse=True)
        return Texts(vectors[rows.to(vectors.device)], columns.to(vectors.device))


def _duration(seconds: float) -> str:
    for limit, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 1.5 * limit:
            return f"{seconds / limit:,.0f} {unit}"
    return f"{seconds:.0f} seconds"
