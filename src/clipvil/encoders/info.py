"""One line of the table of encoders."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder that can be created by `name`. `weights` says where its weights come from.

    `packaged` needs no network, `downloads` fetches on first use, `untrained` has none.
    """

    name: str
    library: str
    weights: str
