"""The gallery as HTML: pictures, questions, and what every encoder answered."""

from __future__ import annotations

import re
from collections.abc import Mapping

from clipvil.compare import plots
from clipvil.compare.gallery import RIGHT
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import GalleryAnswer, GalleryEntry, Results, TaskInfo
from clipvil.compare.sections import palette

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def gallery_section(results: Results, task: TaskInfo, *, level: int = 3) -> Html | None:
    """Every group of the task, under the share of records it stands for: drawn examples are not typical ones."""
    groups = [group for group in results.gallery if group.task == task.name and group.entries]
    if not groups:
        return None
    colours = palette(results)
    parts: list[Html] = []
    for split in dict.fromkeys(group.split for group in groups):
        if len(task.splits) > 1:
            parts.append(el(f"h{level}", f"{split} split", class_="split-name"))
        for group in groups:
            if group.split != split:
                continue
            share = f"{100 * group.share:.1f} % of {group.total:,} questions; {len(group.entries)} drawn"
            cards = [_card(entry, colours) for entry in group.entries]
            heading = el(f"h{level + 1}", el("span", group.title), el("small", share), class_="outcome")
            parts.append(el("section", heading, el("div", *cards, class_="cards"), class_="group"))
    return join(*parts)


def _card(entry: GalleryEntry, colours: Mapping[str, plots.Series]) -> Html:
    if entry.thumbnail and _BASE64.fullmatch(entry.thumbnail):
        alt = f"Picture {entry.image_id}, about which is asked: {entry.prompt}"
        picture = el("img", src=f"data:image/jpeg;base64,{entry.thumbnail}", alt=alt)
    else:
        picture = el("div", "picture not available", class_="no-picture")
    references = ", ".join(r.answer + (f" \u00d7{r.count}" if r.count > 1 else "") for r in entry.references)
    answers = [_answer(answer, colours) for answer in entry.answers]
    return el(
        "article",
        picture,
        el("p", entry.prompt, class_="prompt"),
        el("p", el("span", "people: ", class_="quiet"), references or "no reference", class_="references"),
        el("ul", *answers),
        class_="card",
    )


def _answer(answer: GalleryAnswer, colours: Mapping[str, plots.Series]) -> Html:
    right = answer.score >= RIGHT
    partly = f"{answer.score:.0f} points" if 0 < answer.score < 99.5 else None
    mark = el("span", "\u2713" if right else "\u2717", class_="is-right" if right else "is-wrong", aria_hidden="true")
    said = el("span", "right: " if right else "wrong: ", class_="hidden")
    series = colours.get(answer.encoder, plots.Series(answer.encoder, 0))
    chip = plots.marker(series, 6, 6, radius=4)
    return el(
        "li",
        mark,
        said,
        el("span", answer.answer, class_="answer"),
        el("span", f"{100 * answer.confidence:.0f} %", class_="confidence", title="confidence"),
        el(
            "span",
            el("svg", chip, viewBox="0 0 12 12", width=12, height=12, aria_hidden="true"),
            f" {answer.encoder}",
            f", {partly}" if partly else None,
            class_="by",
        ),
        class_="right" if right else "wrong",
    )
