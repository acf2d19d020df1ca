"""HTML and SVG elements that escape by themselves: text from data cannot become markup by being forgotten."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """A string that is markup already. Only `el`, `join` and the package's own templates make one."""

    __slots__ = ()


# Elements that HTML forbids to close; SVG elements are all closed explicitly, which HTML's parser takes everywhere.
_VOID = frozenset({"br", "img", "input", "meta", "hr"})


def text(value: object) -> Html:
    """Escape anything that is not markup already."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(*parts: object) -> Html:
    """Concatenate children; None is left out, lists are flattened, plain strings are escaped."""
    out: list[str] = []
    for part in parts:
        if part is None:
            continue
        if isinstance(part, (list, tuple)):
            out.append(join(*part))
        else:
            out.append(text(part))
    return Html("".join(out))


def el(tag: str, *children: object, **attributes: object) -> Html:
    """An element. `class_` and `for_` lose their underscore, other underscores become hyphens; None is left out."""
    parts = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        parts.append(name if value is True else f'{name}="{html.escape(_plain(value), quote=True)}"')
    opening = f"<{' '.join(parts)}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{tag}>")


def classes(names: Iterable[str | None]) -> str | None:
    """Join class names, leaving out empty ones."""
    return " ".join(name for name in names if name) or None


def _plain(value: object) -> str:
    """Numbers short: a coordinate needs no more than a tenth of a pixel."""
    if isinstance(value, float):
        return f"{value:.1f}".rstrip("0").rstrip(".")
    return str(value)
