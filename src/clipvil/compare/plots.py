"""The report's plots as inline SVG, drawn by small functions; colours are CSS classes, so they follow the page's theme.

Every function takes the width it is drawn for: the page holds a wide and a narrow version of each plot, because one
that is scaled down has unreadable labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clipvil.compare.axes import Scale, log_padded, padded, spread, tick_label
from clipvil.compare.html import Html, classes, el

FONT = 13
"""Height of plot text in SVG units, which are CSS pixels at the drawn width; `.plot text` in report.css agrees."""
_SHAPES = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Series:
    """How one encoder is drawn everywhere: its label, and its place in the palette (0 is the floor)."""

    label: str
    colour: int
    hollow: bool = False
    """Drawn as an outline: the same encoder under other conditions."""

    @property
    def css(self) -> str:
        """Class that carries the colour; the palette has eight, further ones come round again in other shapes."""
        return "s0" if self.colour == 0 else f"s{(self.colour - 1) % 8 + 1}"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and the single runs behind it."""

    value: float
    low: float
    high: float
    runs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    """One line of a dot plot: a heading, a smaller note beside it, and an estimate for each series that has one."""

    label: str
    note: str
    values: tuple[tuple[Series, Estimate], ...]


@dataclass(frozen=True)
class Point:
    """One point of a scatter plot."""

    series: Series
    x: float
    estimate: Estimate


@dataclass(frozen=True)
class Line:
    """One learning curve; `mark` is the x of the point to stress."""

    series: Series
    points: tuple[tuple[float, float], ...]
    mark: float | None = None


def marker(series: Series, x: float, y: float, *, radius: float = 4.5) -> Html:
    """The mark of a series. Shape repeats what colour says, for those who do not see the colour."""
    css = classes(("mark", series.css, "hollow" if series.hollow else None))
    shape = _SHAPES[(series.colour - 1) % len(_SHAPES)] if series.colour else "bar"
    if shape == "circle":
        return el("circle", class_=css, cx=x, cy=y, r=radius)
    if shape == "square":
        side = radius * 0.88
        return el("rect", class_=css, x=x - side, y=y - side, width=2 * side, height=2 * side)
    if shape == "bar":
        return el("rect", class_=css, x=x - 1.6, y=y - radius, width=3.2, height=2 * radius)
    r = radius * 1.2
    corners = (
        ((0, -r), (r, 0), (0, r), (-r, 0))
        if shape == "diamond"
        else ((0, -r), (r * 0.95, r * 0.75), (-r * 0.95, r * 0.75))
    )
    return el("polygon", class_=css, points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners))


def whisker(series: Series, scale: Scale, item: Estimate, y: float) -> Html:
    """The horizontal 95 % interval of an estimate."""
    return el("line", class_=f"whisker {series.css}", x1=scale(item.low), x2=scale(item.high), y1=y, y2=y)


def interval_bar(series: Series, item: Estimate, domain: tuple[float, float], *, width: int = 140) -> Html:
    """The drawing in a table cell: whisker, mark and a tick a run, on an axis shared by the whole column.

    Zero, where it lies inside the domain, is marked: for differences it is the line that matters.
    """
    scale = Scale(*domain, 6.0, width - 6.0)
    parts = [el("line", class_="rail", x1=0, x2=width, y1=11, y2=11)]
    if domain[0] < 0 < domain[1]:
        parts.append(el("line", class_="zero", x1=scale(0), x2=scale(0), y1=0, y2=22))
    parts += [el("line", class_=f"run {series.css}", x1=scale(v), x2=scale(v), y1=4, y2=18) for v in item.runs]
    parts += [whisker(series, scale, item, 11), marker(series, scale(item.value), 11)]
    return el("svg", *parts, class_="bar", viewBox=f"0 0 {width} 22", width=width, height=22, aria_hidden="true")


def dot_rows(groups: Sequence[Group], *, width: int, title: str, unit: str = "") -> Html:
    """A dot plot: one line a group, one lane a series, intervals as whiskers."""
    left = min(max(max((_text_width(g.label) for g in groups), default=0), 60) + 14, width * 0.5)
    lane, air = 12, 15
    values = [bound for g in groups for _, e in g.values for bound in (e.low, e.high)]
    scale = Scale(*padded(values, share=0.04), left, width - 14.0)
    heights = [max(len(g.values), 1) * lane + air for g in groups]
    bottom = float(sum(heights)) + 8
    parts = [_x_axis(scale, 4.0, bottom, unit, wanted=6 if width > 500 else 4)]
    top = 8.0
    for number, (group, height) in enumerate(zip(groups, heights, strict=True)):
        if number:
            parts.append(el("line", class_="rule", x1=0, x2=width, y1=top - 0.5, y2=top - 0.5))
        middle = top + height / 2
        parts.append(_row_label(group, left, middle))
        for place, (series, item) in enumerate(group.values):
            y = top + air / 2 + lane * (place + 0.5)
            parts += [whisker(series, scale, item, y), marker(series, scale(item.value), y, radius=4)]
        top += height
    return _svg(parts, width, bottom + 34, title)


