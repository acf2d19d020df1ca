"""Words that pick out objects: descriptions, what matches them, and descriptions that fit one object only."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from clipvil.mini.captions import PLURALS
from clipvil.mini.world import Object, Scene

ATTRIBUTES = ("size", "color", "texture", "shape")
"""In the order in which English puts them before a noun."""


@dataclass(frozen=True)
class Description:
    """Attribute values an object may be described by; None leaves an attribute open."""

    size: str | None = None
    color: str | None = None
    texture: str | None = None
    shape: str | None = None

    def fits(self, thing: Object) -> bool:
        """Whether every attribute that is given agrees with the object."""
        return all(getattr(self, name) in (None, getattr(thing, name)) for name in ATTRIBUTES)

    def count(self, scene: Scene) -> int:
        """How many objects of the scene it fits."""
        return sum(self.fits(thing) for thing in scene.objects)

    def words(self, *, plural: bool = False) -> str:
        """As English, without an article: "small red striped star", or "red objects" where the shape is open."""
        noun = self.shape or "object"
        adjectives = [word for word in (self.size, self.color, self.texture) if word]
        return " ".join([*adjectives, PLURALS[noun] if plural else noun])


def describe(thing: Object, names: Collection[str]) -> Description:
    """The description of an object by the attributes named."""
    return Description(**{name: getattr(thing, name) for name in names})


def refer(rng: random.Random, scene: Scene, thing: Object, *, hidden: Collection[str] = ()) -> Description | None:
    """A short description that fits `thing` and nothing else in the scene, without the `hidden` attributes.

    None if there is none. Among the shortest that work one is drawn, those that name the shape first.
    """
    open_names = [name for name in ATTRIBUTES if name not in hidden]
    subsets = [()]  # type: list[tuple[str, ...]]
    for name in open_names:
        subsets += [(*subset, name) for subset in subsets]
    rng.shuffle(subsets)
    for subset in sorted(filter(None, subsets), key=lambda names: (len(names), "shape" not in names)):
        candidate = describe(thing, subset)
        if candidate.count(scene) == 1:
            return candidate
    return None
