"""What every table of a report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from clipvil.compare import plots, wording
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import Interval, Paired

WIDE, NARROW = 928, 340
# About what columns of a table of scores take, in pixels: a letter of a name, a split, the least of a kind of answer.
_LETTER, _SPLIT, _KIND = 7.5, 280, 62


def responsive(wide: Html, narrow: Html) -> Html:
    """The same plot drawn twice: for wide pages and for narrow ones."""
    return join(el("div", wide, class_="wide"), el("div", narrow, class_="narrow"))


def table(caption: Html | None, head: Iterable[Html], body: Iterable[Html], css: str) -> Html:
    """A table that scrolls by itself where the page is too narrow."""
    drawn = el(
        "table",
        el("caption", caption) if caption else None,
        el("thead", el("tr", *head)),
        el("tbody", *body),
        class_=css,
    )
    # Focusable, so that a table wider than the page can be scrolled with the keyboard.
    return el("div", drawn, class_="scroll", tabindex="0", role="region", aria_label=f"table of {css}")


def th(label: str, **attributes: object) -> Html:
    """The head of a column."""
    return el("th", label, scope="col", **attributes)


def name_of(series: plots.Series) -> Html:
    """A label with its mark."""
    mark = el(
        "svg", plots.marker(series, 7, 7), viewBox="0 0 14 14", width=14, height=14, aria_hidden="true", class_="chip"
    )
    return el("span", mark, series.label, class_="who")


def figures(value: float, low: float, high: float) -> Html:
    """A score with its interval."""
    return join(el("b", wording.score(value)), el("span", f" {wording.bounds(low, high)}", class_="bounds"))


def stacked(item: Interval | None) -> list[object]:
    """A score with its interval below it; a dash where there is none."""
    if item is None:
        return ["\u2013"]
    return [wording.score(item.value), el("small", wording.bounds(item.low, item.high))]


def too_wide(names: Iterable[str], splits: int, kinds: Sequence[str]) -> bool:
    """Whether a table of scores, drawn on so many splits, has no room for the kinds on a wide page."""
    room = WIDE - 60 - _LETTER * max(map(len, names)) - _SPLIT * splits
    return bool(kinds) and sum(max(_KIND, 12 + _LETTER * len(kind)) for kind in kinds) > room


def kinds_table(
    head: str, rows: Iterable[tuple[object, Mapping[str, Interval]]], kinds: Sequence[str], caption: str
) -> Html:
    """The kinds in a table of their own, with intervals, for which there is room then."""
    body = []
    for name, found in rows:
        cells = [el("td", *stacked(found.get(kind)), class_="num", data_label=kind) for kind in kinds]
        body.append(el("tr", el("th", name, scope="row"), *cells))
    said = join(el("strong", "Beside them. "), caption)
    return table(said, [th(head), *(th(kind, class_="num") for kind in kinds)], body, "scores")


def difference_cells(split: str, pair: Paired | None, series: plots.Series, domain: tuple[float, float]) -> list[Html]:
    """Two cells: a difference drawn and in figures, grey where its interval holds zero; a dash where there is none."""
    if pair is None:
        return [el("td", "\u2013", colspan=2, class_="num", data_label=split)]
    bar = plots.interval_bar(series, plots.Estimate(pair.value, pair.low, pair.high), domain)
    figures = join(
        el("b", wording.signed(pair.value)),
        el("span", f" {wording.bounds(pair.low, pair.high)}", class_="bounds"),
        el("small", f"p {equals(wording.p_value(pair.p))}", class_="p"),
    )
    weak = None if pair.significant else " weak"
    return [
        el("td", bar, class_="drawn", data_label=split),
        el("td", figures, class_=f"num wide-num{weak or ''}"),
    ]


def equals(p: str) -> str:
    """A p-value behind its letter."""
    return p if p.startswith("<") else f"= {p}"