def scatter(
    points: Sequence[Point],
    *,
    width: int,
    title: str,
    x_label: str,
    y_label: str,
    floor: tuple[str, float] | None = None,
) -> Html:
    """Score against cost, both labelled directly; the floor is a dashed line, because it has no cost."""
    height, left, bottom = (330, 48.0, 280.0) if width > 500 else (300, 40.0, 250.0)
    xs = [p.x for p in points]
    log = min(xs) > 0
    x = Scale(*(log_padded(xs) if log else padded(xs, share=0.1)), left, width - 16.0, log=log)
    ys = [v for p in points for v in (p.estimate.low, p.estimate.high)] + ([floor[1]] if floor else [])
    y = Scale(*padded(ys, share=0.08, floor=4.0), bottom, 22.0)
    parts = [_x_axis(x, 22.0, bottom, "", wanted=6 if width > 500 else 4), _y_axis(y, left, width - 16.0)]
    parts.append(el("text", x_label, class_="axis-title", x=width - 16, y=height - 6, text_anchor="end"))
    parts.append(el("text", y_label, class_="axis-title", x=0, y=12))
    if floor:
        parts.append(el("line", class_="floor", x1=left, x2=width - 16, y1=y(floor[1]), y2=y(floor[1])))
        parts.append(el("text", floor[0], class_="label s0", x=left + 6, y=y(floor[1]) - 6))
    for point in points:
        px, css = x(point.x), point.series.css
        parts.append(
            el("line", class_=f"whisker {css}", x1=px, x2=px, y1=y(point.estimate.low), y2=y(point.estimate.high))
        )
        parts.append(marker(point.series, px, y(point.estimate.value), radius=5.5))
    parts += _scatter_labels(points, x, y, width, bottom)
    return _svg(parts, width, height, title)


def curves(lines: Sequence[Line], *, width: int, title: str, x_label: str, y_label: str) -> Html:
    """Learning curves, one line a run, each series named once at its right end."""
    series = list(dict.fromkeys(line.series for line in lines))
    right = min(max(_text_width(s.label) for s in series) + 16, width * 0.42)
    height, left, bottom = (300, 48.0, 252.0) if width > 500 else (270, 40.0, 222.0)
    all_x = [px for line in lines for px, _ in line.points]
    all_y = [py for line in lines for _, py in line.points]
    x = Scale(min(all_x), max(max(all_x), min(all_x) + 1), left, width - right)
    y = Scale(*padded(all_y, share=0.06, floor=4.0), bottom, 22.0)
    parts = [_x_axis(x, 22.0, bottom, "", wanted=5 if width > 500 else 3), _y_axis(y, left, width - right)]
    parts.append(el("text", x_label, class_="axis-title", x=width - right, y=height - 6, text_anchor="end"))
    parts.append(el("text", y_label, class_="axis-title", x=0, y=12))
    for line in lines:
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in line.points)
        parts.append(el("polyline", class_=f"curve {line.series.css}", points=path))
        parts += [marker(line.series, x(px), y(py), radius=3.5) for px, py in line.points if px == line.mark]
    ends = [_mean([line.points[-1][1] for line in lines if line.series == s and line.points]) for s in series]
    wanted = [y(end) for end in ends]
    for s, at, place in zip(series, wanted, spread(wanted, FONT + 3, 24, bottom), strict=True):
        edge = width - right
        parts.append(el("line", class_="leader", x1=edge + 3, x2=edge + 10, y1=at, y2=place))
        parts.append(el("text", s.label, class_=f"label {s.css}", x=edge + 13, y=place + FONT * 0.35))
    return _svg(parts, width, height, title)


