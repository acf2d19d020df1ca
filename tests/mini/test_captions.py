"""Captions are true and five; web text is short of that on purpose, within its vocabulary."""

from __future__ import annotations

from collections import Counter

from clipvil.mini.captions import NUMBERS, PLURALS, alt_text, article, captions, joined
from clipvil.mini.world import BACKGROUNDS, COLORS, SHAPES, TEXTURES, Scene, scene, stream


def test_five_different_captions_the_same_every_time() -> None:
    for index in range(60):
        each = scene(0, "train", index)
        found = captions(each)
        assert len(set(found)) == 5
        assert found == captions(each)
        assert all(text[0].isupper() and text.endswith(".") for text in found)


def test_captions_name_only_what_is_there() -> None:
    for index in range(100):
        each = scene(0, "train", index)
        shapes = {thing.shape for thing in each.objects}
        colors = {thing.color for thing in each.objects} | ({"blue"} if each.background == "sky" else set())
        for text in captions(each):
            # The night sky has stars of its own, which are not objects.
            said = text.lower().replace("under the stars at night", "").replace(",", " ").rstrip(".")
            words = set(said.split())
            assert {shape for shape in SHAPES if shape in words or PLURALS[shape] in words} <= shapes, text
            assert words & set(COLORS) <= colors, text
            assert words & set(TEXTURES) <= {thing.texture for thing in each.objects}, text


def test_the_overview_counts_the_objects() -> None:
    for index in range(50):
        each = scene(0, "train", index)
        assert any(f"{NUMBERS[len(each.objects)]} {noun}" in captions(each)[4] for noun in ("object", "shape"))


def test_web_text_tells_of_texture_background_counts_and_relations() -> None:
    rng = stream(0, "web")
    texts = [alt_text(rng, scene(0, "web", i)) for i in range(600)]
    share = Counter[str]()
    for text in texts:
        words = set(text.split())
        share["texture"] += bool(words & {"striped", "stripy", "dotted", "spotted", "solid", "plain"})
        share["relation"] += bool(words & {"left", "right", "above", "below", "next"})
        share["count"] += bool(words & set(NUMBERS[1:]))
        share["background"] += bool(words & {"grass", "meadow", "sky", "air", "sand", "beach", "brick", "bricks",
                                             "snow", "snowy", "night"})  # fmt: skip
    assert all(60 < share[kind] < 540 for kind in ("texture", "relation", "count", "background")), share


def test_an_empty_view_is_described_by_its_background() -> None:
    for background in BACKGROUNDS:
        assert alt_text(stream(0, "empty", background), Scene("k", background, ())) != ""


def test_small_words() -> None:
    assert [article(noun) for noun in ("orange star", "star")] == ["an orange star", "a star"]
    assert [joined(parts) for parts in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
