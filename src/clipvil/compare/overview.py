"""All tasks of a comparison at a glance, each with its own metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clipvil.compare import wording
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import Interval, Results, TaskInfo


@dataclass(frozen=True)
class Line:
    """One task on its ordinary test split: what it is scored by, and the score of every encoder that has one."""

    task: TaskInfo
    metric: str
    split: str
    scores: Mapping[str, Interval]


def overview(results: Results) -> list[Line]:
    """The tasks that have a score, in the order of the suite."""
    lines = []
    for task in results.tasks:
        rows = results.ranked(task.name, task.splits[0]) if task.splits else []
        if rows:
            scores = {row.encoder: row.mean for row in rows}
            lines.append(Line(task, task.kind.name(task.metric), task.splits[0], scores))
    return lines


def overview_section(results: Results) -> Html | None:
    """The same as a table of the report; None where there is a single task."""
    lines = overview(results)
    if len(lines) < 2:
        return None
    labels = [encoder.label for encoder in results.encoders]
    head = [el("th", name, scope="col") for name in ("Task", "Metric")]
    head += [el("th", label, scope="col", class_="num") for label in labels]
    body = [el("tr", *_cells(results, line, labels)) for line in lines]
    metrics = list(dict.fromkeys(line.metric for line in lines))
    several = f" Scores by {' and '.join(metrics)} are on scales of their own." if len(metrics) > 1 else ""
    redrawn = " or ".join(dict.fromkeys(task.kind.redrawn for task in results.tasks))
    caption = join(
        el("strong", "All tasks. "),
        f"The {lines[0].split} split, with 95 % intervals (bootstrap over {redrawn}); the best of a task is set in "
        f"bold.{several}",
    )
    table = el("table", el("caption", caption), el("thead", el("tr", *head)), el("tbody", *body), class_="overview")
    scroll = el("div", table, class_="scroll", tabindex="0", role="region", aria_label="table of all tasks")
    return el("section", el("h2", "All tasks"), scroll)


def _cells(results: Results, line: Line, labels: list[str]) -> list[Html]:
    best = max(line.scores.values(), key=lambda item: item.value)
    cells = [el("th", line.task.name, scope="row"), el("td", line.metric, data_label="metric")]
    for label in labels:
        item = line.scores.get(label)
        if item is None:
            missing = results.standing(line.task.name, label) or "\u2013"
            cells.append(el("td", missing, class_="num", data_label=label))
            continue
        value = wording.score(item.value)
        figures = (el("b", value) if item is best else value, el("small", wording.bounds(item.low, item.high)))
        cells.append(el("td", *figures, class_="num", data_label=label))
    return cells
