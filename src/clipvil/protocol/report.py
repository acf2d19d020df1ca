"""A protocol's `report.html`: one file that needs nothing else, in the manner of a comparison's."""

from __future__ import annotations

from pathlib import Path

import yaml

from clipvil.compare import wording as numbers
from clipvil.compare.html import Html, el, join
from clipvil.compare.report import hardware_line, head_of, notice_of, page_of, save_page, software_line
from clipvil.compare.sections import encoder_note
from clipvil.protocol import sections
from clipvil.protocol.results import Report, TaskRow
from clipvil.protocol.wording import finding


def write_report(report: Report, path: str | Path) -> Path:
    """Write the report, whole or not at all; returns its path."""
    return save_page(render(report), path)


def render(report: Report) -> str:
    """The report as HTML. All text from data is escaped; a content security policy forbids scripts and loads."""
    said = [
        el("p", finding(report, task.name), class_="finding second" if number else "finding")
        for number, task in enumerate(report.tasks)
    ]
    gone = [el("p", f"{t.name}: {numbers.left_out_line(t.left_out)}") for t in report.tasks if t.left_out]
    notice = notice_of(report, gone, lambda cell: f"{cell.task}, seed {cell.seed}")
    body = join(sections.overview(report), *(_task(report, task) for task in report.tasks))
    return page_of(report, head_of(report, said), notice, body, _method(report))


def _task(report: Report, task: TaskRow) -> Html:
    blocks = [
        ("Over shots", sections.shot_curves(report, task)),
        ("Scores", sections.score_tables(report, task)),
        (f"Gains over {report.reference}", sections.gain_tables(report, task)),
        ("What a shift costs", sections.drop_table(report, task)),
        ("What it costs", sections.cost_table(report, task)),
        ("The shots", sections.subset_table(report, task)),
    ]
    shown = [el("section", el("h3", title), block) for title, block in blocks if block]
    return el("section", el("h2", task.name, class_="task-name"), *shown, class_="task")


def _method(report: Report) -> Html:
    items: list[tuple[str, object]] = [
        ("Protocol", el("ul", *(el("li", sentence) for sentence in report.protocol))),
        ("Methods", el("ul", *(_method_line(row.name, row.overrides) for row in report.methods))),
        ("Student", encoder_note(report.encoder) if report.encoder else ""),
    ]
    for task in report.tasks:
        parts = [
            f"{split}: {size:,} {task.kind.records}, {numbers.plural(task.pictures.get(split, 0), 'picture')}, hash "
            f"{task.fingerprints.get(split, '')}"
            for split, size in task.sizes.items()
        ]
        said = f"Scored by {task.metric}" + (f", mode {task.mode}" if task.mode else "")
        items.append((f"Data of {task.name}", join(el("p", said), el("ul", *(el("li", part) for part in parts)))))
    asked = yaml.safe_dump(report.declaration, sort_keys=False, allow_unicode=True)
    items += [
        ("Command", el("pre", el("code", report.command))),
        ("Hardware", hardware_line(report.environment)),
        ("Software", software_line(report.environment)),
        ("Declaration", el("details", el("summary", "as it was run"), el("pre", asked))),
    ]
    rows = [join(el("dt", name), el("dd", value)) for name, value in items if value]
    return el("section", el("h2", "Method"), el("dl", *rows), class_="method")


def _method_line(name: str, overrides: list[str]) -> Html:
    return el("li", el("b", name), ": ", el("code", " ".join(overrides)) if overrides else "the recipe as it is")
