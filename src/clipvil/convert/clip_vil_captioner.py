"""The transformer captioner of CLIP-ViL-Direct (ImageCaptioning.pytorch's names)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from clipvil.convert.base import Sizes, Source, loaded, translate
from clipvil.errors import DataError, UsageError
from clipvil.models.transformer_captioner import TransformerCaptioner, build
from clipvil.text.caption_vocabulary import CaptionVocabulary

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
    "from_clip_vil",
    "sizes",
    "source_name",
]

TASK, MODEL, PRESET = "captioning", "transformer_captioner", "published"
TITLE, VOCABULARIES = "captioner checkpoint of CLIP-ViL", "--words"
OPTIONS = ("heads", "dropout", "cell_dropout")
DROPPED: Sequence[tuple[str, str]] = (
    (r"model\.tgt_embed\.1\.pe", "the fixed table of positions, which is worked out"),
)

# Beginnings of our names, numbers kept, and what stands in their place in the checkpoint.
_MODULES: Sequence[tuple[str, str]] = (
    (r"cells\.project", "att_embed.0"),
    (r"(encoder|decoder)_norm", r"model.\1.norm"),
    (r"(encoder|decoder)\.(\d+)\.norm_attention", r"model.\1.layers.\2.sublayer.0.norm"),
    (r"(encoder|decoder)\.(\d+)\.attention", r"model.\1.layers.\2.self_attn"),
    (r"encoder\.(\d+)\.norm_feed", r"model.encoder.layers.\1.sublayer.1.norm"),
    (r"decoder\.(\d+)\.norm_picture", r"model.decoder.layers.\1.sublayer.1.norm"),
    (r"decoder\.(\d+)\.picture", r"model.decoder.layers.\1.src_attn"),
    (r"decoder\.(\d+)\.norm_feed", r"model.decoder.layers.\1.sublayer.2.norm"),
    (r"(encoder|decoder)\.(\d+)\.feed", r"model.\1.layers.\2.feed_forward"),
    (r"words\.table", "model.tgt_embed.0.lut"),
    (r"output", "model.generator.proj"),
)
# Layers inside those modules that are numbered there and named here.
_LAYERS: Mapping[str, str] = {
    "query": "linears.0",
    "key": "linears.1",
    "value": "linears.2",
    "out": "linears.3",
    "wide": "w_1",
    "back": "w_2",
}
_NORM: Mapping[str, str] = {"weight": "a_2", "bias": "b_2"}


def source_name(name: str) -> str:
    """What the published checkpoints call our parameter `name`. Raises KeyError for one that they do not have."""
    for pattern, theirs in _MODULES:
        if match := re.match(pattern + r"\.", name):
            *inside, leaf = name[match.end() :].split(".")
            beginning = match.expand(theirs)
            leaf = _NORM[leaf] if beginning.endswith(".norm") else leaf
            return ".".join([beginning, *(_LAYERS.get(part, part) for part in inside), leaf])
    raise KeyError(name)


def sizes(state: Mapping[str, Tensor]) -> Sizes:
    """Read from the shapes, but for the number of attention heads, which no shape tells; see `Source.sizes`."""
    words, hidden = state[source_name("words.table.weight")].shape
    _, channels = state[source_name("cells.project.weight")].shape
    settings = {
        "hidden": hidden,
        "feed_size": state[source_name("encoder.0.feed.wide.weight")].shape[0],
        "encoder_layers": _layers(state, "encoder"),
        "decoder_layers": _layers(state, "decoder"),
    }
    return Sizes(settings, words, None, channels)


def assets(sizes: Sizes, words: str | Path | None, answers: str | Path | None) -> dict[str, Any] | None:
    """What the task `captioning` restores: the vocabulary from the release's JSON (`ix_to_word`) or one of ours.

    None without `words`. Raises UsageError for `answers`, DataError for words that are not those of the weights.
    """
    if answers is not None:
        raise UsageError("a captioner has no answers; leave out --answers")
    if words is None:
        return None
    vocabulary = CaptionVocabulary.load(words)
    if len(vocabulary) != sizes.words:
        raise DataError(
            f"gives {len(vocabulary)} rows with that of start and end, the checkpoint's word table has {sizes.words}",
            file=words,
            fix="give the vocabulary that the model was trained with",
        )
    return {"words": vocabulary.to_json()}


def from_clip_vil(state: Mapping[str, Tensor], **options: Any) -> TransformerCaptioner:
    """A published captioner from the tensors of a checkpoint.

    `options` are fields of `CaptionerConfig` that no shape tells, as heads=4.
    Raises CheckpointError naming what is missing, left over or misshapen.
    """
    kind = cast(Source, sys.modules[__name__])
    return cast(TransformerCaptioner, loaded(kind, translate(kind, state, options)))


def _layers(state: Mapping[str, Tensor], stack: str) -> int:
    count = 0
    while source_name(f"{stack}.{count}.norm_feed.weight") in state:
        count += 1
    return count
