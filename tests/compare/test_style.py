from __future__ import annotations

import importlib.resources
import re

import pytest

CSS = importlib.resources.files("clipvil.compare").joinpath("report.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{([^}]*)\}", CSS)[:2]
)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    """Contrast ratio of WCAG 2.1."""
    bright, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["--paper", "--panel"])
def test_all_text_and_all_palette_colours_can_be_read(theme: dict[str, str], ground: str) -> None:
    """Labels are written in the palette's colours, so all of them must reach what WCAG AA asks of text, 4.5."""
    names = ["--quiet", "--good", "--bad", *(f"--s{i}" for i in range(9))]
    too_faint = {name: round(contrast(theme[name], theme[ground]), 2) for name in names}
    assert not {name: ratio for name, ratio in too_faint.items() if ratio < 4.5}
    assert contrast(theme["--ink"], theme[ground]) >= 7
    assert contrast(theme["--ink"], theme["--notice"]) >= 7


def test_both_themes_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
