"""`contact_sheet.html`: pictures with their captions in one file that loads nothing."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipvil.compare.html import Html, el
from clipvil.files import atomic_write

if TYPE_CHECKING:
    from clipvil.training.caption_folder import CaptionReport, SheetEntry

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_contact_sheet(path: Path, entries: Iterator[SheetEntry], report: CaptionReport) -> None:
    """Write the sheet, whole or not at all, picture by picture. All text from data is escaped."""
    style = importlib.resources.files("clipvil.compare").joinpath("contact_sheet.css").read_text(encoding="utf-8")
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", "Captions"),
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n",
        el("h1", "Captions"),
        el("p", _facts(report), class_="facts"),
        '\n<div class="cards">\n',
    )
    with atomic_write(path) as stream:
        stream.write("".join(head).encode("utf-8"))
        for entry in entries:
            stream.write(_figure(entry).encode("utf-8") + b"\n")
        stream.write(b"</div>\n</main>\n</body>\n</html>\n")


def _figure(entry: SheetEntry) -> Html:
    picture = (
        el("img", src=f"data:image/jpeg;base64,{entry.thumbnail}", alt=entry.caption, loading="lazy")
        if _BASE64.fullmatch(entry.thumbnail)
        else None
    )
    about = f"{entry.image_id} \u00b7 confidence {100 * entry.confidence:.0f} %"
    return el("figure", picture, el("figcaption", el("p", entry.caption), el("p", about, class_="from")))


def _facts(report: CaptionReport) -> str:
    shown, usable = report.shown, report.done + report.skipped
    parts = [
        f"all {usable:,} pictures"
        if shown == usable
        else f"the first {shown:,} of {usable:,} pictures; captions.jsonl has the captions of all of them"
    ]
    if report.failed:
        noun = "picture" if report.failed == 1 else "pictures"
        parts.append(f"{report.failed:,} further {noun} could not be used, see failures.jsonl")
    parts.append(f"captions by {report.run}")
    return " \u00b7 ".join(parts)
