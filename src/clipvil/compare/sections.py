"""The parts of the report that show numbers: tables with drawn intervals, cost, breakdown, learning curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipvil.compare import plots, wording
from clipvil.compare.axes import padded
from clipvil.compare.html import Html, el, join
from clipvil.compare.results import Costs, EncoderRow, Interval, Results, Row, TaskInfo
from clipvil.compare.tables import (
    NARROW,
    WIDE,
    difference_cells,
    figures,
    kinds_table,
    name_of,
    responsive,
    stacked,
    table,
    th,
    too_wide,
)

_MOST_GROUPS = 14

# What each cost axis shows: its name, the unit on the axis, and how to read it.
_COSTS: tuple[tuple[str, str, Callable[[Costs, Row], float | None], Callable[[float], str]], ...] = (
    ("GFLOPs", "GFLOPs a picture", lambda costs, row: costs.gflops, wording.decimal),
    ("parameters", "parameters of the encoder", lambda costs, row: costs.parameters, wording.count),
    ("time", "milliseconds a picture (extraction)", lambda costs, row: _milliseconds(costs), wording.decimal),
    ("store", "bytes a picture in the feature store", lambda costs, row: costs.store_bytes, wording.size),
    ("training", "seconds of training, mean of the seeds", lambda costs, row: _training(row), wording.duration),
)


def palette(results: Results) -> dict[str, plots.Series]:
    """Label -> how it is drawn. By place in the suite and not by rank, so that a colour keeps its meaning."""
    colours: dict[str, plots.Series] = {}
    for encoder in results.encoders:
        number = 0 if encoder.floor else sum(series.colour > 0 for series in colours.values()) + 1
        colours[encoder.label] = plots.Series(encoder.label, number)
    return colours


def score_table(results: Results, task: TaskInfo) -> Html:
    """Encoders best first: every test split as a drawn interval and in figures, then the kinds of answers."""
    if not task.splits or not results.ranked(task.name, task.splits[0]):
        return el("p", "No run of this task has finished.", class_="empty")
    rows = results.ranked(task.name, task.splits[0])
    everything = [row for row in results.rows if row.task == task.name]
    domain = padded([bound for row in everything for bound in (row.mean.low, row.mean.high)], share=0.03)
    kinds = rows[0].columns(task.kind)
    apart = kinds if too_wide((encoder.label for encoder in results.encoders), len(task.splits), kinds) else []
    beside = [] if apart else kinds
    head = [th("Encoder")]
    for split in task.splits:
        head.append(th(split, colspan=2, class_="split"))
    head += [th(kind, class_="num") for kind in beside]
    body = [_score_row(results, task, row, domain, beside) for row in rows]
    body += _unfinished(results, task, 2 * len(task.splits) + len(beside))
    unit = f"{wording.metric_name(task)}, per cent" if wording.unit(task) else task.metric
    if task.kind.captions:
        unit += " times 100, as papers print it (it can exceed 100)"
    seeds = max(len(row.per_seed) for row in rows)
    runs = "Thin ticks are the single seeds. " if seeds > 1 else ""
    caption = join(
        el("strong", "Scores. "),
        f"{unit[:1].upper()}{unit[1:]}; {f'mean of {seeds} seeds' if seeds > 1 else 'one seed'} with its 95 % interval "
        f"(bootstrap over {task.kind.redrawn}). {runs}",
        "All drawings share one axis.",
        _kinds_note(task, beside),
    )
    whole = table(caption, head, body, "scores")
    if not apart:
        return whole
    named = ((row.encoder, row.breakdowns.get(task.kind.columns, {})) for row in rows)
    note = f"The {task.splits[0]} split {task.kind.columns_note}."
    return join(whole, kinds_table("Encoder", named, apart, note))


def _kinds_note(task: TaskInfo, kinds: Sequence[str]) -> str | None:
    return f" {', '.join(kinds)}: the {task.splits[0]} split {task.kind.columns_note}." if kinds else None


def _unfinished(results: Results, task: TaskInfo, columns: int) -> list[Html]:
    """A row for every encoder that no run of this task has finished with."""
    scored = {row.encoder for row in results.rows if row.task == task.name}
    missing = [(e.label, results.standing(task.name, e.label)) for e in results.encoders if e.label not in scored]
    colours = palette(results)
    return [
        el(
            "tr",
            el("th", name_of(colours[label]), scope="row"),
            el("td", standing, colspan=columns),
            class_="floor-row",
        )
        for label, standing in missing
        if standing
    ]


def metric_table(results: Results, task: TaskInfo) -> Html | None:
    """All metrics that stand beside the first one, with intervals, folded away; None where the table above has all."""
    tables = []
    for split in task.splits if task.kind.columns_shown else ():
        rows = results.ranked(task.name, split)
        names = list(dict.fromkeys(name for row in rows for name in row.breakdowns.get(task.kind.columns, {})))
        if not names:
            continue
        head = [th(f"{split} split"), *(th(name, class_="num") for name in names)]
        body = []
        for row in rows:
            found = row.breakdowns.get(task.kind.columns, {})
            cells = [el("td", *stacked(found.get(name)), class_="num", data_label=name) for name in names]
            body.append(el("tr", el("th", row.encoder, scope="row"), *cells))
        tables.append(table(None, head, body, "matrix"))
    return el("details", el("summary", "All metrics"), *tables) if tables else None


def difference_table(results: Results, task: TaskInfo) -> Html | None:
    """The reference minus each other encoder, on every test split, with the line of no difference drawn."""
    others = [e.label for e in results.encoders if e.label != results.reference]
    pairs = [(o, [results.difference(task.name, s, results.reference, o) for s in task.splits]) for o in others]
    known = [pair for _, per_split in pairs for pair in per_split if pair]
    if not known:
        return None
    domain = padded([bound for pair in known for bound in (pair.low, pair.high, 0.0)], share=0.03)
    colours = palette(results)
    head = [th("Compared with"), *(th(split, colspan=2, class_="split") for split in task.splits)]
    body = []
    for other, per_split in pairs:
        cells = [el("th", name_of(colours[other]), scope="row")]
        for split, pair in zip(task.splits, per_split, strict=True):
            cells += difference_cells(split, pair, colours[other], domain)
        body.append(el("tr", *cells))
    caption = join(
        el("strong", "Differences. "),
        f"{results.reference} minus each other row, in points: paired bootstrap over {task.kind.redrawn}, 95 % "
        "interval, p of no difference (not corrected for the number of comparisons). Grey: the interval holds zero.",
    )
    return table(caption, head, body, "differences")


def all_pairs(results: Results, task: TaskInfo) -> Html | None:
    """Every encoder against every other, one matrix a split, folded away."""
    tables = []
    for split in task.splits:
        labels = [row.encoder for row in results.ranked(task.name, split)]
        if len(labels) < 3:
            continue
        head = [th("Row minus column"), *(th(label, class_="num") for label in labels)]
        body = []
        for a in labels:
            cells = [el("td", *_matrix_cell(results, task.name, split, a, b), class_="num") for b in labels]
            body.append(el("tr", el("th", a, scope="row"), *cells))
        caption = join(el("strong", f"{split}. "), "Points; grey where the 95 % interval holds zero.")
        tables.append(table(caption, head, body, "matrix"))
    if not tables:
        return None
    return el("details", el("summary", "All pairs"), *tables)


def task_difference_table(results: Results, a: str, b: str) -> Html:
    """What the model of task `a` gains over that of task `b` on each encoder's features, split by split."""
    splits = results.task(a).splits
    rows = [(e.label, [results.task_difference(a, b, split, e.label) for split in splits]) for e in results.encoders]
    known = [pair for _, per_split in rows for pair in per_split if pair]
    domain = padded([bound for pair in known for bound in (pair.low, pair.high, 0.0)], share=0.03)
    colours = palette(results)
    head = [th("Encoder"), *(th(split, colspan=2, class_="split") for split in splits)]
    body = []
    for label, per_split in rows:
        if any(per_split):
            cells = [el("th", name_of(colours[label]), scope="row")]
            for split, pair in zip(splits, per_split, strict=True):
                cells += difference_cells(split, pair, colours[label], domain)
            body.append(el("tr", *cells))
    caption = join(
        el("strong", f"{wording.pair_title(results, a, b)}. "),
        f"Points, on the same features and {results.task(a).kind.records}: paired bootstrap clustered by picture, "
        "95 % interval, p of no "
        "difference (not corrected for the number of comparisons). Grey: the interval holds zero.",
    )
    return table(caption, head, body, "differences")