def ladder(
    lines: Sequence[tuple[Series, Sequence[tuple[float, Estimate]]]],
    *,
    width: int,
    title: str,
    x_label: str,
    y_label: str,
) -> Html:
    """Estimates over sizes on a logarithmic axis, one line a series, each named once at its right end.

    Marks of one size stand beside each other, so that their intervals can be told apart.
    """
    right = min(max(_text_width(s.label) for s, _ in lines) + 24, width * 0.42)
    height, left, bottom = (340, 48.0, 292.0) if width > 500 else (300, 40.0, 252.0)
    sizes = sorted({size for _, points in lines for size, _ in points})
    x = Scale(*log_padded(sizes), left + 10, width - right, log=True)
    y = Scale(*padded([v for _, points in lines for _, e in points for v in (e.low, e.high)], floor=4.0), bottom, 22.0)
    parts = [_y_axis(y, left, width - right)]
    for size in sizes:
        parts.append(el("line", class_="grid", x1=x(size), x2=x(size), y1=22, y2=bottom))
        parts.append(el("text", f"{size:,.0f}", class_="tick", x=x(size), y=bottom + 17, text_anchor="middle"))
    parts.append(el("text", x_label, class_="axis-title", x=width - right, y=height - 6, text_anchor="end"))
    parts.append(el("text", y_label, class_="axis-title", x=0, y=12))
    ends = []
    for number, (series, points) in enumerate(lines):
        shift = (number - (len(lines) - 1) / 2) * (5 if width > 500 else 3)
        placed = [(x(size) + shift, e) for size, e in sorted(points, key=lambda point: point[0])]
        path = " ".join(f"{px:.1f},{y(e.value):.1f}" for px, e in placed)
        parts.append(el("polyline", class_=f"curve {series.css}", points=path))
        for px, e in placed:
            parts.append(el("line", class_=f"whisker {series.css}", x1=px, x2=px, y1=y(e.low), y2=y(e.high)))
            parts.append(marker(series, px, y(e.value), radius=4))
        ends.append((placed[-1][0], y(placed[-1][1].value)))
    places = spread([at for _, at in ends], FONT + 3, 24, bottom)
    for (series, _), (px, at), place in zip(lines, ends, places, strict=True):
        edge = width - right
        parts.append(el("line", class_="leader", x1=px + 6, x2=edge + 18, y1=at, y2=place))
        parts.append(el("text", series.label, class_=f"label {series.css}", x=edge + 21, y=place + FONT * 0.35))
    return _svg(parts, width, height, title)


def _scatter_labels(points: Sequence[Point], x: Scale, y: Scale, width: int, bottom: float) -> list[Html]:
    """Labels on the side of a point that has room; those of one side are kept apart."""
    out: list[Html] = []
    for to_right in (True, False):
        side = [p for p in points if (x(p.x) + 12 + _text_width(p.series.label) < width - 10) == to_right]
        places = spread([y(p.estimate.value) for p in side], FONT + 3, 24, bottom - 4)
        for point, place in zip(side, places, strict=True):
            px, at = x(point.x), y(point.estimate.value)
            anchor, shift = ("start", 12) if to_right else ("end", -12)
            if abs(place - at) > 3:
                out.append(el("line", class_="leader", x1=px + shift * 0.5, x2=px + shift * 0.9, y1=at, y2=place))
            attributes = {"x": px + shift, "y": place + FONT * 0.35, "text_anchor": anchor}
            out.append(el("text", point.series.label, class_=f"label {point.series.css}", **attributes))
    return out


def _row_label(group: Group, left: float, middle: float) -> Html:
    label = _shorten(group.label, left - 12)
    name = el("text", label, el("title", group.label) if label != group.label else None, class_="row-label", x=0)
    two_lines = bool(group.note) and len(group.values) > 1
    name = el("g", name, transform=f"translate(0 {middle + (-2 if two_lines else FONT * 0.35):.1f})")
    if not two_lines:
        return name
    return el("g", name, el("text", group.note, class_="note", x=0, y=middle + 13))


def _x_axis(scale: Scale, top: float, bottom: float, unit: str, *, wanted: int) -> Html:
    parts = []
    for tick in scale.ticks(wanted):
        at = scale(tick)
        parts.append(el("line", class_="grid", x1=at, x2=at, y1=top, y2=bottom))
        parts.append(el("text", tick_label(tick) + unit, class_="tick", x=at, y=bottom + 17, text_anchor="middle"))
    return el("g", *parts)


def _y_axis(scale: Scale, left: float, right: float) -> Html:
    parts = []
    for tick in scale.ticks(5):
        at = scale(tick)
        parts.append(el("line", class_="grid", x1=left, x2=right, y1=at, y2=at))
        parts.append(el("text", tick_label(tick), class_="tick", x=left - 8, y=at + FONT * 0.35, text_anchor="end"))
    return el("g", *parts)


def _svg(parts: Sequence[Html], width: float, height: float, title: str) -> Html:
    size = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return el("svg", el("title", title), *parts, class_="plot", role="img", **size)


def _text_width(label: str) -> float:
    """Width of a label, overestimated rather than under: the reader's font is not known here."""
    return len(label) * FONT * 0.56


def _shorten(label: str, width: float) -> str:
    fits = int(width / (FONT * 0.56))
    return label if len(label) <= fits else label[: max(fits - 1, 1)] + "\u2026"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
