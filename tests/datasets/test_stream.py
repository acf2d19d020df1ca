from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvil.datasets import stream
from clipvil.datasets.stream import stream_list, stream_object
from clipvil.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=5), below, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that nearly every value is cut by its edge.
    monkeypatch.setattr(stream, "_WINDOW", 3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(VALUES, max_size=5), others=st.dictionaries(st.text(max_size=4), VALUES, max_size=3), data=st.data()
)
def test_what_comes_out_is_what_json_reads(tmp_path: Path, items: list[Any], others: dict[str, Any], data: Any) -> None:
    indent, plain = data.draw(st.sampled_from([None, 1])), data.draw(st.booleans())
    path = tmp_path / "x.json"
    path.write_text(json.dumps(items, indent=indent, ensure_ascii=plain), "utf-8", "surrogatepass")
    assert list(stream_list(path)) == items
    before = {f"_{key}": value for key, value in others.items()}
    whole = {**before, "items": items, **{f"{key}_": value for key, value in others.items()}}
    path.write_text(json.dumps(whole, indent=indent), "utf-8")
    assert list(stream_list(path, "items")) == items
    assert list(stream_object(path)) == list(whole.items())


def test_a_number_at_the_edge_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for shift in range(6):
        path.write_text(" " * shift + "[123456, 7.25, true, 1e5]")
        assert list(stream_list(path)) == [123456, 7.25, True, 1e5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ('{"items": [1, 2', "not valid JSON.*cut off"),
        ('{"items": [1, 2]', "not valid JSON"),
        ('{"items": [1, 2]} x', "not valid JSON: Extra data"),
        ('{"items": [1 2]}', "not valid JSON"),
        ('{"items": [1,]}', "not valid JSON"),
        ('{"items": [1], }', "not valid JSON"),
        ('{"items" [1]}', "not valid JSON"),
        ("{items: []}", "not valid JSON"),
        ('{"items": [NaN]}', "NaN is not JSON"),
        ('{"items": [1], "items": [2]}', "field 'items': stands twice"),
        ("[1]", "must be an object with a list under 'items'"),
        ('{"items": {}}', "must be an object with a list under 'items'"),
        ("{}", "must be an object with a list under 'items'"),
        ("7", "must be an object with a list under 'items'"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_faults_are_those_of_the_ordinary_parser(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        list(stream_list(path, "items"))
    assert "x.json" in str(caught.value)


def test_line_and_column_of_a_fault_far_inside(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[\n1,\n2,\n3 4]")
    with pytest.raises(DataError, match=r"line 4: not valid JSON: .* column 3"):
        list(stream_list(path))


def test_objects_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("\ufeff \n[1]", "utf-8")
    assert list(stream_list(path)) == [1]
    with pytest.raises(DataError, match="must be an object"):
        list(stream_object(path))
    path.write_text('{"a": 1, "a": 2}')
    assert list(stream_object(path)) == [("a", 1), ("a", 2)]
    with pytest.raises(DataError, match="must be a list"):
        list(stream_list(path))
    path.write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        list(stream_list(path))
    with pytest.raises(DataError, match="no such file"):
        list(stream_list(tmp_path / "absent.json"))