def cost_section(results: Results, task: TaskInfo) -> Html | None:
    """Score against cost, one plot an axis, picked by radio buttons without any script; and the costs in figures."""
    split = task.splits[0] if task.splits else ""
    rows = results.ranked(task.name, split)
    colours = palette(results)
    floor = next((row for row in rows if results.encoder(row.encoder).floor), None)
    line = (f"{floor.encoder} {wording.score(floor.mean.value)}", floor.mean.value) if floor else None
    choices: list[Html] = []
    panels: list[Html] = []
    for name, axis, read, say in _COSTS:
        points = []
        for row in rows:
            encoder = results.encoder(row.encoder)
            value = None if encoder.floor else read(encoder.costs, row)
            if value is not None:
                points.append(plots.Point(colours[row.encoder], float(value), _estimate(row)))
        if not points:
            continue
        number, title = len(panels), f"{task.name}: score on {split} against {axis}"
        drawn = [
            plots.scatter(points, width=width, title=title, x_label=axis, y_label=_y_label(task, split), floor=line)
            for width in (WIDE, NARROW)
        ]
        choices.append(_radio(task, number, name))
        panels.append(
            el("div", responsive(*drawn), _cost_note(points, split, axis, say), class_=f"panel panel-{number}")
        )
    if not panels:
        return None
    return join(
        el(
            "div",
            el("span", "Cost:", class_="pick-title"),
            *choices,
            *panels,
            class_="picker",
            role="group",
            aria_label="cost",
        ),
        _cost_table(results, rows, colours),
    )


