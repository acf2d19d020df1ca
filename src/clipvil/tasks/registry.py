"""Every task by name. A new task is one file with a class, and one line here.

Third parties add theirs through the entry point group `clipvil.tasks` (name = class taking the settings).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

from clipvil.errors import UsageError
from clipvil.tasks.base import Task

GROUP = "clipvil.tasks"
# Name -> module:class. A table and not imports, so that a task loads only what it needs.
_TASKS = {
    "vqa": "clipvil.tasks.vqa:Vqa",
    "zero_shot_vqa": "clipvil.tasks.zero_shot_vqa:ZeroShotVqa",
    "visual_entailment": "clipvil.tasks.visual_entailment:VisualEntailment",
    "vcr": "clipvil.tasks.vcr:Vcr",
    "teacher_probe": "clipvil.distillation.teacher_probe:TeacherProbe",
    "captioning": "clipvil.tasks.captioning:Captioning",
    "pretraining": "clipvil.tasks.pretraining:Pretraining",
    "navigation": "clipvil.tasks.vln:Navigation",
    "navigation_speaker": "clipvil.tasks.vln_speaker:NavigationSpeaker",
    "retrieval_captioning": "clipvil.tasks.retrieval_captioning:RetrievalCaptioning",
}
_registered: dict[str, Callable[[Mapping[str, Any]], Task]] = {}


def register_task(name: str, create: Callable[[Mapping[str, Any]], Task]) -> None:
    """Make a task known under `name` in this process. A name that is taken already raises UsageError."""
    if name in list_tasks():
        raise UsageError(f"there is already a task '{name}'")
    _registered[name] = create


def list_tasks() -> list[str]:
    """Names of all known tasks, registered and third-party ones included."""
    return sorted({*_TASKS, *_registered, *(entry.name for entry in importlib.metadata.entry_points(group=GROUP))})


def create_task(name: str, settings: Mapping[str, Any]) -> Task:
    """A fresh task from the recipe's `task_settings`. Raises UsageError for an unknown name."""
    if name in _TASKS:
        module, _, noun = _TASKS[name].partition(":")
        return getattr(importlib.import_module(module), noun)(settings)
    if name in _registered:
        return _registered[name](settings)
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name == name:
            return entry.load()(settings)
    near = difflib.get_close_matches(name, list_tasks(), n=1)
    raise UsageError(
        f"unknown task '{name}'; " + (f"did you mean '{near[0]}'?" if near else f"known are {', '.join(list_tasks())}")
    )
