"""MMF's MoVie+MCAN, which the CLIP-ViL paper calls MCAN."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from clipvil.convert.base import Sizes, Source, loaded, translate
from clipvil.convert.mmf_vocabularies import VOCABULARIES, assets
from clipvil.models.movie_mcan import MovieMcan, build

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

TASK, MODEL, PRESET, TITLE = "vqa", "movie_mcan", "published", "MoVie+MCAN checkpoint of MMF"
OPTIONS = ("heads", "dropout", "padding", "padded_side")
_TEXT, _IMAGE = "text_embeddings.module.", "image_feature_embeddings_list."
_FUSION = "image_text_multi_modal_combine_layer."
DROPPED: Sequence[tuple[str, str]] = (
    (
        re.escape(_IMAGE) + r"sga\.self_guided_attns\.\d+\.ln_mha\.2\.(weight|bias)",
        "a third normalisation that the original makes but never runs",
    ),
)

# Beginnings of our names, numbers kept, and what stands in their place in the checkpoint.
_MODULES: Sequence[tuple[str, str]] = (
    (r"text\.words", "word_embedding"),
    (r"text\.lstm", _TEXT + "lstm"),
    (r"text\.blocks\.(\d+)\.attention", _TEXT + r"self_attns.\1.multi_head_attn"),
    (r"text\.blocks\.(\d+)\.norm_attention", _TEXT + r"self_attns.\1.ln_mha"),
    (r"text\.blocks\.(\d+)\.feed", _TEXT + r"self_attns.\1.fcn"),
    (r"text\.blocks\.(\d+)\.norm_feed", _TEXT + r"self_attns.\1.ln_fcn"),
    (r"pool_text", _TEXT + "attn_pool.linear"),
    (r"tokens\.project", _IMAGE + "sga.linear"),
    (r"blocks\.(\d+)\.self_attention", _IMAGE + r"sga.self_guided_attns.\1.multi_head_attn.0"),
    (r"blocks\.(\d+)\.guided_attention", _IMAGE + r"sga.self_guided_attns.\1.multi_head_attn.1"),
    (r"blocks\.(\d+)\.norm_self", _IMAGE + r"sga.self_guided_attns.\1.ln_mha.0"),
    (r"blocks\.(\d+)\.norm_guided", _IMAGE + r"sga.self_guided_attns.\1.ln_mha.1"),
    (r"blocks\.(\d+)\.feed", _IMAGE + r"sga.self_guided_attns.\1.fcn"),
    (r"blocks\.(\d+)\.norm_feed", _IMAGE + r"sga.self_guided_attns.\1.ln_fcn"),
    (r"pool_image", _IMAGE + "sga_pool.linear"),
    (r"movie\.norm", _IMAGE + "cbn.layer_norm"),
    (r"movie\.blocks\.(\d+)\.modulate", _IMAGE + r"cbn.cbns.\1.cond"),
    (r"movie\.blocks\.(\d+)\.reduce", _IMAGE + r"cbn.cbns.\1.conv1"),
    (r"movie\.blocks\.(\d+)\.norm_reduce", _IMAGE + r"cbn.cbns.\1.bn1"),
    (r"movie\.blocks\.(\d+)\.mix", _IMAGE + r"cbn.cbns.\1.conv2"),
    (r"movie\.blocks\.(\d+)\.norm_mix", _IMAGE + r"cbn.cbns.\1.bn2"),
    (r"movie\.blocks\.(\d+)\.expand", _IMAGE + r"cbn.cbns.\1.conv3"),
    (r"movie\.blocks\.(\d+)\.norm_expand", _IMAGE + r"cbn.cbns.\1.bn3"),
    (r"movie\.blocks\.(\d+)\.shortcut", _IMAGE + r"cbn.cbns.\1.downsample"),
    (r"movie\.blocks\.(\d+)\.gates\.squeeze", _IMAGE + r"cbn.cbns.\1.se.se.1"),
    (r"movie\.blocks\.(\d+)\.gates\.excite", _IMAGE + r"cbn.cbns.\1.se.se.3"),
    (r"movie\.blocks\.(\d+)\.gates\.spatial", _IMAGE + r"cbn.cbns.\1.se.attn.1"),
    (r"fusion\.attention", _FUSION + "linear_cga"),
    (r"fusion\.movie", _FUSION + "linear_cbn"),
    (r"fusion\.question", _FUSION + "linear_ques"),
    (r"fusion\.norms", _FUSION + "layer_norm"),
    (r"heads", "classifier.module.linears"),
)
# Layers inside those modules that are numbered there and named here.
_LAYERS: Mapping[str, str] = {
    "query": "linears.0",
    "key": "linears.1",
    "value": "linears.2",
    "out": "linears.3",
    "wide": "0",
    "back": "3",
    "hidden": "0",
    "score": "3",
}


def source_name(name: str) -> str:
    """What MMF's checkpoints call our parameter or buffer `name`. Raises KeyError for one that they do not have."""
    for pattern, theirs in _MODULES:
        if match := re.match(pattern + r"\.", name):
            *inside, leaf = name[match.end() :].split(".")
            return ".".join([match.expand(theirs), *(_LAYERS.get(part, part) for part in inside), leaf])
    raise KeyError(name)


def sizes(state: Mapping[str, Tensor]) -> Sizes:
    """Read from the shapes, but for the number of attention heads, which no shape tells; see `Source.sizes`."""
    words, word_size = state["word_embedding.weight"].shape
    hidden, channels = state[source_name("tokens.project.weight")].shape
    answers, _ = state[source_name("heads.0.weight")].shape
    settings = {
        "word_size": word_size,
        "hidden": hidden,
        "text_layers": _layers(state, "text.blocks.{}.norm_feed.weight"),
        "image_layers": _layers(state, "blocks.{}.norm_feed.weight"),
        "movie_layers": _layers(state, "movie.blocks.{}.expand.weight"),
        "movie_size": state[source_name("movie.norm.weight")].shape[0],
    }
    return Sizes(settings, words, answers, channels)


def from_mmf(state: Mapping[str, Tensor], **options: Any) -> MovieMcan:
    """A published MoVie+MCAN from the tensors of a checkpoint (names without a leading "model.").

    `options` are fields of `MovieMcanConfig` that no shape tells, as heads=4 or padding="masked".
    Raises CheckpointError naming what is missing, left over or misshapen.
    """
    kind = cast(Source, sys.modules[__name__])
    return cast(MovieMcan, loaded(kind, translate(kind, state, options)))


def _layers(state: Mapping[str, Tensor], name: str) -> int:
    count = 0
    while source_name(name.format(count)) in state:
        count += 1
    if count == 0:
        raise KeyError(source_name(name.format(0)))
    return count
