"""The miniature world: drawn scenes, corpora in official file formats, and two small encoders trained on them."""

from __future__ import annotations

from pathlib import Path

from clipvil.errors import ClipvilError

WEIGHTS = ("contrastive", "annotated", "random")


def weights_folder(name: str) -> Path:
    """The open_clip local folder of a miniature encoder: "contrastive", "annotated" or "random" (config only).

    Raises `ClipvilError` for another name.
    """
    if name not in WEIGHTS:
        raise ClipvilError(
            f"mini/{name}: no such miniature encoder; there are {', '.join(f'mini/{n}' for n in WEIGHTS)}"
        )
    return Path(__file__).parent / "weights" / name