def breakdown_section(results: Results, task: TaskInfo) -> Html | None:
    """Scores by kind of question on the first test split, and folded away on the others."""
    parts = [(split, _breakdown(results, task, split)) for split in task.splits]
    shown = [part for _, part in parts[:1] if part]
    shown += [el("details", el("summary", f"The same on the {split} split"), part) for split, part in parts[1:] if part]
    return join(*shown) if shown else None


def _breakdown(results: Results, task: TaskInfo, split: str) -> Html | None:
    """A dot plot of the groups where encoders differ most, and all groups as a table."""
    rows = results.ranked(task.name, split)
    heading = next(
        (h for h in ("question_type", "answer_type", "label", "domain") if any(h in row.breakdowns for row in rows)),
        None,
    )
    if heading is None:
        return None
    groups = _groups(results, rows, heading, task.kind.records)
    shown = groups[:_MOST_GROUPS]
    title = f"{task.name}: score on {split} by {heading.replace('_', ' ')}"
    drawn = [plots.dot_rows(shown, width=width, title=title, unit=wording.unit(task)) for width in (WIDE, NARROW)]
    few = f" The {_MOST_GROUPS} of {len(groups)} that differ most." if len(groups) > _MOST_GROUPS else ""
    caption = (
        f"Score on the {split} split by {heading.replace('_', ' ')}, largest difference between encoders first."
        f"{few} Lines are 95 % intervals."
    )
    colours = palette(results)
    key = el("p", *(name_of(colours[row.encoder]) for row in rows), class_="key")
    figure = el("figure", key, responsive(*drawn), el("figcaption", caption))
    return join(figure, _breakdown_table(groups, [row.encoder for row in rows]))


