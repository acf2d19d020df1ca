"""The typed records that datasets yield and everything above them speaks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caption:
    """One sentence about one picture (COCO captions, Flickr, alt-text).

    `tokens` are the words as the corpus itself gives them (Karpathy's files); empty where it does not. `domain` is the
    part of the corpus that scores are reported apart for (NoCaps). A picture without captions, as in a test set, is one
    record with an empty caption and no id.
    """

    image_id: str
    caption: str
    caption_id: str = ""
    tokens: tuple[str, ...] = ()
    domain: str = ""


@dataclass(frozen=True)
class CaptionedImage:
    """One picture with all its captions, in the order of the corpus: what captioning trains on and is judged by."""

    image_id: str
    captions: tuple[Caption, ...] = ()

    @property
    def told(self) -> tuple[Caption, ...]:
        """The captions that say something; none where the corpus keeps them to itself."""
        return tuple(caption for caption in self.captions if caption.caption.strip() or caption.tokens)

    @property
    def domain(self) -> str:
        """The part of the corpus that the picture belongs to."""
        return self.captions[0].domain if self.captions else ""


@dataclass(frozen=True)
class Question:
    """One question about one picture (VQA v2, GQA, easy-VQA, custom files).

    `answers` are kept exactly as given (ten in VQA v2, one elsewhere, empty for a test set without answers).
    `answer_type` is "yes/no", "number" or "other"; empty strings mean that the corpus does not say.
    """

    question_id: str
    image_id: str
    question: str
    answers: tuple[str, ...] = ()
    answer_type: str = ""
    question_type: str = ""
    multiple_choice_answer: str = ""


@dataclass(frozen=True)
class Entailment:
    """One hypothesis about one picture (SNLI-VE); label is entailment, neutral or contradiction.

    An empty label means that the corpus gives none. `premise` is the caption that the hypothesis was written about,
    which no model is shown; `annotators` are the labels of single people, as many as there are.
    """

    pair_id: str
    image_id: str
    hypothesis: str
    label: str = ""
    premise: str = ""
    annotators: tuple[str, ...] = ()


@dataclass(frozen=True)
class PretrainingPair:
    """One sentence about one picture, to be pre-trained on (LXMERT's files, or any corpus turned into such pairs).

    `source` is the corpus that the sentence comes from ("mscoco", "vqa"); `labels` are (answer, score in 0..1) where it
    is a question whose answers are known.
    """

    uid: str
    image_id: str
    sentence: str
    source: str
    labels: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Commonsense:
    """One VCR question with four answers, four rationales, and the objects that its tags name.

    A sentence is a tuple of tokens: a word, or a tuple of object numbers from 0 (a tag; several numbers are a group).
    `objects` are class names ("person"), `boxes` their x1, y1, x2, y2 in pixels of a picture of `size` (width, height),
    all empty where nobody asked for them. Labels are None where the corpus keeps them to itself.
    """

    annotation_id: str
    image_id: str
    question: tuple[str | tuple[int, ...], ...]
    answers: tuple[tuple[str | tuple[int, ...], ...], ...]
    rationales: tuple[tuple[str | tuple[int, ...], ...], ...] = ()
    answer_label: int | None = None
    rationale_label: int | None = None
    objects: tuple[str, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    size: tuple[float, float] | None = None


@dataclass(frozen=True)
class Episode:
    """One navigation episode (R2R, RxR): an instruction for a path of viewpoints in a scan; heading in radians.

    `path_id` is shared by the instructions of one path; `language` is as the corpus writes it ("en", "hi-IN"). A test
    set without reference paths gives the first viewpoint alone. `extra` holds what only some corpora say.
    """

    episode_id: str
    scan: str
    instruction: str
    path: tuple[str, ...]
    heading: float = 0.0
    language: str = "en"
    path_id: str = ""
    extra: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def image_id(self) -> str:
        """What is redrawn together when intervals are computed: the path, which several instructions tell."""
        return f"{self.scan}/{self.path_id or '-'.join((self.path[0], self.path[-1]))}"
