"""`report.html`: one file that needs nothing else, not even a network, and loads nothing even if told to."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from clipvil.compare import sections, wording
from clipvil.compare.beside_section import beside_section
from clipvil.compare.caption_gallery import PLACES_SAID
from clipvil.compare.gallery_section import gallery_section
from clipvil.compare.html import Html, el, join
from clipvil.compare.overview import overview_section
from clipvil.compare.results import Cell, Results, Stored, TaskInfo
from clipvil.files import atomic_write

MANY = 4
"""Tasks that the head of the report speaks of one by one."""
ANSWERS_RULE = (
    "Drawn by a fixed rule: records that all encoders answered are sorted by id and shuffled with seed 0, and the "
    "first of each kind of outcome are shown, no picture twice. Answers are those of the lowest seed; the percentage "
    "is the model's own confidence; an answer counts as right here when it earns at least half of the score."
)
WALKS_RULE = (
    "Houses from above, the right way as a broad band from the ring, each walk in its encoder's colour, a dot where it "
    "stopped. Drawn by a fixed rule: instructions are sorted by id and shuffled with seed 0, and the first of each "
    "kind of outcome are shown, no path twice. Walks are those of the lowest seed; the percentage is the model's own "
    "confidence (the geometric mean over its decisions); a walk is right when it stops less than 3 m from the goal."
)
CAPTIONS_RULE = (
    f"Drawn by a fixed rule, not for being good: pictures at {PLACES_SAID} of all that every encoder captioned, in "
    "the order of the reference's score, and again in the order of its lead over the best of the others; equal ones by "
    "id, no picture twice. Captions are those of the lowest seed, each with its own score; the percentage is the "
    "model's confidence (of a trained model, the geometric mean of its words' probabilities)."
)


def write_report(results: Results, path: str | Path) -> Path:
    """Write the report, whole or not at all; returns its path."""
    return save_page(render(results), path)


def save_page(page: str, path: str | Path) -> Path:
    """Write a page, whole or not at all; returns its path."""
    path = Path(path)
    with atomic_write(path) as stream:
        stream.write(page.encode("utf-8"))
    return path


def render(results: Results) -> str:
    """The report as HTML. All text from data is escaped; a content security policy forbids scripts and loads."""
    summary = overview_section(results)
    body = [summary] if summary else []
    body += [_task_section(results, task, several=len(results.tasks) > 1) for task in results.tasks]
    beside = beside_section(results)
    body += [beside] if beside else []
    body.append(_gain_section(results))
    return page_of(results, _header(results), _notice(results), join(*body), _method(results))


def page_of(results: Stored, header: Html, notice: Html | None, body: Html, method: Html) -> str:
    """The parts of a report as one page."""
    return Template(_packaged("report.html")).substitute(
        title=join(results.title),
        style=_packaged("report.css"),
        header=header,
        notice=notice or "",
        body=body,
        method=method,
    )


def _packaged(name: str) -> str:
    return importlib.resources.files("clipvil.compare").joinpath(name).read_text(encoding="utf-8")


def _header(results: Results) -> Html:
    findings = []
    several = len(results.tasks) > 1
    pairs = [(a, b) for a, b in results.task_pairs() if not results.task(b).baseline]
    # A baseline is no finding of its own: the tasks that are held against it say how far they are from it.
    headed = [task for task in results.tasks if not task.baseline] or results.tasks
    if len(headed) > MANY and pairs:
        headed = headed[:1]  # the table of all tasks follows, and what they gain over each other is the news
    for number, task in enumerate(headed):
        # The first task is the headline; of several, each says whose it is.
        name = f"{wording.task_title(task)}: " if several else ""
        findings.append(
            el("p", name + wording.finding(results, task), class_="finding second" if number else "finding")
        )
        shifted = wording.shift_finding(results, task)
        if shifted and not number:
            findings.append(el("p", shifted, class_="finding second"))
    for pair in pairs:
        findings.append(el("p", wording.task_finding(results, *pair), class_="finding second"))
    return head_of(results, findings)


def head_of(results: Stored, findings: Sequence[Html]) -> Html:
    """Title, findings, and what was run when."""
    runs = sum(cell.status == "done" for cell in results.cells)
    facts = (
        results.updated[:10],
        wording.plural(runs, "run"),
        f"{wording.duration(results.wall_seconds)} of wall time",
        f"clipvil {results.environment.get('clipvil', '')}",
    )
    return el("header", el("h1", results.title), *findings, el("p", " \u00b7 ".join(facts), class_="facts"))


def _notice(results: Results) -> Html | None:
    several = len(results.tasks) > 1
    gone = [
        el("p", f"{task.name}: " if several else "", wording.left_out_line(task.left_out))
        for task in results.tasks
        if task.left_out
    ]
    return notice_of(results, gone, lambda cell: f"{cell.encoder}, {cell.task}, seed {cell.seed}")


def notice_of(results: Stored, gone: Sequence[Html], name: Callable[[Cell], str]) -> Html | None:
    """What is missing, before any number is read. `gone` is said of pictures left out, `name` tells cells apart."""
    open_cells = [cell for cell in results.cells if cell.status == "pending"]
    if not results.failures and not open_cells and not gone:
        return None
    parts = [*gone]
    if open_cells:
        done = sum(cell.status == "done" for cell in results.cells)
        text = f"Not finished: {done} of {len(results.cells)} runs are done; the numbers below are of those alone."
        parts.append(el("p", el("strong", text)))
    if results.failures:
        parts.append(
            el("p", el("strong", f"{wording.plural(len(results.failures), 'run')} failed and are missing below:"))
        )
        parts.append(el("ul", *(el("li", f"{name(cell)}: {cell.error}") for cell in results.failures)))
    return el("aside", *parts, class_="notice", role="note")


def _task_section(results: Results, task: TaskInfo, *, several: bool) -> Html:
    blocks = [
        ("How well each encoder serves", join(
            sections.score_table(results, task),
            sections.metric_table(results, task),
            sections.difference_table(results, task),
            sections.all_pairs(results, task),
        )),
        ("What it costs", sections.cost_section(results, task)),
        ("Where the encoders differ", sections.breakdown_section(results, task)),
        ("How the runs learned", sections.curve_section(results, task)),
        (task.kind.output, _with_rule(task, gallery_section(results, task, level=4 if several else 3))),
    ]  # fmt: skip
    shown = [el("section", el("h3" if several else "h2", title), block) for title, block in blocks if block]
    heading = el("h2", task.name, class_="task-name") if several else None
    return el("section", heading, *shown, class_="task")


def _gain_section(results: Results) -> Html:
    """What another model gains, where the comparison holds several on the same questions or pictures."""
    tables = [sections.task_difference_table(results, a, b) for a, b in results.task_pairs()]
    return el("section", el("h2", "What another model gains"), *tables, class_="task") if tables else join()


def _with_rule(task: TaskInfo, gallery: Html | None) -> Html | None:
    if gallery is None:
        return None
    rule = CAPTIONS_RULE if task.kind.captions else WALKS_RULE if task.kind.walks else ANSWERS_RULE
    return join(el("p", rule, class_="caption"), gallery)


def _method(results: Results) -> Html:
    items: list[tuple[str, object]] = [
        ("Protocol", el("ul", *(el("li", sentence) for sentence in results.protocol))),
        ("Encoders", el("ul", *(el("li", el("b", e.label), ": ", sections.encoder_note(e)) for e in results.encoders))),
    ]
    for task in results.tasks:
        items.append((f"Data of {task.name}", _data(task)))
    items += [
        ("Command", el("pre", el("code", results.command))),
        ("Hardware", hardware_line(results.environment)),
        ("Software", software_line(results.environment)),
    ]
    for task in results.tasks:
        recipe = yaml.safe_dump(task.recipe, sort_keys=False, allow_unicode=True) if task.recipe else ""
        if recipe:
            items.append((f"Recipe of {task.name}", el("details", el("summary", "settings"), el("pre", recipe))))
    rows = [join(el("dt", name), el("dd", value)) for name, value in items if value]
    return el("section", el("h2", "Method"), el("dl", *rows), class_="method")


def _data(task: TaskInfo) -> Html:
    parts = [
        f"{split}: {size:,} {task.kind.records}"
        + (f", hash {task.fingerprints[split]}" if task.fingerprints.get(split) else "")
        for split, size in task.sizes.items()
    ]
    metric = f"Scored by {task.metric}" + (f", mode {task.mode}" if task.mode else "")
    return join(
        el("p", metric + ("; " + task.data if task.data else "")), el("ul", *(el("li", part) for part in parts))
    )


def hardware_line(env: Mapping[str, Any]) -> str:
    """The machine that an environment describes."""
    cpu = env.get("cpu")
    parts = [f"{cpu.get('model')}, {cpu.get('cores')} cores" if isinstance(cpu, dict) else ""]
    parts += [f"{env['memory_gib']} GiB of memory" if "memory_gib" in env else "", str(env.get("device", ""))]
    return ", ".join(part for part in parts if part)


def software_line(env: Mapping[str, Any]) -> str:
    """The versions that an environment describes."""
    packages = env.get("packages")
    known = {k: v for k, v in packages.items() if v} if isinstance(packages, dict) else {}
    versions = [f"clipvil {env.get('clipvil', '?')}", f"Python {env.get('python', '?')}"]
    versions += [f"{name} {version}" for name, version in known.items()]
    return ", ".join(versions) + (f"; {env['platform']}" if "platform" in env else "")
