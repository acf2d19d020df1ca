"""MMF's Pythia, the single-stream grid model that CLIP-ViL-Direct configures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from clipvil.convert.base import Sizes, Source, loaded, translate
from clipvil.convert.mmf_vocabularies import VOCABULARIES, assets
from clipvil.models.pythia import Pythia, build

__all__ = [
    "DROPPED",
    "MODEL",
    "OPTIONS",
    "PRESET",
    "TASK",
    "TITLE",
    "VOCABULARIES",
    "assets",
    "build",
    "from_mmf",
    "sizes",
    "source_name",
]

TASK, MODEL, PRESET, TITLE = "vqa", "pythia", "published", "Pythia checkpoint of MMF"
OPTIONS = ("text_mask", "dropout")
DROPPED: Sequence[tuple[str, str]] = ()

# Our name -> the checkpoint's.
_ATTENTION = "image_feature_embeddings_list.0.0.image_attention_model.module."
_NAMES = {
    "words": "word_embedding",
    "question.lstm": "text_embeddings.0.module.recurrent_unit",
    "question.hidden": "text_embeddings.0.module.conv1",
    "question.glimpses": "text_embeddings.0.module.conv2",
    "attention.image.linear": _ATTENTION + "combination_layer.module.fa_image.layers.0",
    "attention.question.linear": _ATTENTION + "combination_layer.module.fa_txt.layers.0",
    "attention.score": _ATTENTION + "transform.module.lc",
    "fuse_image.linear": "image_text_multi_modal_combine_layer.module.fa_image.layers.0",
    "fuse_question.linear": "image_text_multi_modal_combine_layer.module.fa_txt.layers.0",
    "narrow.hidden.linear": "classifier.module.f_o_text.layers.0",
    "narrow.out": "classifier.module.linear_text",
    "wide.hidden.linear": "classifier.module.f_o_image.layers.0",
    "wide.out": "classifier.module.linear_image",
}


def source_name(name: str) -> str:
    """What MMF's checkpoints call our parameter `name`."""
    module, _, leaf = name.rpartition(".")
    return f"{_NAMES[module]}.{leaf}"


def sizes(state: Mapping[str, Tensor]) -> Sizes:
    """Read from the shapes; see `Source.sizes`."""
    words, word_size = state["word_embedding.weight"].shape
    attention, channels = state[source_name("attention.image.linear.weight_v")].shape
    answers, narrow = state[source_name("narrow.out.weight")].shape
    settings = {
        "word_size": word_size,
        "lstm_size": state[source_name("question.lstm.weight_hh_l0")].shape[1],
        "question_hidden": state[source_name("question.hidden.weight")].shape[0],
        "question_glimpses": state[source_name("question.glimpses.weight")].shape[0],
        "attention_size": attention,
        "fusion_size": state[source_name("fuse_image.linear.weight_v")].shape[0],
        "narrow_size": narrow,
        "wide_size": state[source_name("wide.out.weight")].shape[1],
    }
    return Sizes(settings, words, answers, channels)


def from_mmf(state: Mapping[str, Tensor]) -> Pythia:
    """A published Pythia from the parameters of a checkpoint (names without a leading "model.").

    Raises CheckpointError naming what is missing, left over or misshapen.
    """
    kind = cast(Source, sys.modules[__name__])
    return cast(Pythia, loaded(kind, translate(kind, state)))
