"""Which of two encoders helps with my questions?

    python examples/compare_encoders.py my.csv photos runs/mine

Prints each encoder's accuracy with its interval, and the difference with its own; runs/mine/report.html has the rest.
The two encoders need no download (`pip install 'clipvil[offline]'`); put any name of `clipvil encoders` in their place.
"""

from __future__ import annotations

import sys

import clipvil

ENCODERS = ("timm/tf_efficientnet_lite0:offline", "mini/contrastive")


def main(table: str, pictures: str, out: str, overrides: tuple[str, ...] = ()) -> None:
    """Train on the features of each encoder and say how much one is better than the other."""
    data = {"format": "custom", "questions": table, "images": pictures}
    results = clipvil.compare(encoders=ENCODERS, data=data, seeds=2, overrides=overrides, out=out)
    for row in results.rows:
        print(f"{row.encoder} on {row.split}: {row.mean.value:.1f} [{row.mean.low:.1f}, {row.mean.high:.1f}]")
    for pair in results.differences:
        print(f"{pair.a} - {pair.b} on {pair.split}: {pair.value:+.1f} [{pair.low:.1f}, {pair.high:.1f}]")


if __name__ == "__main__":
    main(*sys.argv[1:4])
