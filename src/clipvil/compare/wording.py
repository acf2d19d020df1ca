"""Numbers as people read them, and the sentences that the report says of them, right whatever the numbers are."""

from __future__ import annotations

from clipvil.compare.results import Interval, LeftOut, PairDifference, Results, Row, TaskDifference, TaskInfo

MINUS = "\u2212"


def score(value: float) -> str:
    """A score with one decimal; a rounded zero never carries a sign."""
    return f"{value + 0.0:.1f}".replace("-0.0", "0.0").replace("-", MINUS)


def signed(value: float) -> str:
    """A difference with its sign, as `+4.2`."""
    rounded = f"{value:+.1f}"
    return "0.0" if rounded in ("+0.0", "-0.0") else rounded.replace("-", MINUS)


def bounds(low: float, high: float) -> str:
    """A 95 % interval in brackets."""
    return f"[{score(low)}, {score(high)}]"


def interval(item: Interval, unit: str = "") -> str:
    """A mean with its interval."""
    return f"{score(item.value)}{unit} {bounds(item.low, item.high)}"


def p_value(p: float) -> str:
    """A p-value without false precision."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(value: float | None) -> str:
    """A large number with a suffix, as `1.1 M`; a dash where it was not measured."""
    if value is None:
        return "\u2013"
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            scaled = value / limit
            return (f"{scaled:.1f}" if scaled < 100 else f"{scaled:.0f}") + suffix
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def decimal(value: float | None) -> str:
    """A small physical quantity with two significant digits or so; a dash where it was not measured."""
    if value is None:
        return "\u2013"
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")


def size(value: float | None) -> str:
    """Bytes, in powers of ten."""
    return "\u2013" if value is None else f"{count(value)}B" if value >= 1000 else f"{count(value)} B"


def duration(seconds: float | None) -> str:
    """A duration as `48 s` or `3 min 10 s`."""
    if seconds is None:
        return "\u2013"
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def unit(task: TaskInfo) -> str:
    """The unit behind a score: per cent for accuracies, nothing for other metrics."""
    return task.kind.unit


def metric_name(task: TaskInfo) -> str:
    """The metric before a colon or in a sentence: `accuracy`, `CIDEr-D`."""
    return task.kind.name(task.metric).partition(",")[0]


def plural(n: int, word: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def left_out_line(found: LeftOut | None) -> str:
    """Which pictures no row of a task has seen, and why; empty where every encoder has them all."""
    if found is None:
        return ""
    records = ", ".join(f"{count} of {split}" for split, count in found.records.items() if count)
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items())
    more = ", \u2026" if found.pictures > len(found.first) else ""
    return (
        f"left out of every row: {plural(found.pictures, 'picture')} without features, and their records ({records}): "
        f"{reasons}; {', '.join(found.first)}{more}; see {found.listed} of the feature store; --retry-failed tries "
        "mended pictures again"
    )


def difference_line(pair: PairDifference) -> str:
    """A difference for the terminal, as `A - B: +21.3 [19.8, 22.9]`, saying so when chance may explain it."""
    doubt = "" if pair.significant else "  (could be chance: the interval holds zero)"
    return f"{pair.a} - {pair.b}: {signed(pair.value)} {bounds(pair.low, pair.high)}{doubt}".replace(MINUS, "-")


def task_title(task: TaskInfo) -> str:
    """A task's name, with its model where the recipe names one: `mini-vqa-mcan (mcan)`."""
    model = task.recipe.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    return f"{task.name} ({name})" if name else task.name


def pair_title(results: Results, a: str, b: str) -> str:
    """`A minus B`, each with its model where the two differ in it."""
    first, second = results.task(a), results.task(b)
    titles = [task_title(first), task_title(second)]
    models = [title.removeprefix(task.name) for title, task in zip(titles, (first, second), strict=True)]
    return f"{a} minus {b}" if models[0] == models[1] else " minus ".join(titles)


def task_difference_line(pair: TaskDifference) -> str:
    """What an encoder gains by the other task's model, for the terminal."""
    doubt = "" if pair.significant else "  (could be chance: the interval holds zero)"
    return f"{pair.encoder}: {signed(pair.value)} {bounds(pair.low, pair.high)}{doubt}".replace(MINUS, "-")


def task_finding(results: Results, a: str, b: str) -> str:
    """A sentence on what task `a` gains over task `b` on the ordinary test split, encoder by encoder."""
    split = results.task(a).splits[0]
    pairs = [results.task_difference(a, b, split, encoder.label) for encoder in results.encoders]
    said = [
        f"{pair.encoder} {signed(pair.value)} {bounds(pair.low, pair.high)}"
        + ("" if pair.significant else " (could be chance)")
        for pair in pairs
        if pair
    ]
    title = f"{pair_title(results, a, b)} on the {split} split"
    return f"{title}: {', '.join(said)}." if said else ""


