"""From a recipe's `model` section to a model's configuration: presets, known keys, types and ranges, for every model.

A configuration is a frozen dataclass of whole numbers, fractions, switches and named choices (`Literal`). A field whose
range is not the usual one says so in its metadata: `field(default=0, metadata={"least": 0})`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from clipvil.errors import RecipeError

Config = TypeVar("Config")


def configuration(
    presets: Mapping[str, Config],
    settings: Mapping[str, Any],
    *,
    model: str,
    default: str,
    word_size: int | None = None,
) -> Config:
    """The configuration that a `model` section asks for: `preset` (`default` when left out) with any field replaced.

    `model` is how messages call the model. `word_size` is that of pretrained word vectors and counts unless the section
    names one.

    Raises RecipeError for an unknown preset or key, a value of another type, a number out of range, an unknown choice.
    """
    settings = {key: value for key, value in settings.items() if key != "name"}
    preset = settings.pop("preset", default)
    if preset not in presets:
        raise RecipeError(f"unknown {model} preset '{preset}'; choose one of {', '.join(presets)}")
    start = presets[preset]
    _check_keys(type(start), settings, model)
    if word_size is not None:
        settings = {"word_size": word_size, **settings}
    config = dataclasses.replace(start, **settings)  # type: ignore[type-var]
    _check_values(config)
    return config


def _check_keys(kind: type, settings: Mapping[str, Any], model: str) -> None:
    kinds = {f.name: type(f.default) for f in dataclasses.fields(kind)}
    for key, value in settings.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, [*kinds, "preset"], n=1)
            raise RecipeError(
                f"unknown key 'model.{key}' for {model}" + (f"; did you mean '{near[0]}'?" if near else "")
            )
        expected = kinds[key]
        if not (type(value) is expected or (expected is float and type(value) is int)):
            raise RecipeError(f"'model.{key}' must be {expected.__name__}, not {type(value).__name__}")


def _check_values(config: Any) -> None:
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        choices = get_args(hints[field.name])
        if choices and value not in choices:
            raise RecipeError(f"'model.{field.name}' must be {' or '.join(choices)}, not '{value}'")
        if type(value) is int and value < field.metadata.get("least", 1):
            raise RecipeError(f"'model.{field.name}' must be larger, not {value}")
        if field.name == "dropout" and not 0 <= value < 1:
            raise RecipeError(f"'model.dropout' must be at least 0 and below 1, not {value}")
