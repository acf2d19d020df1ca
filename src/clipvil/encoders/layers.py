"""Which tap of a network the grid is taken from: the text of `--layer`, read in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from clipvil.errors import EncoderNameError

_PATTERN = re.compile(r"(?P<kind>last|(?:block|stage):(?P<index>-?\d+))(?P<norm>\+norm)?(?P<proj>\+proj)?")
_HELP = "use last, block:K, stage:K (K counts from 0, or from the end when negative), and +norm or +norm+proj after it"


@dataclass(frozen=True)
class Layer:
    """A parsed tap. `block` counts transformer blocks, `stage` the feature maps of a convolutional network.

    `norm` applies the network's final norm to every token, `proj` (only after `norm`) its projection into the joint
    embedding space as well.
    """

    kind: Literal["last", "block", "stage"]
    index: int = -1
    norm: bool = False
    proj: bool = False

    @classmethod
    def parse(cls, text: str) -> Layer:
        """Read `last`, `block:-2`, `stage:3`, with `+norm` or `+norm+proj`. Raises EncoderNameError on all else."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise EncoderNameError(f"layer '{text}' is not understood; {_HELP}")
        norm, proj = bool(match["norm"]), bool(match["proj"])
        if proj and not norm:
            raise EncoderNameError(
                f"layer '{text}': the projection follows the final norm; write {text[:-5]}+norm+proj"
            )
        if match["kind"] == "last":
            return cls("last", -1, norm, proj)
        kind: Literal["block", "stage"] = "block" if match["kind"].startswith("block") else "stage"
        return cls(kind, int(match["index"]), norm, proj)

    def __str__(self) -> str:
        base = "last" if self.kind == "last" else f"{self.kind}:{self.index}"
        return base + ("+norm" if self.norm else "") + ("+proj" if self.proj else "")

    def position(self, count: int, *, kind: Literal["block", "stage"], name: str) -> int:
        """The index, 0 to count - 1, among the `count` taps of a network whose taps are called `kind`.

        Raises EncoderNameError when the network has no such taps or not that many.
        """
        if self.kind not in ("last", kind):
            raise EncoderNameError(f"{name} has {kind}s, not {self.kind}s; use {kind}:0 to {kind}:{count - 1}, or last")
        if not -count <= self.index < count:
            raise EncoderNameError(
                f"{name} has {count} {kind}s; {self} does not exist, use {kind}:0 to {kind}:{count - 1}"
            )
        return self.index % count

    def refuse_norm(self, name: str) -> None:
        """Raise EncoderNameError if a final norm or a projection is asked of a network whose maps have none."""
        if self.norm:
            raise EncoderNameError(f"{name} has no final norm over its grid; use layer '{str(self).split('+')[0]}'")
