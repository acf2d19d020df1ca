from __future__ import annotations

from clipvil.text.tags import NAMES, NO_OBJECT, names_of, relevant, spoken

OBJECTS = ("person", "person", "dining table", "person")


def test_only_what_is_tagged_counts_unless_everyone_is_meant() -> None:
    assert relevant(OBJECTS, [("Is", (2,), "near", (1,), "?"), ("No",)]) == [1, 2]
    assert relevant(OBJECTS, [("Is", "Everyone", "at", (2,), "?")]) == [0, 1, 2, 3]
    assert relevant(OBJECTS, [("Why", "?")]) == [0, 1, 3]
    assert relevant(("car",), [("Why", "?")]) == []


def test_names_count_the_picture_first_and_go_round() -> None:
    assert names_of(OBJECTS, [1, 2, 3]) == {1: "Riley", 2: "dining table", 3: "Jackie"}
    many = ["person"] * 20
    names = names_of(many, range(20))
    assert names[14] == NAMES[0]
    assert names[15] == NAMES[1]


def test_groups_are_said_name_after_name_and_every_name_is_found_again() -> None:
    names = names_of(OBJECTS, [0, 1, 2])
    said = spoken(("Do", (0, 1), "use", (2,), "?"), names)
    assert said.text == "Do Riley Jessie use dining table ?"
    assert said.objects == (NO_OBJECT, 0, 1, NO_OBJECT, 2, 2, NO_OBJECT)
    assert [(said.text[a:b], thing) for a, b, thing in said.spans()] == [
        ("Riley", 0), ("Jessie", 1), ("dining", 2), ("table", 2),
    ]  # fmt: skip
