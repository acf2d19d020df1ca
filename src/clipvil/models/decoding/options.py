"""What can be chosen about decoding."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from clipvil.errors import UsageError

Method = Literal["greedy", "sample", "beam"]

_WU = re.compile(r"wu_(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Decoding:
    """How captions are made. Raises UsageError for what cannot be."""

    method: Method = "greedy"
    max_length: int = 20
    """Most tokens of a caption, its end counted."""
    beams: int = 5
    """Of beam search: captions that are followed at a time, all groups together."""
    groups: int = 1
    """Diverse beam search: so many groups of beams / groups beams, each of which avoids the words of those before."""
    diversity: float = 0.5
    """What a word costs a group for each beam of the earlier groups that says it at the same place."""
    length_penalty: str = ""
    """What a finished beam is judged by: `` its summed log-probability, `avg` that divided by the number of tokens,

    `wu_A` (as `wu_0.9`) divided by ((5 + tokens) / 6) ** A."""
    samples: int = 5
    """Of sampling: captions that are drawn of each picture."""
    temperature: float = 1.0
    """Log-probabilities are divided by it before drawing or searching; greedy captions do not depend on it."""
    top_k: int = 0
    """Draw from the `top_k` likeliest words; 0: from all."""
    top_p: float = 1.0
    """Draw from the likeliest words that have this probability together, at least one; 1: from all."""
    no_repeat: bool = False
    """No word directly behind itself."""
    block_trigrams: bool = False
    """A word costs 2 ln 2 for each time that it has followed the last two words before."""
    suppress_unknown: bool = False
    """The last class, which is the unknown word where the vocabulary has one, costs 1000."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"decoding method must be {', '.join(get_args(Method))}, not '{self.method}'")
        for name in ("max_length", "beams", "groups", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"decoding: '{name}' must be at least 1, not {getattr(self, name)}")
        if self.beams % self.groups:
            raise UsageError(f"decoding: {self.beams} beams cannot be shared among {self.groups} groups")
        if self.length_penalty not in ("", "avg") and not _WU.fullmatch(self.length_penalty):
            raise UsageError(f"decoding: 'length_penalty' must be '', avg or wu_0.9, not '{self.length_penalty}'")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"decoding: 'temperature' must be above 0, not {self.temperature}")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError("decoding: 'top_k' must be at least 0 and 'top_p' above 0 and at most 1")
        if not (math.isfinite(self.diversity) and self.diversity >= 0):
            raise UsageError(f"decoding: 'diversity' must be at least 0, not {self.diversity}")

    @property
    def captions(self) -> int:
        """How many captions come of each picture."""
        return {"greedy": 1, "sample": self.samples, "beam": self.beams}[self.method]

    def divisor(self, length: int) -> float:
        """What the summed log-probability of a caption of so many tokens is divided by."""
        if self.length_penalty == "avg":
            return float(length)
        match = _WU.fullmatch(self.length_penalty)
        return ((5 + length) / 6) ** float(match.group(1)) if match else 1.0
