"""What is asked for in YAML: a suite or a protocol, from a file or from the package."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from clipvil.errors import RecipeError
from clipvil.training.recipe_files import explain

if TYPE_CHECKING:
    from typing_extensions import Self


class Section(BaseModel):
    """Strict on keys; what was asked for does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Declared(Section):
    """The whole of such a file. Packaged ones lie in `recipes/<KIND>s`."""

    KIND: ClassVar[str] = ""

    name: str = ""
    title: str = ""

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A YAML file, or what comes with the library under that name.

        Raises:
            RecipeError: no such file or name, broken YAML, an unknown key, a wrong value.
        """
        path, known = Path(name), cls.packaged()
        if path.suffix in (".yaml", ".yml") or path.is_file():
            text, where, title = read_yaml_text(path), str(path), path.stem
        elif str(name) in known:
            text = cls._folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")
            where, title = f"{cls.KIND} {name}", str(name)
        else:
            raise RecipeError(
                f"{cls.KIND} '{name}': no such file or packaged {cls.KIND}; packaged are {', '.join(known)}"
            )
        return cls.from_values({"name": title, **mapping(text, where)}, where=where)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Validate plain values. Raises RecipeError naming the key."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise explain(error, cls, where or cls.KIND) from None

    @classmethod
    def packaged(cls) -> list[str]:
        """Names of those that come with the library."""
        return sorted(f.name.removesuffix(".yaml") for f in cls._folder().iterdir() if f.name.endswith(".yaml"))

    @classmethod
    def _folder(cls) -> Any:
        return importlib.resources.files("clipvil").joinpath("recipes", f"{cls.KIND}s")


def read_yaml_text(path: Path) -> str:
    """The text of a file. Raises RecipeError where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def mapping(text: str, where: str) -> dict[str, Any]:
    """YAML text as a mapping. Raises RecipeError for anything else."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"{where}: must be a mapping of names to values")
    return values
