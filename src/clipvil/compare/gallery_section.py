"""The gallery as HTML: pictures, questions, and what every encoder answered."""

from __future__ import annotations

import re
from collections.abc import Mapping

from clipvil.compare import plots
from clipvil.compare.gallery import RIGHT
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import GalleryAnswer, GalleryEntry, GalleryGroup, Results, TaskInfo
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
        shown = [_group(group, task, colours, level) for group in groups if group.split == split]
        heading = el(f"h{level}", f"{split} split", class_="split-name") if len(task.splits) > 1 else None
        # Captions take much room: those of further splits, and of what is no model, are there for who asks.
        if task.kind.captions and (parts or task.baseline):
            parts.append(el("details", el("summary", f"Captions of the {split} split"), *shown))
        else:
            parts += [heading, *shown] if heading else shown
    return join(*parts)


def _group(group: GalleryGroup, task: TaskInfo, colours: Mapping[str, plots.Series], level: int) -> Html:
    if task.kind.captions:
        share = f"{len(group.entries)} of {group.total:,} pictures"
    else:
        share = f"{100 * group.share:.1f} % of {group.total:,} questions; {len(group.entries)} drawn"
    draw = _captioned if task.kind.captions else _card
    cards = [draw(entry, colours) for entry in group.entries]
    heading = el(f"h{level + 1}", el("span", group.title), el("small", share), class_="outcome")
    return el("section", heading, el("div", *cards, class_="cards"), class_="group")


def _picture(entry: GalleryEntry, about: str) -> Html:
    if entry.thumbnail and _BASE64.fullmatch(entry.thumbnail):
        return el("img", src=f"data:image/jpeg;base64,{entry.thumbnail}", alt=f"Picture {entry.image_id}, {about}")
    return el("div", "picture not available", class_="no-picture")


def _captioned(entry: GalleryEntry, colours: Mapping[str, plots.Series]) -> Html:
    """A picture, what people wrote about it, and what every encoder did, each with its score."""
    place, colon, value = entry.place.partition(":")
    references = [el("li", r.answer + (f" \u00d7{r.count}" if r.count > 1 else "")) for r in entry.references]
    return el(
        "article",
        _picture(entry, "captioned by people and by every encoder"),
        el("p", place, el("span", f"{colon} {value}", class_="quiet"), class_="prompt"),
        el("p", "people:", class_="quiet said-by"),
        el("ul", *references or [el("li", "no reference")], class_="people"),
        el("ul", *(_caption(answer, colours) for answer in entry.answers)),
        class_="card captioned",
    )


def _caption(answer: GalleryAnswer, colours: Mapping[str, plots.Series]) -> Html:
    return el(
        "li",
        _by(answer, colours, None),
        el("b", f"{answer.score:.1f}", class_="points"),
        el(
            "span",
            answer.answer or "(nothing)",
            el("span", f" {100 * answer.confidence:.0f} %", class_="confidence", title="confidence"),
            class_="said",
        ),
    )


def _by(answer: GalleryAnswer, colours: Mapping[str, plots.Series], points: str | None) -> Html:
    chip = plots.marker(colours.get(answer.encoder, plots.Series(answer.encoder, 0)), 6, 6, radius=4)
    return el(
        "span",
        el("svg", chip, viewBox="0 0 12 12", width=12, height=12, aria_hidden="true"),
        f" {answer.encoder}",
        f", {points}" if points else None,
        class_="by",
    )


def _card(entry: GalleryEntry, colours: Mapping[str, plots.Series]) -> Html:
    picture = _picture(entry, f"about which is asked: {entry.prompt}")
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
    return el(
        "li",
        mark,
        said,
        el("span", answer.answer, class_="answer"),
        el("span", f"{100 * answer.confidence:.0f} %", class_="confidence", title="confidence"),
        _by(answer, colours, partly),
        class_="right" if right else "wrong",
    )
