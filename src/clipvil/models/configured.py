"""A recipe's `model` section with its preset resolved, whichever model it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from clipvil.models import captioner_config, mcan_config, pythia_config

_BY_NAME: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "pythia": pythia_config.configure,
    "mcan": mcan_config.configure_mcan,
    "movie_mcan": mcan_config.configure_movie_mcan,
    "transformer_captioner": captioner_config.configure,
}


def configured(section: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the model's configuration by name; the section as it stands for a model from elsewhere.

    Raises:
        RecipeError: a key or value that the model does not have.
    """
    configure = _BY_NAME.get(str(section.get("name")))
    return dict(section) if configure is None else {"name": section["name"], **dataclasses.asdict(configure(section))}
