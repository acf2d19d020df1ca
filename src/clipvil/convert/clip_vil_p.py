"""CLIP-ViL_p as its authors save it: `EpochNN_LXRT.pth` of pre-training, `BEST.pth` and `LAST.pth` of fine-tuning.

Both are plain state dicts of a wrapped model. Body and heads become a `ClipVilPModel`, the ResNet inside becomes an
encoder of its own (`clip_vil_p_encoder`), and what neither uses is dropped with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from clipvil.convert.base import Sizes
from clipvil.models.clip_vil_p import HEADS, ClipVilPModel
from clipvil.models.clip_vil_p import build as build_model

PRETRAINED, FINE_TUNED = "bert.", "lxrt_encoder.model.bert."
VISUAL = "encoder.visual_model.visual."
DECODER = "cls.predictions.decoder.weight"
_WORDS = "embeddings.word_embeddings.weight"
_HEAD_SIZE = 64  # of every BERT: no shape tells the number of heads

# Beginnings of our names, and what stands in their place: behind the body's prefix, or at the top.
_BODY: Sequence[tuple[str, str]] = (
    (r"text\.words", "embeddings.word_embeddings"),
    (r"text\.positions", "embeddings.position_embeddings"),
    (r"text\.segments", "embeddings.token_type_embeddings"),
    (r"text\.norm", "embeddings.LayerNorm"),
    (r"grid\.rows", "encoder.visual_pos.x_position_embedding"),
    (r"grid\.columns", "encoder.visual_pos.y_position_embedding"),
    (r"grid\.project", "encoder.visn_fc.visn_fc"),
    (r"grid\.norm", "encoder.visn_fc.visn_layer_norm"),
    (r"blocks\.(\d+)\.(query|key|value)", r"encoder.layer.\1.attention.self.\2"),
    (r"blocks\.(\d+)\.out", r"encoder.layer.\1.attention.output.dense"),
    (r"blocks\.(\d+)\.norm_attention", r"encoder.layer.\1.attention.output.LayerNorm"),
    (r"blocks\.(\d+)\.wide", r"encoder.layer.\1.intermediate.dense"),
    (r"blocks\.(\d+)\.back", r"encoder.layer.\1.output.dense"),
    (r"blocks\.(\d+)\.norm_feed", r"encoder.layer.\1.output.LayerNorm"),
    (r"pooler", "pooler.dense"),
)
_HEADS: Sequence[tuple[str, str]] = (
    (r"mlm\.dense", "cls.predictions.transform.dense"),
    (r"mlm\.norm", "cls.predictions.transform.LayerNorm"),
    (r"mlm", "cls.predictions"),
    (r"itm", "cls.seq_relationship"),
)
_ANSWERS: Sequence[tuple[str, str]] = (
    (r"answers\.hidden", "logit_fc.0"),
    (r"answers\.norm", "logit_fc.2"),
    (r"answers\.out", "logit_fc.3"),
)
_PRETRAINING = r"cls\.(predictions\.(bias|transform\.(dense|LayerNorm)\.(weight|bias))|seq_relationship\.(weight|bias))"


@dataclass
class ClipVilPSource:
    """A `Source` for one layout: the prefix of the body, that of the answer head, and the heads that are there."""

    body: str
    answer_head: str
    heads: Collection[str]
    TASK: str = "vqa"
    MODEL: str = "clip_vil_p"
    PRESET: str = "published"
    OPTIONS: Sequence[str] = ("behaviour", "pooler", "heads", "dropout", "keep_cells", "checkpointing")
    TITLE: str = "CLIP-ViL_p checkpoint"
    VOCABULARIES: str = "--words and --answers"
    DROPPED: Sequence[tuple[str, str]] = ()
    """The encoder's own keys are not among them."""

    def __post_init__(self) -> None:
        encoder = re.escape(self.body + "encoder.")
        self.DROPPED = (
            (encoder + r"visn_fc\.box_(fc|layer_norm)\..*", "the branch for boxes, which the original never runs"),
            (encoder + r"visual_model\.(?!visual\.).*", "CLIP's text tower, overwritten with noise and never run"),
            (re.escape(DECODER), "the word table under a second name"),
            (_PRETRAINING, "a head of pre-training, which the recipe's task has not"),
        )

    def sizes(self, state: Mapping[str, Tensor]) -> Sizes:
        """Read from the shapes, but for the number of attention heads; see `Source.sizes`."""
        words, hidden = state[self.body + _WORDS].shape
        layers = 0
        while self.source_name(f"body.blocks.{layers}.wide.weight") in state:
            layers += 1
        if layers == 0:
            raise KeyError(self.source_name("body.blocks.0.wide.weight"))
        settings = {
            "hidden": hidden,
            "layers": layers,
            "feed_forward": state[self.source_name("body.blocks.0.wide.weight")].shape[0],
            "text_positions": state[self.source_name("body.text.positions.weight")].shape[0],
            "segments": state[self.source_name("body.text.segments.weight")].shape[0],
            "grid_positions": state[self.source_name("body.grid.rows.weight")].shape[0],
        }
        if hidden % _HEAD_SIZE == 0:
            settings["heads"] = hidden // _HEAD_SIZE
        channels = state[self.source_name("body.grid.project.weight")].shape[1]
        answers = state[self.source_name("heads.answers.out.bias")].shape[0] if "answers" in self.heads else 0
        return Sizes(settings, words, answers, channels)

    def source_name(self, name: str) -> str:
        """What the checkpoint calls our parameter `name`. Raises KeyError for one that it does not have."""
        part, _, rest = name.partition(".")
        tables = ((self.body, _BODY),) if part == "body" else (("", _HEADS), (self.answer_head, _ANSWERS))
        for prefix, table in tables:
            for pattern, theirs in table:
                if match := re.match(pattern + r"\.", rest):
                    return prefix + match.expand(theirs) + "." + rest[match.end() :]
        raise KeyError(name)

    def assets(self, sizes: Sizes, words: str | Path | None, answers: str | Path | None) -> dict[str, Any] | None:
        """None: `clip_vil_p_folder.convert` reads the vocabularies itself, which hang on the heads that are there."""
        return None

    def build(self, settings: Mapping[str, Any], **sizes: int) -> ClipVilPModel:
        """The model of these settings, without an encoder."""
        return build_model(
            settings,
            words=sizes["words"],
            channels=sizes["channels"],
            answers=sizes["answers"],
            heads=self.heads,
        )


def layout(state: Mapping[str, Tensor]) -> ClipVilPSource:
    """Which of the two layouts a state dict (without its leading `module.`) has. Raises KeyError for neither."""
    tuned = FINE_TUNED + _WORDS in state
    if not tuned and PRETRAINED + _WORDS not in state:
        raise KeyError(PRETRAINED + _WORDS)
    answers = "" if tuned else "answer_head."
    signs = {
        "mlm": "cls.predictions.bias",
        "itm": "cls.seq_relationship.weight",
        "answers": answers + "logit_fc.3.bias",
    }
    return ClipVilPSource(
        FINE_TUNED if tuned else PRETRAINED, answers, tuple(head for head in HEADS if signs[head] in state)
    )
