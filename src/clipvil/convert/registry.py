"""Every source of checkpoints by name. A new source is one file with the functions of `Release`, and one line here."""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from clipvil.convert.base import Release
from clipvil.errors import UsageError

# Name -> module. A table and not imports, so that a conversion loads only what it needs.
_SOURCES = {
    "envdrop": "clipvil.convert.envdrop",
    "envdrop-speaker": "clipvil.convert.envdrop_speaker",
    "clip-vil-captioner": "clipvil.convert.clip_vil_captioner",
    "clip-vil-p": "clipvil.convert.clip_vil_p_folder",
    "mmf-movie-mcan": "clipvil.convert.mmf_movie_mcan",
    "mmf-pythia": "clipvil.convert.mmf_pythia",
}


def list_sources() -> list[str]:
    """Names of all known sources."""
    return sorted(_SOURCES)


def source(name: str) -> Release:
    """The source of that name. Raises UsageError for an unknown one."""
    if name not in _SOURCES:
        near = difflib.get_close_matches(name, _SOURCES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(list_sources())}"
        raise UsageError(f"unknown source '{name}'; {hint}")
    return cast(Release, importlib.import_module(_SOURCES[name]))
