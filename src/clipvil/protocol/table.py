"""A protocol in the terminal: one table a task, then the gains as sentences."""

from __future__ import annotations

from clipvil.compare import wording as numbers
from clipvil.compare.table import WIDTH, draw
from clipvil.protocol.results import Report, TaskRow
from clipvil.protocol.wording import gain_line


def render_table(report: Report, *, width: int = WIDTH, colour: bool = False) -> str:
    """Tables and sentences as plain text (unless `colour`); intervals are left out where they do not fit `width`."""
    parts = [_task(report, task, width, colour) for task in report.tasks]
    problems = [f"failed: {cell.task}, seed {cell.seed}: {cell.error}" for cell in report.failures]
    return "\n\n".join([*parts, *(["\n".join(problems)] if problems else [])])


def _task(report: Report, task: TaskRow, width: int, colour: bool) -> str:
    conditions = report.conditions_of(task.name)
    if not conditions:
        return f"{task.name}: no run has finished"
    seeds = max(len(row.per_seed) for row in report.scores if row.task == task.name)
    lines = [f"{task.name} ({task.kind.name(task.metric)}, 95 % intervals, {numbers.plural(seeds, 'seed')})", ""]
    for intervals in (True, False):
        drawn = _draw(report, task, conditions, colour, intervals)
        if max(map(len, drawn.splitlines())) <= width:
            break
    lines.append(drawn)
    for condition in conditions:
        for split in task.splits:
            found = [report.gain(task.name, condition, m, split) for m in report.methods_of(task.name, condition)]
            said = [f"  {gain_line(gain, report.reference)}" for gain in found if gain]
            lines += [f"gains on {split}, {condition}:", *said] if said else []
    return "\n".join(lines)


def _draw(report: Report, task: TaskRow, conditions: list[str], colour: bool, intervals: bool) -> str:
    rows = []
    for condition in conditions:
        for method in report.methods_of(task.name, condition):
            cells = []
            for split in task.splits:
                row = report.score(task.name, condition, method, split)
                say = numbers.interval(row.mean) if row and intervals else numbers.score(row.mean.value) if row else "-"
                cells.append(say.replace(numbers.MINUS, "-"))
            cost = next(c for c in report.costs if (c.task, c.condition, c.method) == (task.name, condition, method))
            cells.append(numbers.decimal(cost.steps_per_second).replace("\u2013", "-"))
            rows.append([condition, method, *cells])
    return draw(["pictures", "method", *task.splits, "steps/s"], rows, colour)
