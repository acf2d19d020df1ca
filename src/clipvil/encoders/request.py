"""What an adapter is asked for: a parsed encoder name and the choices that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipvil.errors import EncoderNameError

SCHEMAS = ("local-dir", "hf-hub")
"""Prefixes of model names that open_clip and timm read themselves, as in `open_clip/local-dir:/folder`."""
OWN_LIBRARIES = ("mini", "open_clip", "timm", "hf", "torchvision")
"""Libraries whose names this package itself gives their meaning."""


@dataclass(frozen=True)
class EncoderRequest:
    """`library/model:weights` taken apart, and how to use it. `layer` None asks for the family's default."""

    name: str
    library: str
    model: str
    weights: str | None
    layer: str | None = None
    positions: Literal["resized", "zero"] = "resized"
    channels: Literal["RGB", "BGR"] = "RGB"

    @classmethod
    def parse(
        cls,
        name: str,
        *,
        layer: str | None = None,
        positions: Literal["resized", "zero"] = "resized",
        channels: Literal["RGB", "BGR"] = "RGB",
    ) -> EncoderRequest:
        """Take a name apart. Raises EncoderNameError where it has no library, no model, or a choice is unknown."""
        library, slash, rest = name.partition("/")
        if not (library and slash and rest):
            raise EncoderNameError(
                f"encoder name '{name}' must read library/model:weights, as in open_clip/RN50:openai"
            )
        if positions not in ("resized", "zero"):
            raise EncoderNameError(f"positions '{positions}' is unknown; use resized or zero")
        if channels not in ("RGB", "BGR"):
            raise EncoderNameError(f"channels '{channels}' is unknown; use RGB or BGR")
        model, colon, weights = rest.partition(":")
        if model in SCHEMAS:
            path, colon, weights = weights.partition(":")
            model = f"{model}:{path}"
        if colon and not weights:
            raise EncoderNameError(f"encoder name '{name}' ends with ':'; name the weights, or leave the colon out")
        return cls(name, library, model, weights or None, layer, positions, channels)

    @property
    def schema(self) -> tuple[str, str] | None:
        """(`local-dir` or `hf-hub`, its argument) where the model name has such a prefix."""
        prefix, colon, rest = self.model.partition(":")
        return (prefix, rest) if colon and prefix in SCHEMAS else None

    @property
    def untrained(self) -> bool:
        """Whether random weights were asked for."""
        return self.weights == "random"

    @property
    def local(self) -> bool:
        """Whether the weights lie on this machine under a name that does not say which they are.

        True of `mini/*`, `:offline`, `local-dir:` and weights (or the model, of `hf/`) that are a file or folder: what
        such a name means changes with the file, and building it to see downloads no weights. False of published tags,
        which always mean the same, of `:random`, and of other people's encoders, whose names say nothing here.
        """
        if self.library not in OWN_LIBRARIES or self.untrained:
            return False
        if self.library == "mini":
            return True
        if self.schema is not None and self.schema[0] == "local-dir":
            return True
        if self.library == "hf" and self.weights is None:
            return Path(self.model).expanduser().is_dir()
        if self.library in ("hf", "timm"):  # these publish no tags after a colon: what stands there is a path
            return self.weights is not None
        from clipvil.encoders.weights import looks_like_path  # here, so that reading names needs no torch

        return self.schema is None and self.weights is not None and looks_like_path(self.weights)
