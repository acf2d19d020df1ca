"""A captioner run word by word, with what it remembers or without."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from clipvil.models.transformer_captioner import DecoderState, Memory


class CaptionModel(Protocol):
    """What decoding asks of a captioner: see `TransformerCaptioner`."""

    def start(self, memory: Memory, rows_per_picture: int = 1) -> DecoderState:
        """Before the first word."""
        ...

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Log-probabilities (M, V) of the word after `tokens` (M,)."""
        ...

    def after(self, memory: Memory, captions: Tensor) -> Tensor:
        """The same from the whole captions (M, L)."""
        ...

    def modules(self) -> Any:
        """Itself and its parts, as of any torch module."""
        ...


class Steps(Protocol):
    """Captions of P pictures, those of a picture side by side; at the start one a picture."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append `tokens` (M,) int64; log-probabilities (M, V) of what comes next."""
        ...

    def select(self, rows: Tensor) -> None:
        """Go on with these captions (M',) int64, as many of each picture."""
        ...

    def keep(self, pictures: Tensor) -> None:
        """Go on with these pictures (P',) int64 alone."""
        ...


class CachedSteps:
    """Remembers keys and values, so that a step costs one word."""

    def __init__(self, model: CaptionModel, memory: Memory) -> None:
        self.model, self.state = model, model.start(memory)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Steps.step`."""
        return self.model.step(tokens, self.state)

    def select(self, rows: Tensor) -> None:
        """See `Steps.select`."""
        self.state = self.state.select(rows)

    def keep(self, pictures: Tensor) -> None:
        """See `Steps.keep`."""
        self.state = self.state.keep(pictures)


class PlainSteps:
    """Remembers nothing but the words: a step reads all of them and the picture anew, as the published decoder does."""

    def __init__(self, model: CaptionModel, memory: Memory) -> None:
        self.model, self.memory = model, memory
        self.said = torch.zeros(len(memory), 0, dtype=torch.int64, device=memory.cells.device)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Steps.step`."""
        self.said = torch.cat([self.said, tokens.unsqueeze(1)], dim=1)
        return self.model.after(self.memory, self.said)

    def select(self, rows: Tensor) -> None:
        """See `Steps.select`."""
        self.said = self.said[rows]

    def keep(self, pictures: Tensor) -> None:
        """See `Steps.keep`."""
        self.said = self.said.view(len(self.memory), -1, self.said.shape[1])[pictures].flatten(0, 1)
        self.memory = self.memory.select(pictures)
