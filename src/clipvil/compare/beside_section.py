"""The report's table of all ways of answering the same questions."""

from __future__ import annotations

from clipvil.compare import plots, wording
from clipvil.compare.axes import padded
from clipvil.compare.beside import SideBySide, Way, side_by_side
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import Results
from clipvil.compare.sections import palette

_GUESSES = (
    " Quiet rows use no picture and no model: chance is the expected score of an answer drawn evenly from the training "
    "answers, majority the answer given most often in training; rows by answer type are told the type that the "
    "annotation of each test question states."
)
_WALKERS = (
    " Quiet rows learn nothing: the oracle goes the shortest way to the goal, the random walker draws among the ways "
    "on, the last stops where it starts."
)


def beside_section(results: Results) -> Html | None:
    """Trained, zero-shot and model-free answers in one table, for every set of questions; None where none is known."""
    tables = [_table(results, group) for group in side_by_side(results)]
    if not tables:
        return None
    return el("section", el("h2", "Side by side"), *tables, class_="task")


def _table(results: Results, group: SideBySide) -> Html:
    domain = padded([bound for way in group.ways for item in way.scores.values() for bound in (item.low, item.high)])
    colours = palette(results)
    head = [el("th", "Captioned by" if group.tasks[0].kind.captions else "Answered by", scope="col")]
    # Drawn once, in figures for every split: there are many rows, and the kinds of answers must not be out of sight.
    head += [el("th", group.splits[0], scope="col", colspan=2, class_="split")]
    head += [el("th", split, scope="col", class_="num") for split in group.splits[1:]]
    head += [el("th", kind, scope="col", class_="num") for kind in group.kinds]
    body = [_row(way, group, colours.get(way.encoder, plots.Series(way.title, 0)), domain) for way in group.ways]
    names = ", ".join(task.name for task in group.tasks)
    kind = group.tasks[0].kind
    kinds = f" {', '.join(group.kinds)}: the {group.splits[0]} split {kind.columns_note}." if group.kinds else ""
    caption = join(
        el("strong", f"{names}. "),
        f"All ways of {kind.ways}, best first, with 95 % intervals (bootstrap over {kind.redrawn}).",
        (_WALKERS if kind.walks else _GUESSES) if any(not way.encoder for way in group.ways) else None,
        _untrained(group),
        kinds,
    )
    table = el(
        "table", el("caption", caption), el("thead", el("tr", *head)), el("tbody", *body), class_="scores beside"
    )
    return el("div", table, class_="scroll", tabindex="0", role="region", aria_label="table of all ways of answering")


def _untrained(group: SideBySide) -> str | None:
    """Which of the tasks train nothing, where that is all that is known without a model."""
    names = [task.name for task in group.tasks if not task.trains]
    if not names or not group.tasks[0].kind.captions:
        return None
    return f" {', '.join(names)} trains nothing: it says a caption of the training picture that looks most alike."


def _row(way: Way, group: SideBySide, series: plots.Series, domain: tuple[float, float]) -> Html:
    mark = el(
        "svg", plots.marker(series, 7, 7), viewBox="0 0 14 14", width=14, height=14, aria_hidden="true", class_="chip"
    )
    cells = [el("th", el("span", mark, way.title, class_="who"), scope="row")]
    for split in group.splits:
        item = way.scores.get(split)
        first = split == group.splits[0]
        if item is None:
            cells.append(el("td", "\u2013", colspan=2 if first else 1, class_="num", data_label=split))
            continue
        if not first:
            cells.append(el("td", wording.score(item.value), class_="num", data_label=split))
            continue
        drawn = plots.interval_bar(series, plots.Estimate(item.value, item.low, item.high), domain)
        figures = join(
            el("b", wording.score(item.value)), el("span", f" {wording.bounds(item.low, item.high)}", class_="bounds")
        )
        cells += [el("td", drawn, class_="drawn", data_label=split), el("td", figures, class_="num wide-num")]
    for kind in group.kinds:
        found = way.kinds.get(kind)
        cells.append(el("td", wording.score(found.value) if found else "\u2013", class_="num", data_label=kind))
    return el("tr", *cells, class_=None if way.encoder else "floor-row")
