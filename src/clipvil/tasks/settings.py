"""Reading a recipe's `task_settings` into a dataclass, strictly."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from clipvil.errors import RecipeError

T = TypeVar("T")


def read_settings(kind: type[T], settings: Mapping[str, Any], task: str) -> T:
    """An instance of the dataclass `kind`, whose fields have defaults.

    Raises RecipeError for an unknown key (with the nearest right one) and for a value of another type than the default
    (a default of None stands for text, and a whole number will do for a fraction).
    """
    known = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key, value in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"
            raise RecipeError(f"unknown key 'task_settings.{key}' for the task {task}{hint}")
        expected = str if known[key] is None else type(known[key])
        fits = type(value) is expected or (expected is float and type(value) is int)
        if not fits and not (value is None and known[key] is None):
            raise RecipeError(f"'task_settings.{key}' must be {expected.__name__}, not {type(value).__name__}")
    return kind(**settings)


def one_of(value: str, choices: tuple[str, ...], key: str) -> None:
    """Raise RecipeError unless `value` is among the choices."""
    if value not in choices:
        raise RecipeError(f"'task_settings.{key}' must be {', '.join(choices[:-1])} or {choices[-1]}, not '{value}'")