def _groups(results: Results, rows: Sequence[Row], heading: str, records: str) -> list[plots.Group]:
    """The groups of a breakdown, those first on which the encoders (not the floor) lie furthest apart."""
    colours = palette(results)
    groups = []
    for group in dict.fromkeys(name for row in rows for name in row.breakdowns.get(heading, {})):
        found = [(row, row.breakdowns.get(heading, {}).get(group)) for row in rows]
        values = [(row, item) for row, item in found if item is not None]
        seeing = [item.value for row, item in values if not results.encoder(row.encoder).floor] or [0.0]
        drawn = tuple((colours[row.encoder], _from_interval(item)) for row, item in values)
        note = f"{values[0][1].n} {records}" if values else ""
        groups.append((max(seeing) - min(seeing), plots.Group(group or "(none)", note, drawn)))
    return [group for _, group in sorted(groups, key=lambda pair: (-pair[0], pair[1].label))]


def curve_section(results: Results, task: TaskInfo) -> Html | None:
    """Validation score during training; the mark is the step whose weights were tested."""
    colours = palette(results)
    found = [curve for curve in results.curves if curve.task == task.name and len(curve.points) > 1]
    if not found:
        return None
    lines = [
        plots.Line(colours[c.encoder], tuple((float(s), v) for s, v in c.points), c.best_step and float(c.best_step))
        for c in found
    ]
    title = f"{task.name}: validation score by training step"
    drawn = [
        plots.curves(lines, width=w, title=title, x_label="training step", y_label=_y_label(task, "validation"))
        for w in (WIDE, NARROW)
    ]
    caption = "One line a run. The mark is the step with the best validation score, whose weights were tested."
    return el("figure", responsive(*drawn), el("figcaption", caption))


def _score_row(results: Results, task: TaskInfo, row: Row, domain: tuple[float, float], kinds: Sequence[str]) -> Html:
    encoder = results.encoder(row.encoder)
    series = palette(results)[row.encoder]
    cells = [el("th", name_of(series), el("small", task.kind.floor_note) if encoder.floor else None, scope="row")]
    for split in task.splits:
        there = results.row(task.name, split, row.encoder)
        if there is None:
            missing = results.standing(task.name, row.encoder) or "\u2013"
            cells.append(el("td", missing, colspan=2, class_="num", data_label=split))
            continue
        cells.append(el("td", plots.interval_bar(series, _estimate(there), domain), class_="drawn", data_label=split))
        cells.append(el("td", figures(there.mean.value, there.mean.low, there.mean.high), class_="num wide-num"))
    for kind in kinds:
        item = row.breakdowns.get(task.kind.columns, {}).get(kind)
        cells.append(el("td", wording.score(item.value) if item else "\u2013", class_="num", data_label=kind))
    return el("tr", *cells, class_="floor-row" if encoder.floor else None)


def _matrix_cell(results: Results, task: str, split: str, a: str, b: str) -> list[object]:
    pair = results.difference(task, split, a, b) if a != b else None
    if pair is None:
        return ["\u00b7"]
    value = wording.signed(pair.value)
    inner: object = value if pair.significant else el("span", value, class_="weak")
    return [inner, el("small", wording.bounds(pair.low, pair.high))]


