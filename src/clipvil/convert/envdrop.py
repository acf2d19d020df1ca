"""The follower of EnvDrop and CLIP-ViL-VLN: a `torch.save` of one entry a network, each with its state dict."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from clipvil.convert.base import Sizes, Source, loaded, translate
from clipvil.errors import DataError, UsageError
from clipvil.models import envdrop
from clipvil.models.envdrop import EnvDrop
from clipvil.models.navigator import Navigator
from clipvil.text.instructions import InstructionVocabulary

TASK, MODEL, PRESET = "navigation", "envdrop", "published"
TITLE, VOCABULARIES = "follower of EnvDrop", "--words"
OPTIONS = ("dropout", "feature_dropout", "start")
DROPPED: Sequence[tuple[str, str]] = (
    (r"decoder\.feat_att_layer\.linear_out\.weight", "an output layer of the attention over views that nothing uses"),
    (
        r"decoder\.candidate_att_layer\.linear_out\.weight",
        "an output layer of the candidates' scorer that nothing uses",
    ),
)
_MODULES: Sequence[tuple[str, str]] = (
    (r"encoder\.words", "encoder.embedding"),
    (r"encoder\.lstm", "encoder.lstm"),
    (r"encoder\.start", "encoder.encoder2decoder"),
    (r"action", "decoder.embedding.0"),
    (r"look\.query", "decoder.feat_att_layer.linear_in"),
    (r"cell", "decoder.lstm"),
    (r"read\.query", "decoder.attention_layer.linear_in"),
    (r"read\.out", "decoder.attention_layer.linear_out"),
    (r"choose\.query", "decoder.candidate_att_layer.linear_in"),
    (r"critic", "critic.state2value"),
)


def source_name(name: str) -> str:
    """What the published checkpoints call our parameter `name`. Raises KeyError for one that they do not have."""
    return renamed(name.removeprefix("follower."), _MODULES)


def renamed(name: str, modules: Sequence[tuple[str, str]]) -> str:
    """The name with its module, of (our pattern, theirs), called as they call it. Raises KeyError for none of them."""
    for pattern, theirs in modules:
        if match := re.match(pattern + r"\.", name):
            return f"{theirs}.{name[match.end() :]}"
    raise KeyError(name)


def sizes(state: Mapping[str, Tensor]) -> Sizes:
    """Read from the shapes; the action embedding takes the angle features alone, and so tells how many they are."""
    words, word_size = state[source_name("encoder.words.weight")].shape
    action, angles = state[source_name("action.weight")].shape
    width, hidden = state[source_name("look.query.weight")].shape
    settings = {
        "hidden": hidden,
        "word_size": word_size,
        "action_size": action,
        "angle_size": angles,
        "bidirectional": source_name("encoder.lstm.weight_ih_l0_reverse") in state,
    }
    return Sizes(settings, words, None, width - angles)


def build(settings: Mapping[str, Any], *args: Any, **sizes: Any) -> nn.Module:
    """The follower of these settings, as the task builds it; see `clipvil.models.envdrop.build`."""
    return Navigator(envdrop.build(settings, words=sizes["words"], visual=sizes["channels"]), None)


def assets(sizes: Sizes, words: str | Path | None, answers: str | Path | None) -> dict[str, Any] | None:
    """What the tasks of navigation restore: the vocabulary of the release (`train_vocab.txt`).

    None without `words`. Raises UsageError for `answers`, DataError for words that are not those of the weights.
    """
    if answers is not None:
        raise UsageError("navigation has no answers; leave out --answers")
    if words is None:
        return None
    vocabulary = InstructionVocabulary.load(words)
    if len(vocabulary) != sizes.words:
        raise DataError(
            f"gives {len(vocabulary)} ids with that of the begin word, the checkpoint's table has {sizes.words}",
            file=words,
            fix="give the vocabulary that the checkpoint was trained with",
        )
    return {"words": list(vocabulary.words)}


def from_envdrop(state: Mapping[str, Tensor], **options: Any) -> EnvDrop:
    """A published follower from tensors called `<network>.<parameter>`, the networks encoder, decoder and critic.

    `options` are fields of the configuration.

    Raises CheckpointError naming what is missing, left over or misshapen.
    """
    kind = cast(Source, sys.modules[__name__])
    return cast(EnvDrop, cast(Navigator, loaded(kind, translate(kind, state, options))).follower)
