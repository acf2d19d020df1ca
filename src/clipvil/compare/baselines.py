"""What questions are worth without a picture or a model: chance, and the commonest answers, by kind of question."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clipvil.compare.results import Baseline, Interval
from clipvil.metrics.entailment import LABELS
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.metrics.vqa import Mode, extend_to_ten, question_accuracy
from clipvil.metrics.vqa_normalise import normalise_lenient, normalise_official, simple_word
from clipvil.records import Entailment, Question
from clipvil.tasks.vqa_scores import HEADINGS
from clipvil.tasks.zero_shot_prompts import form_of_question
from clipvil.text.answers import AnswerVocabulary

CHANCE = "chance over all answers"
CHANCE_OF_TYPE = "chance by answer type"
MAJORITY = "majority answer overall"
MAJORITY_OF_TYPE = "majority by answer type"
MAJORITY_OF_QUESTION = "majority by question type"
LABEL_CHANCE = "chance over all labels"
MAJORITY_LABEL = "majority label"


@dataclass(frozen=True)
class Guess:
    """One way to answer without looking: the score of each question, 0 to 100, expected where it draws lots."""

    name: str
    scores: Mapping[str, float]


def guesses(train: Sequence[Question], test: Sequence[Question], answers: Sequence[str], mode: Mode) -> list[Guess]:
    """Chance over the answer list and over its answers of the question's type; the commonest training answer overall,

    of the type, and of the question type (where the corpus has question types). The type is the one that the annotation
    of the test question states, and where it states none the one its words suggest; an answer belongs to the type of
    the training questions that it answers most.
    """
    counts = _Counts(train)
    out = [
        Guess(CHANCE, _chance(test, answers, lambda answer: "", lambda question: "", mode)),
        Guess(CHANCE_OF_TYPE, _chance(test, answers, counts.type_of, kind_of, mode)),
        Guess(MAJORITY, _constant(test, {q.question_id: counts.commonest() for q in test}, mode)),
        Guess(
            MAJORITY_OF_TYPE, _constant(test, {q.question_id: counts.commonest(kind=kind_of(q)) for q in test}, mode)
        ),
    ]
    if any(question.question_type for question in train):
        said = {q.question_id: counts.commonest(question_type=q.question_type) for q in test}
        out.append(Guess(MAJORITY_OF_QUESTION, _constant(test, said, mode)))
    return out


def baselines(
    task: str, split: str, train: Sequence[Question], test: Sequence[Question], answers: str | None, mode: Mode
) -> list[Baseline]:
    """The guesses as rows of a comparison, with intervals over pictures. `answers` is a file instead of the training

    answers, as in `task_settings.answers`.
    """
    vocabulary = AnswerVocabulary.load(answers) if answers else AnswerVocabulary.build(r.answers for r in train)
    images = {question.question_id: question.image_id for question in test}
    groups: dict[str, dict[str, list[str]]] = {heading: {} for heading in HEADINGS}
    for question in test:
        for heading, members in groups.items():
            if getattr(question, heading):
                members.setdefault(getattr(question, heading), []).append(question.question_id)
    return [
        Baseline(
            name=guess.name,
            task=task,
            split=split,
            mean=_interval(guess.scores, images, list(images)),
            breakdowns={
                heading: {group: _interval(guess.scores, images, ids) for group, ids in sorted(members.items())}
                for heading, members in groups.items()
                if members
            },
        )
        for guess in guesses(train, test, vocabulary.spellings(), mode)
    ]


def label_baselines(task: str, split: str, train: Sequence[Entailment], test: Sequence[Entailment]) -> list[Baseline]:
    """Chance over the three labels, and the commonest label of the training pairs, for a split of labelled pairs."""
    images = {pair.pair_id: pair.image_id for pair in test}
    members: dict[str, list[str]] = {}
    for pair in test:
        members.setdefault(pair.label, []).append(pair.pair_id)
    counts = Counter(pair.label for pair in train)
    commonest = min(counts, key=lambda label: (-counts[label], label))
    rows = {
        LABEL_CHANCE: dict.fromkeys(images, 100.0 / len(LABELS)),
        MAJORITY_LABEL: {pair.pair_id: 100.0 * (pair.label == commonest) for pair in test},
    }
    return [
        Baseline(
            name=name,
            task=task,
            split=split,
            mean=_interval(scores, images, list(images)),
            breakdowns={"label": {label: _interval(scores, images, ids) for label, ids in sorted(members.items())}},
        )
        for name, scores in rows.items()
    ]


def kind_of(question: Question) -> str:
    """The answer type that the annotation states, or what the words suggest."""
    return question.answer_type or form_of_question(question.question)


class _Counts:
    """How often each answer was given in training: overall, by answer type, by question type."""

    def __init__(self, train: Sequence[Question]) -> None:
        self.overall: Counter[str] = Counter()
        self.by_kind: dict[str, Counter[str]] = defaultdict(Counter)
        self.by_question: dict[str, Counter[str]] = defaultdict(Counter)
        written: Counter[str] = Counter()
        for question in train:
            written.update(extend_to_ten(question.answers))
            given = Counter(simple_word(answer) for answer in extend_to_ten(question.answers))
            self.overall.update(given)
            self.by_kind[kind_of(question)].update(given)
            self.by_question[question.question_type].update(given)
        self._spelling: dict[str, str] = {}
        for answer, _ in sorted(written.items(), key=lambda item: (-item[1], item[0])):
            self._spelling.setdefault(simple_word(answer), answer)

    def commonest(self, *, kind: str | None = None, question_type: str | None = None) -> str:
        """The commonest answer, equals by the alphabet; of all questions where the group was never seen."""
        counts = self.by_kind.get(kind) if kind is not None else None
        counts = self.by_question.get(question_type) if question_type is not None else counts
        return self._spelling[min((counts or self.overall).items(), key=lambda item: (-item[1], item[0]))[0]]

    def type_of(self, answer: str) -> str:
        """The type of the questions that an answer was given to most often."""
        word = simple_word(answer)
        found = [(counts[word], kind) for kind, counts in self.by_kind.items() if counts[word]]
        return max(found)[1] if found else ""


def _constant(test: Sequence[Question], said: Mapping[str, str], mode: Mode) -> dict[str, float]:
    return {q.question_id: question_accuracy(said[q.question_id], q.answers, mode) for q in test}


def _chance(
    test: Sequence[Question],
    answers: Sequence[str],
    type_of_answer: Callable[[str], str],
    type_of_question: Callable[[Question], str],
    mode: Mode,
) -> dict[str, float]:
    """The expected score of an answer drawn evenly from those of the question's type: no lots are drawn."""
    normalise = normalise_official if mode == "official" else normalise_lenient
    # Only answers that read like one of the annotators' can earn anything.
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    sizes: Counter[str] = Counter()
    for answer in answers:
        kind = type_of_answer(answer)
        alike[kind, normalise(answer)].append(answer)
        sizes[kind] += 1
    out = {}
    for question in test:
        kind = type_of_question(question)
        heard = {normalise(answer) for answer in question.answers}
        earning = [answer for form in heard for answer in alike.get((kind, form), ())]
        total = sum(question_accuracy(answer, question.answers, mode) for answer in earning)
        out[question.question_id] = total / sizes[kind] if sizes[kind] else 0.0
    return out


def _interval(scores: Mapping[str, float], images: Mapping[str, str], ids: Sequence[str]) -> Interval:
    value, low, high = bootstrap_mean([scores[i] for i in ids], [images[i] for i in ids])
    # One single picture cannot be redrawn: all that is known is the scale.
    return Interval(
        value=value, n=len(ids), low=low if math.isfinite(low) else 0.0, high=high if math.isfinite(high) else 100.0
    )
