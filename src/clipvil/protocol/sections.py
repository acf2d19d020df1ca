"""The parts of a protocol's report that show numbers: curves over shots, scores, gains, drops, costs and shots."""

from __future__ import annotations

from collections.abc import Sequence

from clipvil.compare import plots
from clipvil.compare import wording as numbers
from clipvil.compare.axes import padded
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import Interval
from clipvil.compare.tables import (
    NARROW,
    WIDE,
    difference_cells,
    figures,
    kinds_table,
    name_of,
    responsive,
    table,
    th,
    too_wide,
)
from clipvil.protocol.results import Cost, Drop, Ratio, Report, ScoreRow, TaskRow

MOST_DRAWN = 2
"""Test splits that have room for drawings beside their figures."""
_DASH = "\u2013"


def palette(report: Report) -> dict[str, plots.Series]:
    """Method -> how it is drawn, by place in the declaration; the reference as the floor is."""
    others = [row.name for row in report.methods if row.name != report.reference]
    series = {name: plots.Series(name, number) for number, name in enumerate(others, start=1)}
    return {report.reference: plots.Series(report.reference, 0), **series}


def overview(report: Report) -> Html | None:
    """Every task and condition on the ordinary test split: the reference's score, and what the others gain."""
    places = [(task, name) for task in report.tasks for name in report.conditions_of(task.name)]
    if not places:
        return None
    head = [th("Method"), *(th(f"{task.name}, {condition}", class_="num") for task, condition in places)]
    colours, body = palette(report), []
    for method in report.methods:
        cells = [_overview_cell(report, task, condition, method.name) for task, condition in places]
        body.append(el("tr", el("th", name_of(colours[method.name]), scope="row"), *cells))
    caption = join(
        el("strong", "Everything at once. "),
        f"The score of {report.reference} on the ordinary test split, and what each other method gains over it, in "
        "points with the 95 % interval. Grey: the interval holds zero.",
    )
    return el("section", el("h2", "All tasks and conditions"), table(caption, head, body, "overview"))


def _overview_cell(report: Report, task: TaskRow, condition: str, method: str) -> Html:
    label = f"{task.name}, {condition}"
    row = report.score(task.name, condition, method, task.splits[0])
    if row is None:
        return el("td", _DASH, class_="num", data_label=label)
    gain = report.gain(task.name, condition, method, task.splits[0])
    if gain is None:
        return el("td", el("b", numbers.score(row.mean.value)), class_="num", data_label=label)
    bounds = el("small", numbers.bounds(gain.low, gain.high))
    weak = "" if gain.significant else " weak"
    return el("td", el("b", numbers.signed(gain.value)), bounds, class_=f"num{weak}", data_label=label)


def shot_curves(report: Report, task: TaskRow) -> Html | None:
    """Score against the number of training pictures, one plot a test split; None with fewer than two sizes."""
    sizes = {row.name: row.pictures.get(task.name, 0) for row in report.conditions}
    conditions = report.conditions_of(task.name)
    if len({sizes[name] for name in conditions}) < 2:
        return None
    colours, shown = palette(report), []
    for split in task.splits:
        lines = []
        for method in report.methods:
            found = [(name, report.score(task.name, name, method.name, split)) for name in conditions]
            known = [(float(sizes[name]), _estimate(row)) for name, row in found if row is not None]
            if known:
                lines.append((colours[method.name], known))
        if not lines:
            continue
        drawn = [
            plots.ladder(
                lines, width=width, title=f"{task.name}: score on {split} over training pictures",
                x_label="pictures to train on", y_label=f"{split} {task.kind.name(task.metric)}",
            )
            for width in (WIDE, NARROW)
        ]  # fmt: skip
        shown.append(responsive(*drawn))
    note = "Whiskers are 95 % intervals over test pictures. Methods that were tried under one condition alone are dots."
    return join(*shown, el("p", note, class_="caption")) if shown else None


