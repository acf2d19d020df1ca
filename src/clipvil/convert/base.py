"""What every source of checkpoints does, and the strict translation that is the same for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from clipvil.errors import CheckpointError


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a state dict say: fields of the recipe's `model` section, and the sizes of its tables."""

    settings: Mapping[str, Any]
    words: int
    answers: int | None
    """None: the model has no answers."""
    channels: int

    @property
    def tables(self) -> dict[str, int]:
        """Rows of each table that a vocabulary must fit, by the name that `build` takes it under."""
        return {"words": self.words} | ({} if self.answers is None else {"answers": self.answers})


class Source(Protocol):
    """A module that knows one kind of released checkpoint."""

    MODEL: str
    """Name of the model in the task (`model.name` of a recipe)."""
    PRESET: str
    """The preset that the released model was trained with: what shapes cannot say comes from it."""
    OPTIONS: Sequence[str]
    """Fields of the `model` section that no shape tells and a recipe may therefore say."""
    TITLE: str
    """How messages call the checkpoint."""
    DROPPED: Sequence[tuple[str, str]]
    """Patterns of keys that are left behind, each with the reason."""

    def sizes(self, state: Mapping[str, Tensor]) -> Sizes:
        """Read the sizes from the shapes. Raises KeyError or ValueError where a key that must be there is not."""
        ...

    def source_name(self, name: str) -> str:
        """What the checkpoint calls our parameter or buffer `name`."""
        ...

    def build(self, settings: Mapping[str, Any], *args: Any, **sizes: Any) -> nn.Module:
        """The model of these settings; `sizes` are those of `Sizes.tables`, and channels."""
        ...


class Release(Source, Protocol):
    """A source that `convert` makes a run of: it also knows the task and the vocabularies that go with the weights."""

    TASK: str
    """Name of the task whose model it is."""
    VOCABULARIES: str
    """The options that name its vocabularies, in words for messages."""

    def assets(self, sizes: Sizes, words: str | Path | None, answers: str | Path | None) -> dict[str, Any] | None:
        """What the task restores, read from the vocabularies of the release; None where they are not given.

        Raises UsageError for one that is missing or superfluous, DataError for one that does not fit the weights.
        """
        ...


@dataclass
class Conversion:
    """A translated state dict, and an account of every key: none is passed over in silence."""

    settings: dict[str, Any]
    """The recipe's `model` section."""
    sizes: Sizes
    assumed: dict[str, Any] = field(default_factory=dict)
    """Fields of the model that no shape tells, and what they were taken to be."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """Our names, float32."""
    used: dict[str, str] = field(default_factory=dict)
    """Key of the checkpoint -> our name."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Key of the checkpoint -> why it is left behind."""
    missing: dict[str, str] = field(default_factory=dict)
    """Key that should be there -> our name."""
    misshapen: dict[str, str] = field(default_factory=dict)
    """Key -> what is wrong with its tensor."""
    unknown: list[str] = field(default_factory=list)
    """Keys that such a checkpoint should not hold."""

    @property
    def complete(self) -> bool:
        """Whether every key was accounted for and nothing is missing."""
        return not (self.missing or self.misshapen or self.unknown)

    def counts(self) -> str:
        """One line: how many keys of each kind."""
        parts = [f"{len(self.used)} used", f"{len(self.dropped)} dropped"]
        for name in ("missing", "misshapen", "unknown"):
            if found := getattr(self, name):
                parts.append(f"{len(found)} {name}")
        return ", ".join(parts)

    def problem(self) -> str:
        """The first thing that is wrong, in words; empty when nothing is."""
        if self.missing:
            return f"{next(iter(self.missing))} is missing"
        if self.misshapen:
            return "{} {}".format(*next(iter(self.misshapen.items())))
        return f"holds what such a model has not: {self.unknown[0]}" if self.unknown else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report; no tensors."""
        return {
            "complete": self.complete,
            "model": self.settings,
            "assumed": self.assumed,
            **self.sizes.tables,
            "channels": self.sizes.channels,
            "used": self.used,
            "dropped": self.dropped,
            "missing": self.missing,
            "misshapen": self.misshapen,
            "unknown": self.unknown,
        }


def translate(kind: Source, state: Mapping[str, Tensor], options: Mapping[str, Any] | None = None) -> Conversion:
    """Give every tensor of a plain state dict (no prefix, no wrapper) our name.

    `options` are fields of the `model` section; those that no shape tells (the number of heads, dropout, padding) count
    above the source's preset, others are passed over. The result says what did not fit; `loaded` refuses it then.
    Raises CheckpointError when the state dict is none of the kind at all, RecipeError for options that cannot be.
    """
    try:
        sizes = kind.sizes(state)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"not a {kind.TITLE}: no tensor of the right shape under {error}") from None
    untold = {key: value for key, value in (options or {}).items() if key in kind.OPTIONS}
    settings = {"preset": kind.PRESET, **untold, **sizes.settings, "name": kind.MODEL}
    out = Conversion(settings, sizes)
    # Without memory: only names and shapes are asked for.
    with torch.device("meta"):
        model = kind.build(settings, **sizes.tables, channels=sizes.channels)
    out.assumed = {name: getattr(model.config, name) for name in kind.OPTIONS}
    for name, own in model.state_dict().items():
        _take(out, kind.source_name(name), name, own, state)
    for key in state:
        if key not in out.used and key not in out.misshapen:
            reason = next((why for pattern, why in kind.DROPPED if re.fullmatch(pattern, key)), None)
            if reason is None:
                out.unknown.append(key)
            else:
                out.dropped[key] = reason
    return out


def _take(out: Conversion, key: str, name: str, own: Tensor, state: Mapping[str, Tensor]) -> None:
    found = state.get(key)
    if found is None:
        out.missing[key] = name
        return
    # 1x1 convolutions over a sequence carry a last dimension of one where a linear layer has none.
    same = tuple(size for size in found.shape if size != 1) == tuple(size for size in own.shape if size != 1)
    if not same or not found.is_floating_point():
        out.misshapen[key] = f"is {found.dtype} {tuple(found.shape)}, not {tuple(own.shape)}"
        return
    if not torch.isfinite(found).all():
        out.misshapen[key] = "holds values that are not finite numbers"
        return
    out.used[key] = name
    out.state[name] = found.detach().to("cpu", torch.float32).reshape(own.shape).contiguous()


def loaded(kind: Source, conversion: Conversion) -> nn.Module:
    """The model with the translated weights.

    Raises CheckpointError naming the first key that is missing, misshapen or unknown.
    """
    if not conversion.complete:
        raise CheckpointError(f"the {kind.TITLE} does not fit: {conversion.problem()} ({conversion.counts()})")
    sizes = conversion.sizes
    model = kind.build(conversion.settings, **sizes.tables, channels=sizes.channels)
    model.load_state_dict(conversion.state)
    return model
