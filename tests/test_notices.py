from __future__ import annotations

import warnings

import pytest

from clipvil.notices import told


def test_warnings_for_people_are_told_and_others_go_on_as_before() -> None:
    lines: list[str] = []
    with pytest.warns(FutureWarning, match="for programmers"), told(lines.append):
        warnings.simplefilter("always")
        warnings.warn("two\n  lines", UserWarning, stacklevel=1)
        warnings.warn("for programmers", FutureWarning, stacklevel=1)
    assert lines == ["two lines"]


def test_filters_count_as_ever() -> None:
    lines: list[str] = []
    with told(lines.append):
        warnings.simplefilter("ignore")
        warnings.warn("not to be heard", UserWarning, stacklevel=1)
    assert lines == []