def score_tables(report: Report, task: TaskRow) -> Html:
    """Every method under every condition on every test split, drawn on one axis, and the kinds of answers."""
    everything = [row for row in report.scores if row.task == task.name]
    if not everything:
        return el("p", "No run of this task has finished.", class_="empty")
    domain = padded([bound for row in everything for bound in (row.mean.low, row.mean.high)], share=0.03)
    colours, shown = palette(report), []
    for condition in report.conditions_of(task.name):
        kinds = _columns(report, task, condition)
        drawn = len(task.splits) <= MOST_DRAWN
        methods = report.methods_of(task.name, condition)
        apart = drawn and too_wide(methods, len(task.splits), kinds)
        beside = [] if apart else kinds
        head = [th("Method"), *(th(split, colspan=1 + drawn, class_="split") for split in task.splits)]
        head += [th(kind, class_="num") for kind in beside]
        body = []
        for method in methods:
            cells = [el("th", name_of(colours[method]), scope="row")]
            for split in task.splits:
                row = report.score(task.name, condition, method, split)
                cells += _score_cells(row, split, colours[method], domain)[0 if drawn or row is None else 1 :]
            first = report.score(task.name, condition, method, task.splits[0])
            found = _kinds_of(first, beside)
            cells += [
                el("td", numbers.score(found[kind].value) if kind in found else _DASH, class_="num", data_label=kind)
                for kind in beside
            ]
            body.append(el("tr", *cells))
        shown.append(table(_score_caption(report, task, condition, beside), head, body, "scores"))
        if apart:
            rows = ((m, _kinds_of(report.score(task.name, condition, m, task.splits[0]), kinds)) for m in methods)
            shown.append(kinds_table("Method", rows, kinds, f"Of the {task.splits[0]} split."))
    return join(*shown)


def _score_caption(report: Report, task: TaskRow, condition: str, kinds: Sequence[str]) -> Html:
    rows = [row for row in report.scores if (row.task, row.condition) == (task.name, condition)]
    seeds = max(len(row.per_seed) for row in rows)
    mean = f"mean of {seeds} seeds, thin ticks the single ones" if seeds > 1 else "one seed"
    beside = f" {', '.join(kinds)}: of the {task.splits[0]} split." if kinds else ""
    return join(
        el("strong", f"{_size(report, task, condition)}. "),
        f"{task.kind.name(task.metric)}; {mean}, with the 95 % interval over pictures.{beside}",
    )


def _size(report: Report, task: TaskRow, condition: str) -> str:
    size = next(row.pictures.get(task.name, 0) for row in report.conditions if row.name == condition)
    return f"{condition}: {size:,} pictures" if condition != str(size) else f"{size:,} pictures"


def _columns(report: Report, task: TaskRow, condition: str) -> list[str]:
    """The groups beside the score: by kind of answer, by subtask, by label."""
    for row in report.scores:
        if (row.task, row.condition, row.split) == (task.name, condition, task.splits[0]):
            for heading in (task.kind.columns, "subtask", "label"):
                if row.breakdowns.get(heading):
                    return task.kind.column_order(list(row.breakdowns[heading]))
    return []


def _kinds_of(row: ScoreRow | None, kinds: Sequence[str]) -> dict[str, Interval]:
    """The named groups of a row, whatever they are groups of."""
    groups = [] if row is None else list(row.breakdowns.values())
    return {kind: group[kind] for group in reversed(groups) for kind in kinds if kind in group}


def _score_cells(row: ScoreRow | None, split: str, series: plots.Series, domain: tuple[float, float]) -> list[Html]:
    if row is None:
        return [el("td", _DASH, colspan=2, class_="num", data_label=split)]
    bar = plots.interval_bar(series, _estimate(row), domain)
    said = figures(row.mean.value, row.mean.low, row.mean.high)
    return [el("td", bar, class_="drawn", data_label=split), el("td", said, class_="num wide-num")]


def gain_tables(report: Report, task: TaskRow) -> Html | None:
    """What each method gains, under every condition and on every split: points drawn, and relative in per cent."""
    gains = [gain for gain in report.gains if gain.task == task.name]
    if not gains:
        return None
    domain = padded([bound for gain in gains for bound in (gain.low, gain.high, 0.0)], share=0.03)
    colours, shown = palette(report), []
    for condition in report.conditions_of(task.name):
        drawn = len(task.splits) <= MOST_DRAWN
        head = [th("Method"), *(th(split, colspan=2 + drawn, class_="split") for split in task.splits)]
        body = []
        for method in report.methods_of(task.name, condition):
            found = [report.gain(task.name, condition, method, split) for split in task.splits]
            if any(found):
                cells = [el("th", name_of(colours[method]), scope="row")]
                for split, gain in zip(task.splits, found, strict=True):
                    pair = difference_cells(split, gain, colours[method], domain)
                    cells += [
                        *pair[0 if drawn or gain is None else 1 :],
                        _change(gain.relative if gain else None, "relative", " %"),
                    ]
                body.append(el("tr", *cells))
        if body:
            caption = join(
                el("strong", f"{_size(report, task, condition)}. "),
                f"Minus {report.reference}, in points (paired bootstrap clustered by picture, 95 % interval, p of no "
                "difference), and in per cent of its score. Grey: the interval holds zero.",
            )
            shown.append(table(caption, head, body, "differences"))
    return join(*shown)


