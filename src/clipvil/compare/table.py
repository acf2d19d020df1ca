"""The comparison in the terminal: one table a task, best first, then the differences as sentences."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from clipvil.compare import wording
from clipvil.compare.beside import SideBySide, side_by_side
from clipvil.compare.overview import overview
from clipvil.compare.results import Results, Row, TaskInfo

WIDTH = 100
_COSTS = ("params", "GFLOPs", "pics/s", "B/pic", "train")


def render_table(results: Results, *, width: int = WIDTH, colour: bool = False) -> str:
    """The table and the sentences below it, at most `width` columns; plain text unless `colour`.

    Where scores and costs do not fit side by side, even set closely, they become two tables.
    """
    parts = [_overview(results, width, colour)]
    for task in results.tasks:
        parts += [_task(results, task, width, colour)]
    parts += [_beside(group, colour) for group in side_by_side(results)]
    parts += [_gains(results, a, b) for a, b in results.task_pairs()]
    problems = [f"failed: {c.encoder}, {c.task}, seed {c.seed}: {c.error}" for c in results.failures]
    return "\n\n".join(part for part in [*parts, "\n".join(problems)] if part)


def _overview(results: Results, width: int, colour: bool) -> str:
    """Every task and its metric in one table, where there are several; intervals where they fit."""
    lines = overview(results)
    if len(lines) < 2:
        return ""
    labels = [encoder.label for encoder in results.encoders]
    drawn = ""
    for say in (wording.interval, lambda item: wording.score(item.value)):
        rows = [
            [
                line.task.name,
                line.metric,
                line.split,
                *(
                    say(line.scores[e]) if e in line.scores else results.standing(line.task.name, e) or "-"
                    for e in labels
                ),
            ]
            for line in lines
        ]
        rows = [[cell.replace(wording.MINUS, "-") for cell in row] for row in rows]
        drawn = draw(["task", "metric", "split", *labels], rows, False)
        if _width(drawn) <= width:
            break
    return f"all tasks\n\n{drawn}"


def _task(results: Results, task: TaskInfo, width: int, colour: bool) -> str:
    split = task.splits[0] if task.splits else ""
    rows = results.ranked(task.name, split)
    if not rows:
        return f"{task.name}: no run has finished"
    seeds = wording.plural(max(len(row.per_seed) for row in rows), "seed")
    metric = task.kind.name(task.metric)
    title = f"{task.name} ({metric}, 95 % intervals, {seeds}, n = {rows[0].mean.n})"
    names = [row.encoder for row in rows]
    scores, costs = _scores(results, task, rows), [[v.replace("\u2013", "-") for v in _costs(results, r)] for r in rows]
    head = ["encoder", *_score_heads(task, rows)]
    for encoder in results.encoders:
        if encoder.label not in names and (missing := results.standing(task.name, encoder.label)):
            names.append(encoder.label)
            scores.append([missing, *["-"] * (len(head) - 2)])
            costs.append(["-"] * len(_COSTS))
    whole = [[n, *s, *c] for n, s, c in zip(names, scores, costs, strict=True)]
    drawn = (draw(head + list(_COSTS), whole, colour, gap) for gap in (1, 0))
    one = next((table for table in drawn if _width(table) <= width), None)
    tables = [one] if one else [
        draw(head, [[n, *s] for n, s in zip(names, scores, strict=True)], colour),
        draw(["encoder", *_COSTS], [[n, *c] for n, c in zip(names, costs, strict=True)], colour),
    ]  # fmt: skip
    gone = textwrap.wrap(wording.left_out_line(task.left_out), width)
    if any(row.seconds_before for row in rows):
        gone += textwrap.wrap("train: seconds of the run that it starts from + its own", width)
    return "\n".join([title, *gone, "", "\n\n".join(tables), "", *_sentences(results, task)])


def _score_heads(task: TaskInfo, rows: Sequence[Row]) -> list[str]:
    return [*task.splits, *rows[0].columns(task.kind)]


def _scores(results: Results, task: TaskInfo, rows: Sequence[Row]) -> list[list[str]]:
    kinds = rows[0].columns(task.kind)
    out = []
    for row in rows:
        cells = [wording.interval(row.mean)]
        for split in task.splits[1:]:
            there = results.row(task.name, split, row.encoder)
            cells.append(wording.score(there.mean.value) if there else "-")
        groups = row.breakdowns.get(task.kind.columns, {})
        cells += [wording.score(groups[kind].value) if kind in groups else "-" for kind in kinds]
        out.append([cell.replace(wording.MINUS, "-") for cell in cells])
    return out


def _costs(results: Results, row: Row) -> list[str]:
    costs = results.encoder(row.encoder).costs
    return [
        wording.count(costs.parameters).replace(" ", ""),
        wording.decimal(costs.gflops),
        wording.decimal(costs.pictures_per_second),
        wording.count(costs.store_bytes).replace(" ", ""),
        _seconds(row),
    ]


def _seconds(row: Row) -> str:
    """Seconds of training; where it started from another run, that run's first, as in `40+12s`."""
    if row.training_seconds is None:
        return "\u2013"
    before = f"{row.seconds_before:.0f}+" if row.seconds_before else ""
    return f"{before}{row.training_seconds:.0f}s"


