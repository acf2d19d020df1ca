"""What an adapter is asked for: a parsed encoder name and the choices that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipvil.errors import EncoderNameError

SCHEMAS = ("local-dir", "hf-hub")
"""Prefixes of model names that open_clip and timm read themselves, as in `open_clip/local-dir:/folder`."""


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
