"""The contract that all sources share, on lists of items."""

from __future__ import annotations

import pickle

import pytest

from clipvil.errors import DataError, ImageError
from clipvil.images.sources import ImageItem, ListSource
from clipvil.images.sources.base import Unusable, as_id, printable


def items(count: int) -> list[ImageItem]:
    return [ImageItem(f"id{n}", f"place{n}", Unusable("missing", f"nothing at {n}")) for n in range(count)]


def test_a_list_is_a_sequence() -> None:
    source = ListSource(items(5), "five")
    assert (len(source), source.name, source.ids()) == (5, "five", ["id0", "id1", "id2", "id3", "id4"])
    assert [item.image_id for item in source] == source.ids()
    assert source[-1].image_id == "id4"
    assert source[1:4].ids() == ["id1", "id2", "id3"] and source[::2][-1].image_id == "id4"
    assert source[1:4].name == "five"
    assert source.find("id3").where == "place3"
    for wrong in (5, -6):
        with pytest.raises(IndexError):
            source[wrong]
    with pytest.raises(KeyError):
        source.find("id9")


def test_a_restricted_source_keeps_the_order_and_names_what_is_unknown() -> None:
    source = ListSource(items(5), "five")
    assert source.restrict(["id3", "id1", "id3"]).ids() == ["id1", "id3"]
    assert source.restrict(["id3", "id1"]).restrict(["id1"])[0].where == "place1"
    assert len(source.restrict([])) == 0
    with pytest.raises(DataError, match=r"'idX' and 1 more in five"):
        source.restrict(["id0", "idX", "idY"])


def test_double_ids_name_both_places() -> None:
    double = [*items(3), ImageItem("id1", "elsewhere", Unusable("missing", ""))]
    with pytest.raises(DataError, match=r"'id1' occurs twice: place1 and elsewhere"):
        ListSource(double)
    with pytest.raises(DataError, match=r"'id1' occurs twice: place1 and place1"):
        ListSource([*items(2), *items(2)[1:]])


def test_items_survive_pickling_and_fail_when_they_are_read() -> None:
    item = pickle.loads(pickle.dumps(ListSource(items(2))[1]))  # noqa: S301 - own bytes, as workers do
    with pytest.raises(ImageError, match="nothing at 1") as caught:
        item.read()
    assert caught.value.reason == "missing"


def test_names_for_people_are_one_line_and_ids_are_utf8() -> None:
    assert printable("a\nb\x1b[31m\t\u2028\U0001f600é") == "a\\nb\\x1b[31m\\t\\u2028\U0001f600é"
    raw = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert printable(raw).isprintable()
    assert as_id(raw).encode("utf-8") == b"caf\\xe9.jpg"
    assert as_id("é\n\U0001f600") == "é\n\U0001f600"