def _sentences(results: Results, task: TaskInfo) -> list[str]:
    lines: list[str] = []
    for split in task.splits:
        pairs = [
            results.difference(task.name, split, results.reference, encoder.label)
            for encoder in results.encoders
            if encoder.label != results.reference
        ]
        said = [f"  {wording.difference_line(pair)}" for pair in pairs if pair]
        lines += [f"differences on {split} (points, paired bootstrap over {task.kind.redrawn}):", *said] if said else []
    return lines


def _beside(group: SideBySide, colour: bool) -> str:
    """All ways of answering the same questions, those without a model among them."""
    rows = []
    for way in group.ways:
        first, *others = (way.scores.get(split) for split in group.splits)
        cells = [wording.interval(first) if first else "-", *(wording.score(o.value) if o else "-" for o in others)]
        cells += [wording.score(way.kinds[kind].value) if kind in way.kinds else "-" for kind in group.kinds]
        rows.append([way.title, *(cell.replace(wording.MINUS, "-") for cell in cells)])
    title = f"side by side: every way of {group.tasks[0].kind.ways}"
    return "\n".join(
        [
            title,
            "",
            draw(
                ["captioned by" if group.tasks[0].kind.captions else "answered by", *group.splits, *group.kinds],
                rows,
                colour,
            ),
        ]
    )


def _gains(results: Results, a: str, b: str) -> str:
    """What one task's model gains over another's, split by split and encoder by encoder."""
    lines: list[str] = []
    for split in results.task(a).splits:
        pairs = [results.task_difference(a, b, split, encoder.label) for encoder in results.encoders]
        title = f"{wording.pair_title(results, a, b)} on {split}"
        lines.append(f"{title} (points, paired bootstrap over pictures):")
        lines += [f"  {wording.task_difference_line(pair)}" for pair in pairs if pair]
    return "\n".join(lines)


def draw(head: Sequence[str], rows: Sequence[Sequence[str]], colour: bool, gap: int = 1) -> str:
    """A table as text. Drawn wide first: rich would otherwise fold cells instead of telling that they do not fit."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0), show_edge=False)
    for number, name in enumerate(head):
        table.add_column(Text(name), justify="left" if number < 2 else "right", no_wrap=True)
    for number, row in enumerate(rows):
        # Text, not str: an encoder's label may hold square brackets, which rich takes for markup.
        table.add_row(*(Text(cell) for cell in row), style="bold" if colour and number == 0 else None)
    stream = io.StringIO()
    console = Console(file=stream, width=400, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _width(text: str) -> int:
    from rich.text import Text

    return max((Text.from_ansi(line).cell_len for line in text.splitlines()), default=0)