def drop_table(report: Report, task: TaskRow) -> Html | None:
    """How much of its score each method loses on each shifted split, by condition."""
    if not any(drop.task == task.name for drop in report.drops):
        return None
    colours = palette(report)
    head = [th("Method"), th("trained on", class_="num")]
    for split in task.shifted:
        head += [th(f"{split}: points lost", class_="num"), th("of the score", class_="num")]
    body = []
    for condition in report.conditions_of(task.name):
        for method in report.methods_of(task.name, condition):
            cells = [el("th", name_of(colours[method]), scope="row"), el("td", condition, class_="num")]
            for split in task.shifted:
                drop = report.drop(task.name, condition, method, split)
                cells += [_change(drop, split, ""), _change(drop.relative if drop else None, split, " %")]
            body.append(el("tr", *cells))
    caption = join(
        el("strong", "Drops. "),
        f"From {task.splits[0]} to the shifted split, with the 95 % interval (grey: it holds zero); pictures of both "
        "are redrawn at once. Less than nothing lost is gained.",
    )
    return table(caption, head, body, "costs")


def _change(item: Drop | Ratio | None, label: str, unit: str) -> Html:
    """A value with its sign, its interval below it; grey where that holds zero."""
    if item is None:
        return el("td", _DASH, class_="num", data_label=label)
    value = el("b", numbers.signed(item.value) + unit)
    if item.low is None or item.high is None:
        return el("td", value, class_="num", data_label=label)
    weak = "" if item.low > 0 or item.high < 0 else " weak"
    return el("td", value, el("small", numbers.bounds(item.low, item.high)), class_=f"num{weak}", data_label=label)


def cost_table(report: Report, task: TaskRow) -> Html | None:
    """Seconds and steps a second of every method, and what that is beside the reference."""
    costs = [cost for cost in report.costs if cost.task == task.name]
    if not costs:
        return None
    colours, body = palette(report), []
    for cost in costs:
        base = next((c for c in costs if (c.condition, c.method) == (cost.condition, report.reference)), None)
        values = [
            ("trained on", cost.condition),
            ("steps", f"{cost.steps:,.0f}"),
            ("seconds", numbers.duration(cost.training_seconds)),
            ("steps a second", numbers.decimal(cost.steps_per_second)),
            (f"a step, {report.reference} = 1", _times(cost, base)),
            ("asking the teachers", numbers.duration(cost.teacher_seconds)),
        ]
        cells = [el("td", text, class_="num", data_label=name) for name, text in values]
        body.append(el("tr", el("th", name_of(colours[cost.method]), scope="row"), *cells))
    head = [th("Method"), *(th(name, class_="num") for name, _ in values)]
    kept = ", ".join(f"{numbers.size(size)} of {kind}" for kind, size in report.cache_bytes.items())
    caption = join(
        el("strong", "Costs. "),
        "A run, mean over the seeds, as many side by side as the method section says. At inference a distilled student "
        "costs what the plain one does. ",
        f"What teachers said is kept once for all tasks and runs: {kept}." if kept else None,
    )
    return table(caption, head, body, "costs")


def subset_table(report: Report, task: TaskRow) -> Html | None:
    """The lists of shots with their hashes, folded away."""
    body = []
    for condition, subsets in task.subsets.items():
        for one in subsets:
            strata = ", ".join(f"{name or 'none'} {count}" for name, count in one.strata.items())
            cells = [str(one.draw), f"{one.pictures:,}", f"{one.records:,}", strata]
            shown = [el("td", text, class_="num") for text in cells]
            body.append(
                el(
                    "tr",
                    el("th", condition, scope="row"),
                    *shown,
                    el("td", el("code", one.sha256[:16]), title=one.sha256),
                )
            )
    if not body:
        return None
    names = ("draw", "pictures", "records", "records by stratum")
    head = [th("Condition"), *(th(name, class_="num") for name in names), th("SHA-256 begins")]
    return el("details", el("summary", "Lists of shots"), table(None, head, body, "matrix"))


def _times(cost: Cost, base: Cost | None) -> str:
    if base is None or not base.steps_per_second or not cost.steps_per_second:
        return _DASH
    return f"{base.steps_per_second / cost.steps_per_second:.2f}"


def _estimate(row: ScoreRow) -> plots.Estimate:
    mean: Interval = row.mean
    runs = tuple(seed.value for seed in row.per_seed) if len(row.per_seed) > 1 else ()
    return plots.Estimate(mean.value, mean.low, mean.high, runs)