def finding(results: Results, task: TaskInfo) -> str:
    """The headline of one task: who leads on the ordinary test split, by how much, and whether that is certain."""
    split = task.splits[0] if task.splits else ""
    rows = results.ranked(task.name, split)
    floors = {encoder.label for encoder in results.encoders if encoder.floor}
    contestants = [row for row in rows if row.encoder not in floors]
    if not contestants:
        return f"No encoder has finished on {task.name} yet."
    best, rest = contestants[0], contestants[1:]
    parts = [_lead(results, task, split, best, rest)]
    floor = next((row for row in rows if row.encoder in floors), None)
    if floor is not None:
        parts.append(_above_floor(results, task, split, best, floor))
    parts += [_above_baseline(results, task, split, best, other) for other in results.tasks if other.baseline]
    return "; ".join(part for part in parts if part) + "."


def shift_finding(results: Results, task: TaskInfo) -> str:
    """A sentence on every further test split: what becomes of the lead of the ordinary one."""
    if len(task.splits) < 2:
        return ""
    floors = {encoder.label for encoder in results.encoders if encoder.floor}
    rows = [row for row in results.ranked(task.name, task.splits[0]) if row.encoder not in floors]
    sentences = []
    for split in task.splits[1:]:
        there = results.row(task.name, split, rows[0].encoder) if rows else None
        if there is None:
            continue
        sentence = f"On the {split} split {there.encoder} scores {interval(there.mean, unit(task))}"
        if len(rows) > 1:
            pair = results.difference(task.name, split, rows[0].encoder, rows[1].encoder)
            sentence += f", {_against(pair)}" if pair else ""
        sentences.append(sentence + ".")
    return " ".join(sentences)


def _lead(results: Results, task: TaskInfo, split: str, best: Row, rest: list[Row]) -> str:
    by = f" by {task.metric}" if not unit(task) and task.metric else ""
    text = f"{best.encoder} scores {interval(best.mean, unit(task))}{by} on the {split} split"
    if not rest:
        return text
    pair = results.difference(task.name, split, best.encoder, rest[0].encoder)
    if pair is None:
        return f"{text}, ahead of {rest[0].encoder}"
    if pair.significant:
        return f"{text}, {_against(pair)}"
    second = rest[0]
    return (
        f"{best.encoder} ({score(best.mean.value)}{unit(task)}) and {second.encoder} "
        f"({score(second.mean.value)}{unit(task)}) cannot be told apart on the {split} split: "
        f"difference {signed(pair.value)} {bounds(pair.low, pair.high)}"
    )


def _against(pair: PairDifference) -> str:
    if not pair.significant:
        return f"not distinguishable from {pair.b} (difference {signed(pair.value)} {bounds(pair.low, pair.high)})"
    side = "above" if pair.value > 0 else "below"
    shown = pair if pair.value > 0 else pair.flipped()
    return f"{score(shown.value)} points {side} {pair.b} {bounds(shown.low, shown.high)}"


def _above_floor(results: Results, task: TaskInfo, split: str, best: Row, floor: Row) -> str:
    pair = results.difference(task.name, split, best.encoder, floor.encoder)
    if pair is None:
        return ""
    if not pair.significant:
        return (
            f"it is not distinguishable from {floor.encoder}, which {task.kind.floor} "
            f"(difference {signed(pair.value)} {bounds(pair.low, pair.high)})"
        )
    side = "above" if pair.value > 0 else "below"
    shown = pair if pair.value > 0 else pair.flipped()
    return (
        f"that is {score(shown.value)} points {side} {floor.encoder} {bounds(shown.low, shown.high)}, "
        f"which {task.kind.floor}"
    )


def _above_baseline(results: Results, task: TaskInfo, split: str, best: Row, baseline: TaskInfo) -> str:
    """How far the best row is from what is said without training on the same encoder's features."""
    pair = results.task_difference(task.name, baseline.name, split, best.encoder)
    if pair is None:
        return ""
    if not pair.significant:
        return (
            f"not distinguishable from {baseline.name} on the same encoder "
            f"(difference {signed(pair.value)} {bounds(pair.low, pair.high)})"
        )
    side, sign = ("above", 1) if pair.value > 0 else ("below", -1)
    low, high = sorted((sign * pair.low, sign * pair.high))
    return f"{score(sign * pair.value)} points {side} {baseline.name} on the same encoder {bounds(low, high)}"
