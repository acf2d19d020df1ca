"""The method of a comparison in sentences, said from the plan itself, so that text and run cannot disagree."""

from __future__ import annotations

from clipvil.compare.cell_plan import TaskPlan
from clipvil.compare.plan import Plan
from clipvil.compare.suite import BLIND
from clipvil.features.ready import ready_store


def sentences(plan: Plan) -> list[str]:
    """What was held equal, what was varied, how the numbers and their intervals came about."""
    seeds = ", ".join(str(seed) for seed in plan.suite.seeds)
    many = len(plan.suite.seeds) > 1
    begun = ", or from another run where that is said below," if any(t.recipe.init.asked for t in plan.tasks) else ""
    out = [
        "Every encoder is frozen: its features are computed once a picture, and the same task model is trained on them "
        f"from scratch{begun} by the same recipe. Nothing is tuned for one encoder.",
        f"Seeds: {seeds}. A seed fixes the order of the batches for all encoders alike, and the initial weights "
        "wherever shapes agree.",
        *(_selection(task) for task in plan.tasks),
        *(sentence for task in plan.tasks if (sentence := _beginning(task, plan))),
        *(
            f"{entry.title} has no row on {task.name}: {reason}."
            for task in plan.tasks
            for entry in plan.suite.entries()
            if (reason := task.refusal(entry.name))
        ),
        f"Intervals are 95 % percentile intervals of a bootstrap that redraws {_clustered(plan)} (2,000 draws)"
        + (", after the seeds were averaged record by record. " if many else ". ")
        + "They say how far another sample of pictures could move a number; how far another training run could, the "
        + ("single seeds show." if many else "single run cannot show.")
        + " Fewer than 10 pictures, or the same score on all of them, have exact intervals instead.",
        "Differences are paired record by record before the same bootstrap; p is twice the smaller share of draws on "
        "either side of zero. No correction is made for the number of pairs looked at.",
    ]
    if any(task.left_out for task in plan.tasks):
        out.append(
            "A picture that one encoder has no features of is left out for all of them, the rows without a picture "
            "included: everything is trained on and judged by the same records."
        )
    ready = [entry.title for entry in plan.suite.entries() if ready_store(entry.name) is not None]
    if ready:
        out.append(
            f"{', '.join(ready)}: features that were computed before and are taken as they are; what they cost stands "
            "in the table only where their store says so."
        )
    if any(entry.name == BLIND for entry in plan.suite.entries()):
        out.append(f"{BLIND} is the same model with one constant cell in place of the picture: {_gives_away(plan)}.")
    return out


def data_line(task: TaskPlan) -> str:
    """The data section on one line."""
    return ", ".join(f"{key}: {value}" for key, value in task.data.items())


def _selection(task: TaskPlan) -> str:
    judged = " and ".join(task.test_splits)
    are = "are" if len(task.test_splits) > 1 else "is"
    if not task.trains:
        what = "the captions" if task.kind.captions else "the list of answers"
        return (
            f"{task.name}: nothing is trained, so one run an encoder says all; the training split gives {what} alone, "
            f"and {judged} {are} looked at once."
        )
    if task.test_splits == ["val"]:
        return (
            f"{task.name}: trained on train; the step is chosen by the score on val, which is also what is reported, "
            "for want of an answered test split: all rows are a little too good."
        )
    return f"{task.name}: trained on train, the step chosen by the score on val; {judged} looked at once, at the end."


def _beginning(task: TaskPlan, plan: Plan) -> str:
    """What the runs of a task start from, where that is not fresh weights."""
    init = task.recipe.init
    if not init.asked:
        return ""
    which = "the last weights" if init.weights == "last" else "the weights chosen on val"
    which += " and the optimiser's state" if init.optimiser else ""
    cell = next((cell for cell in plan.cells if cell.task.name == task.name), None)
    if cell is None or cell.start is None:
        return f"{task.name}: every run starts from {which} of one run that was there before ({init.run})."
    shown = {other.path: other.task.name for other in plan.cells}
    there = shown.get(cell.start.path)
    run = f"the run of {there}" if there else f"a run of {init.recipe}, trained here once for all that start from it,"
    return f"{task.name}: every run starts from {which} of {run} with the same encoder, seed and data."


def _clustered(plan: Plan) -> str:
    kinds = dict.fromkeys(task.kind.clustered for task in plan.tasks)
    # "pictures" alone says nothing beside "pictures with all their questions".
    return next((said for said in kinds if " " in said), next(iter(kinds)))


def _gives_away(plan: Plan) -> str:
    """What the row without a picture is good for, by kind of task where there are several."""
    said: dict[str, list[str]] = {}
    for task in plan.tasks:
        if not task.refusal(BLIND):
            said.setdefault(task.kind.gives_away, []).append(task.name)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{text} ({', '.join(names)})" for text, names in said.items())