def _cost_table(results: Results, rows: Sequence[Row], colours: dict[str, plots.Series]) -> Html:
    names = ("Encoder", "parameters", "GFLOPs a picture", "pictures a second", "store a picture", "training a run")
    head = [th(names[0]), *(th(name, class_="num") for name in names[1:])]
    body = []
    for row in rows:
        costs = results.encoder(row.encoder).costs
        values = (
            wording.count(costs.parameters),
            wording.decimal(costs.gflops),
            wording.decimal(costs.pictures_per_second),
            wording.size(costs.store_bytes),
            _trained(row),
        )
        cells = [el("td", v, class_="num", data_label=n) for v, n in zip(values, names[1:], strict=True)]
        body.append(el("tr", el("th", name_of(colours[row.encoder]), scope="row"), *cells))
    cpu = results.environment.get("cpu")
    where = f" on {cpu.get('model', 'this machine')}, {cpu.get('cores', '?')} cores" if isinstance(cpu, dict) else ""
    caption = join(
        el("strong", "Costs. "),
        f"Measured{where}. Pictures a second are those of the whole extraction (decode, encode, write), once per "
        "encoder; training is the task model on stored features"
        + (
            ", the run that it starts from included, though several may share it."
            if any(row.seconds_before for row in rows)
            else "."
        ),
    )
    return table(caption, head, body, "costs")


def _breakdown_table(groups: Sequence[plots.Group], labels: Sequence[str]) -> Html:
    head = [th("Group"), th("n", class_="num"), *(th(label, class_="num") for label in labels)]
    body = []
    for group in groups:
        values = {series.label: item for series, item in group.values}
        cells = [
            el(
                "td",
                figures(v.value, v.low, v.high) if (v := values.get(label)) else "\u2013",
                class_="num",
                data_label=label,
            )
            for label in labels
        ]
        body.append(
            el(
                "tr",
                el("th", group.label, scope="row"),
                el("td", group.note.split(" ")[0], class_="num", data_label="n"),
                *cells,
            )
        )
    return el("details", el("summary", "The figures behind the plot"), table(None, head, body, "groups"))


def _cost_note(points: Sequence[plots.Point], split: str, axis: str, say: Callable[[float], str]) -> Html:
    values = {point.x for point in points}
    same = len(points) > 1 and max(values) <= min(values) * 1.02
    note = f" All encoders cost the same here ({say(max(values))})." if same else ""
    return el(
        "p", f"Score on the {split} split against {axis}; upright lines are 95 % intervals.{note}", class_="caption"
    )


def _radio(task: TaskInfo, number: int, name: str) -> Html:
    ident = f"cost-{_ident(task.name)}-{number}"
    box = el(
        "input",
        type="radio",
        name=f"cost-{_ident(task.name)}",
        id=ident,
        class_=f"pick pick-{number}",
        checked=number == 0,
    )
    return join(box, el("label", name, for_=ident))


def _estimate(row: Row) -> plots.Estimate:
    runs = tuple(seed.value for seed in row.per_seed) if len(row.per_seed) > 1 else ()
    return plots.Estimate(row.mean.value, row.mean.low, row.mean.high, runs)


def _from_interval(item: Interval) -> plots.Estimate:
    return plots.Estimate(item.value, item.low, item.high)


def _training(row: Row) -> float | None:
    """Seconds of training, with those of the runs that it started from: what such a model costs in all."""
    return None if row.training_seconds is None else row.training_seconds + row.seconds_before


def _trained(row: Row) -> Html | str:
    whole = wording.duration(_training(row))
    if not row.seconds_before:
        return whole
    return join(whole, el("small", f"{wording.duration(row.seconds_before)} of it before"))


def _milliseconds(costs: Costs) -> float | None:
    return 1000 / costs.pictures_per_second if costs.pictures_per_second else None


def _y_label(task: TaskInfo, split: str) -> str:
    return f"{split} {task.kind.name(task.metric)}"


def _ident(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def encoder_note(encoder: EncoderRow) -> str:
    """One line on how an encoder was used, for the method section."""
    if encoder.floor:
        return "no encoder: one constant cell in place of a picture"
    parts = [
        f"{encoder.name}",
        f"grid {encoder.grid}" if encoder.grid else "",
        f"resize {encoder.resize}" if encoder.resize else "",
    ]
    parts += [f"layer {encoder.layer}" if encoder.layer else "", encoder.precision]
    parts.append(f"fingerprint {encoder.fingerprint}" if encoder.fingerprint else "")
    return ", ".join(part for part in parts if part)
