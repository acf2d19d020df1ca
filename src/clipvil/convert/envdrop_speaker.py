"""The speaker of EnvDrop and CLIP-ViL-VLN, in files as those of the follower."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from clipvil.convert.base import Conversion, Sizes, Source, loaded, translate
from clipvil.convert.envdrop import assets, renamed
from clipvil.models import envdrop_speaker
from clipvil.models.envdrop_speaker import Speaker
from clipvil.models.navigator import Navigator

__all__ = ["assets", "build", "from_envdrop", "sizes", "source_name", "views"]
TASK, MODEL, PRESET = "navigation_speaker", "envdrop", "published"
TITLE, VOCABULARIES = "speaker of EnvDrop", "--words"
OPTIONS = ("angle_size", "dropout", "feature_dropout")
DROPPED: Sequence[tuple[str, str]] = (
    (r"decoder\.baseline_projection\..*", "a baseline for reinforcement learning that nothing uses"),
)
_MODULES: Sequence[tuple[str, str]] = (
    (r"walk", "encoder.lstm"),
    (r"look\.query", "encoder.attention_layer.linear_in"),
    (r"look\.out", "encoder.attention_layer.linear_out"),
    (r"again", "encoder.post_lstm"),
    (r"words", "decoder.embedding"),
    (r"speak", "decoder.lstm"),
    (r"recall\.query", "decoder.attention_layer.linear_in"),
    (r"recall\.out", "decoder.attention_layer.linear_out"),
    (r"out", "decoder.projection"),
)


def source_name(name: str) -> str:
    """What the published checkpoints call our parameter `name`. Raises KeyError for one that they do not have."""
    return renamed(name.removeprefix("speaker."), _MODULES)


def sizes(state: Mapping[str, Tensor]) -> Sizes:
    """Read from the shapes; how many numbers of a view are angles no shape tells, so 128 is taken unless it is said."""
    words, word_size = state[source_name("words.weight")].shape
    width, hidden = state[source_name("look.query.weight")].shape
    return Sizes({"hidden": hidden, "word_size": word_size}, words, None, width)


def build(settings: Mapping[str, Any], *args: Any, **sizes: Any) -> nn.Module:
    """The speaker of these settings, as its task builds it; `channels` counts the angles in, since the shapes do."""
    config = envdrop_speaker.configure(settings)
    return Navigator(None, Speaker(sizes["words"], sizes["channels"] - config.angle_size, config))


def views(found: Conversion) -> int:
    """How many numbers of a view are features, of what a checkpoint says."""
    return found.sizes.channels - int(found.assumed["angle_size"])


def from_envdrop(state: Mapping[str, Tensor], **options: Any) -> Speaker:
    """A published speaker from `<network>.<parameter>` tensors; `options` are fields of the configuration.

    Raises CheckpointError naming what is missing, left over or misshapen.
    """
    kind = cast(Source, sys.modules[__name__])
    return cast(Speaker, cast(Navigator, loaded(kind, translate(kind, state, options))).speaker)
