"""The pictures that one encoder has no features of, and which therefore no cell of the corpus may use.

Were each encoder trained and judged on what it can read, the question-only row, which reads nothing, would answer
questions that the others do not, and two encoders would be compared on different ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from clipvil.compare.cell_plan import TaskPlan
from clipvil.compare.plan import Plan
from clipvil.compare.results import LeftOut
from clipvil.datasets.columns import column_of
from clipvil.errors import StoreError
from clipvil.features.layout import FAILURES
from clipvil.features.store import Store

SHOWN = 3


def left_out(plan: Plan, broken: Collection[Path | None] = ()) -> dict[str, dict[str, str]]:
    """`data_key` of the tasks -> picture -> why, as `corrupt (mini/random)`, as far as the stores of the plan tell.

    A store that is not there, not finished or unreadable, or is among the `broken` ones, has no say: its encoder has no
    row.
    """
    out: dict[str, dict[str, str]] = {}
    seen: set[tuple[Path, str]] = set()
    for cell in plan.cells:
        path, key = plan.store_path(cell), cell.task.data_key
        if path is None or path in broken or (path, key) in seen:
            continue
        seen.add((path, key))
        for image_id, status in _failed(path, cell.task).items():
            out.setdefault(key, {}).setdefault(image_id, f"{status} ({cell.entry.title})")
    return out


def describe(task: TaskPlan) -> LeftOut | None:
    """What the table and the report say of it; None where nothing is left out."""
    if not task.left_out:
        return None
    records = {
        split: sum(image_id in task.left_out for image_id in column_of(dataset.records, "image_id"))
        for split, dataset in task.datasets.items()
    }
    reasons: dict[str, int] = {}
    for reason in task.left_out.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    first = sorted(task.left_out)[:SHOWN]
    return LeftOut(pictures=len(task.left_out), records=records, reasons=reasons, first=first, listed=FAILURES)


def _failed(path: Path, task: TaskPlan) -> Mapping[str, str]:
    if not (path / "manifest.json").exists():
        return {}
    try:
        store = Store.open(path)
        return store.lacking(list(task.pictures())).failed if store.complete else {}
    except StoreError:
        return {}
