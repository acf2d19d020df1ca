"""The text encoder every adapter returns: a tokenizer, a network from tokens to vectors, and the facts with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from clipvil.encoders.fingerprint import fingerprint_of
from clipvil.errors import EncoderError

_PROBE = "Is the small-ish cat's 2nd toy red?"
"""Its tokens enter the fingerprint: other words for the same network are another encoder."""


class ModuleTextEncoder:
    """A `TextEncoder` around `tokenize(texts, length) -> (B, length) int64` and a module `(B, T) -> (B, D)`.

    `pad` is what the tokenizer fills up with. `causal` says that nothing behind a text's end can change its vector:
    padding is then cut off before the network runs, which for short texts is most of the work. `scale` is the learned
    factor on cosines (exp of `logit_scale`), `facts` enter the fingerprint.
    """

    batch_size = 256
    """Texts that go through the network at once."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        tokenize: Callable[[Sequence[str], int], Tensor],
        *,
        channels: int,
        context_length: int,
        pad: int,
        causal: bool,
        scale: float,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.module = module.eval().requires_grad_(False)
        self.channels = channels
        self.context_length = context_length
        self.scale = scale
        self.encoded = self.truncated = 0
        self._tokenize, self._pad, self._causal = tokenize, pad, causal
        self._facts = dict(facts or {})
        self._fingerprint: str | None = None

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D) of the joint space, not normalised, in the order of the texts.

        Texts longer than `context_length` tokens are cut as the library cuts them, and counted in `truncated`;
        `encoded` counts all. Raises EncoderError for anything but a list of strings.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise EncoderError(f"{self.name}: the text side takes a list of strings, not {type(texts).__name__}")
        parameter = next(self.module.parameters())
        if not texts:
            return torch.zeros(0, self.channels, dtype=parameter.dtype, device=parameter.device)
        tokens = self._tokenize(texts, self.context_length)
        self.encoded += len(texts)
        self.truncated += self._cut(texts, tokens)
        # Texts that differ only in words the tokenizer does not know are one to the network: one vector, to the bit.
        tokens, inverse = torch.unique(tokens, dim=0, return_inverse=True)
        lengths = self._lengths(tokens)
        order = lengths.argsort(stable=True)
        parts = []
        for rows in order.split(self.batch_size):
            length = int(lengths[rows].max()) if self._causal else self.context_length
            parts.append(self.module(tokens[rows, :length].to(parameter.device)))
        return torch.cat(parts)[order.argsort()[inverse].to(parameter.device)]

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Rows (B, T) of the tokenizer, special ones included, and how many of each are no padding (B,)."""
        tokens = self._tokenize(texts, self.context_length)
        places = torch.arange(1, tokens.shape[1] + 1)
        return tokens, ((tokens != self._pad) * places).amax(1)

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor] | None:
        """Vectors (B, D), and what stands at each token in the same joint space (B, T, D), in the order of the texts.

        The last layer's states, normed and projected as the pooled one is. None where the network does not tell them.
        """
        own = getattr(self.module, "states", None)
        if own is None:
            return None
        tokens, lengths = self.tokens(texts)
        length = min(int(lengths.max()) + 1, tokens.shape[1]) if self._causal else tokens.shape[1]
        found: tuple[Tensor, Tensor] = own(tokens[:, :length].to(next(self.module.parameters()).device))
        self.encoded += len(texts)
        return found

    def fingerprint(self) -> str:
        """16 hex digits over weights as created, tokens of a probe sentence, context length, scale and facts."""
        if self._fingerprint is None:
            about = {
                "probe": self._tokenize([_PROBE], self.context_length)[0].tolist(),
                "context_length": self.context_length,
                "scale": round(self.scale, 4),
                "facts": self._facts,
            }
            self._fingerprint = fingerprint_of(self.module, about)
        return self._fingerprint

    def to(self, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> ModuleTextEncoder:
        """Move the network or change its precision (None keeps each); returns itself."""
        self.fingerprint()  # of the weights as created
        self.module.to(device=device, dtype=dtype)
        return self

    def _lengths(self, tokens: Tensor) -> Tensor:
        """Places up to the last that is no padding, and one more: some tokenizers pad with their end mark."""
        places = torch.arange(1, tokens.shape[1] + 1)
        return ((tokens != self._pad) * places).amax(1).add(1).clamp(max=tokens.shape[1])

    def _cut(self, texts: Sequence[str], tokens: Tensor) -> int:
        """How many texts would show more of themselves, had they one more place."""
        full = (tokens[:, -2] != self._pad).nonzero().flatten().tolist() if tokens.shape[1] > 1 else range(len(texts))
        if not full:
            return 0
        longer = self._tokenize([texts[i] for i in full], self.context_length + 1)
        return int((longer[:, :-1] != tokens[list(full)]).any(1).sum())

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, channels={self.channels}, context_length={self.context_length}, "
            f"scale={self.scale:.4g})"
        )
