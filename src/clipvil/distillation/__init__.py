"""Adaptive distillation of frozen encoders into a cross-modal model while it is fine-tuned: docs/distillation.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipvil.distillation.curriculum import Curriculum, StudentCells
    from clipvil.distillation.mad import Distiller
    from clipvil.distillation.settings import DistillationChoice, TeacherChoice
    from clipvil.distillation.teachers import Teacher, open_teacher, open_teacher_on
    from clipvil.models.taps import Tap
    from clipvil.tasks.lessons import Lesson

_WHERE = {
    "Curriculum": "clipvil.distillation.curriculum",
    "StudentCells": "clipvil.distillation.curriculum",
    "Distiller": "clipvil.distillation.mad",
    "DistillationChoice": "clipvil.distillation.settings",
    "TeacherChoice": "clipvil.distillation.settings",
    "Teacher": "clipvil.distillation.teachers",
    "open_teacher": "clipvil.distillation.teachers",
    "open_teacher_on": "clipvil.distillation.teachers",
    "Tap": "clipvil.models.taps",
    "Lesson": "clipvil.tasks.lessons",
}
__all__ = [
    "Curriculum",
    "DistillationChoice",
    "Distiller",
    "Lesson",
    "StudentCells",
    "Tap",
    "Teacher",
    "TeacherChoice",
    "open_teacher",
    "open_teacher_on",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: reading a recipe's settings needs no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
