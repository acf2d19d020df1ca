"""The method of a protocol in sentences, said from what is run, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipvil.compare import wording
from clipvil.protocol.results import Drop, Gain, Ratio, Report

if TYPE_CHECKING:
    from clipvil.protocol.declaration import Declaration
    from clipvil.protocol.planning import Scheme


def sentences(declaration: Declaration, scheme: Scheme) -> list[str]:
    """What was held equal, what was varied, how numbers and intervals came about."""
    several = len(declaration.seeds) > 1
    drawn = "every seed has shots of its own" if declaration.draw == "seed" and several else "all seeds share the shots"
    out = [
        f"One student: {declaration.encoder.title}, frozen, its features computed once a picture. Under one condition "
        "every method has the same pictures, batches, initial weights (as far as the model is the same) and number of "
        "steps.",
        "Trained on the ordinary train split, the step chosen by the score on the ordinary val split, which is whole "
        "under every condition; the test splits, shifted ones among them, looked at once, at the end.",
        f"Shots are pictures with all their records, stratified by what the records ask and nested: {drawn}. The lists "
        "lie in the folder subsets, their SHA-256 in index.json, in results.json and in every run's recipe.",
        f"Seeds: {', '.join(map(str, declaration.seeds))}.",
        "Intervals are 95 % percentile intervals of a bootstrap that redraws pictures with all their records (2,000 "
        "draws), after the seeds were averaged record by record. They say how far other test pictures could "
        "move a number; how far other shots or another training run could, the single seeds show.",
        f"Gains are taken against {declaration.reference}, paired record by record; relative gains are ratios of means "
        "in the same draws. Drops compare a shifted split with the ordinary one; pictures of both are redrawn at once. "
        "No correction is made for the number of pairs looked at.",
    ]
    for name, corpus in scheme.corpora.items():
        about = corpus.shift
        if about.get("made_by") == "prior_shift":
            gaps = about["prior_distance_from_train"]
            out.append(
                f"{name}: laid out anew, so that the answers of a type of question are as likely in test as in train "
                f"(total variation {gaps['test']:.2f}) and far from it in prior_shift ({gaps['prior_shift']:.2f}); no "
                f"picture of prior_shift stands in train. {about['dropped']} questions that leaned to the other side "
                "were dropped."
            )
        if about.get("made_by") == "hypothesis_hard":
            out.append(
                f"{name}: hard is the {about['hard']} of {about['pairs']} test pairs that a hypothesis-only model, "
                f"trained on train alone, gets wrong (it is right in {about['accuracy']} %)."
            )
    return out


def gain_line(gain: Gain, reference: str) -> str:
    """A gain for the terminal."""
    doubt = "" if gain.significant else "  (could be chance: the interval holds zero)"
    return (f"{gain.method} - {reference}: {points(gain)}, relative {ratio(gain.relative)}{doubt}").replace(
        wording.MINUS, "-"
    )


def points(item: Gain | Drop) -> str:
    """Points with their interval, where there is one."""
    if item.low is None or item.high is None:
        return wording.signed(item.value)
    return f"{wording.signed(item.value)} {wording.bounds(item.low, item.high)}"


def ratio(item: Ratio | None) -> str:
    """A relative change in per cent; a dash where there is none."""
    if item is None:
        return "\u2013"
    value = f"{wording.signed(item.value)} %"
    return value if item.low is None or item.high is None else f"{value} {wording.bounds(item.low, item.high)}"


def finding(report: Report, task: str) -> str:
    """What the ordinary test split of a task says under the condition with the fewest pictures."""
    conditions = report.conditions_of(task)
    if not conditions:
        return f"{task}: no run has finished"
    sizes = {one.name: one.pictures.get(task, 0) for one in report.conditions}
    least = min(conditions, key=lambda name: sizes[name])
    split = next(row.splits[0] for row in report.tasks if row.name == task)
    gains = [gain for name in report.methods_of(task, least) if (gain := report.gain(task, least, name, split))]
    base = report.score(task, least, report.reference, split)
    if base is None:
        return f"{task}, {least}: {report.reference} has not finished"
    above = [f"{gain.method} {points(gain)}" for gain in gains if gain.low > 0]
    below = [f"{gain.method} {points(gain)}" for gain in gains if gain.high < 0]
    between = [gain.method for gain in gains if not gain.significant]
    said = [f"{report.reference} {wording.score(base.mean.value)}"]
    said += [f"better: {listed(above)}"] if above else []
    said += [f"worse: {listed(below)}"] if below else []
    said += [f"not told apart from it: {listed(between)}"] if between else []
    return f"{task}, {sizes[least]:,} pictures: {'; '.join(said)}."


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else ""
