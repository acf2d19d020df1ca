"""Reading recipes: files, packaged names, overrides, and errors that name the right key."""

from __future__ import annotations

import copy
import difflib
import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from clipvil.errors import RecipeError

# Comparisons live beside the recipes but are read by clipvil.compare.
_NOT_RECIPES = ("suites/", "protocols/")


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the library, as `mini/vqa`."""
    return sorted(name for name, _ in _packaged() if not name.startswith(_NOT_RECIPES))


def read_recipe_file(path: str | Path) -> tuple[dict[str, Any], str]:
    """The plain values of a YAML file or packaged recipe, and the name under which errors speak of it.

    Raises:
        RecipeError: there is no such file or packaged name, or it is not a YAML mapping.
    """
    file = Path(path)
    if file.is_file():
        text, where = _read(file), str(path)
    else:
        known = dict(_packaged())
        name = str(path).removesuffix(".yaml")
        if name not in known or name.startswith(_NOT_RECIPES):
            names = packaged_recipes()
            raise RecipeError(
                f"recipe '{path}': no such file, and no packaged recipe of that name"
                f"{_nearest(name, names)}; packaged are {', '.join(names)}"
            )
        text, where = known[name].read_text(encoding="utf-8"), f"recipe {name}"
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not valid YAML: {_one_line(error)}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"{where}: a recipe is a mapping of names to values, as in 'task: vqa'")
    return values, where


def apply_overrides(
    values: Mapping[str, Any], overrides: Sequence[str], model: type[BaseModel], *, where: str
) -> dict[str, Any]:
    """Set each `section.key=value` (the value in YAML, as `[1, 2]`, `true`, `null`) in a copy of the values.

    Raises:
        RecipeError: no `=`, a value that is not YAML, or a path that leads through something that is no section.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(values))
    for override in overrides:
        path, equals, text = override.partition("=")
        path = path.strip()
        if not equals or not path:
            raise RecipeError(f"override '{override}': write key=value, as in optimiser.lr=0.002")
        _check_path(path, model, override)
        try:
            value = yaml.safe_load(text) if text.strip() else None
        except yaml.YAMLError as error:
            raise RecipeError(f"override '{override}': the value is not valid YAML: {_one_line(error)}") from None
        *sections, key = path.split(".")
        target = merged
        for section in sections:
            # A section that may be left out stands as null in a recipe that was written out.
            below = target[section] = {} if target.get(section) is None else target[section]
            if not isinstance(below, dict):
                raise RecipeError(f"override '{override}': '{section}' is {below!r} in {where}, not a section")
            target = below
        target[key] = value
    return merged


def explain(error: ValidationError, model: type[BaseModel], where: str) -> RecipeError:
    """One line for what pydantic found: the first fault in full, the others counted."""
    faults = error.errors(include_url=False)
    # An unknown key explains more than the value that is missing because of it.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    field = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{where}: unknown key '{field}'{_nearest(field, _fields(model))}{more}")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    place = f"field '{field}' " if field else ""
    got = "" if isinstance(first["input"], Mapping | BaseModel) else f", got {first['input']!r}"
    return RecipeError(f"{where}: {place}{message}{got}{more}")


def _check_path(path: str, model: type[BaseModel], override: str) -> None:
    """Refuse a path that the recipe does not know; below a free section (data, model) anything may stand."""
    fields = list(_fields(model))
    if path in fields:
        return
    free = [name for name, field in model.model_fields.items() if _section(field.annotation) is None]
    head, dot, _ = path.partition(".")
    if dot and head in free and _is_free(model, head):
        return
    raise RecipeError(f"override '{override}': unknown key '{path}'{_nearest(path, fields)}")


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        section = _section(field.annotation)
        if section is not None:
            yield from _fields(section, f"{prefix}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is, also where it may be left out (`Section | None`); None for a plain value."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _is_free(model: type[BaseModel], name: str) -> bool:
    return "dict" in str(model.model_fields[name].annotation)


def _nearest(name: str, known: Sequence[str] | Iterator[str]) -> str:
    """`; did you mean 'x'?`, looked for among whole names first, then among their last parts."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not found:
        last = name.rpartition(".")[2]
        by_last = {known_name.rpartition(".")[2]: known_name for known_name in reversed(names)}
        found = [by_last[part] for part in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    return f"; did you mean '{found[0]}'?" if found else ""


def _packaged() -> Iterator[tuple[str, Traversable]]:
    def walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
        for entry in folder.iterdir():
            if entry.is_dir():
                yield from walk(entry, f"{prefix}{entry.name}/")
            elif entry.name.endswith(".yaml"):
                yield prefix + entry.name.removesuffix(".yaml"), entry

    root = importlib.resources.files("clipvil").joinpath("recipes")
    if root.is_dir():
        yield from walk(root, "")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"{file}: not a UTF-8 text file") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
