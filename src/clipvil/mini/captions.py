"""What people write about a scene: five clean captions in the manner of COCO, or the noisy text that a web page gives.

Clean captions are true of the picture. Web text is partial, uses synonyms, carries words that have nothing to do with
the picture, has its words in a muddle at times, and belongs to another picture in `WRONG_RATE` of all cases.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from clipvil.mini.world import Object, Scene, next_to, relation_holds, stream

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
PLURALS = {
    "circle": "circles", "square": "squares", "triangle": "triangles", "diamond": "diamonds", "star": "stars",
    "cross": "crosses", "ring": "rings", "moon": "moons", "heart": "hearts", "arrow": "arrows",
    "object": "objects", "shape": "shapes", "thing": "things",
}  # fmt: skip
WHERE = {
    "grass": ("on the grass", "on grass", "in a meadow"),
    "sky": ("in the sky", "against a blue sky", "in the air"),
    "sand": ("on the sand", "on a beach", "on sand"),
    "brick": ("in front of a brick wall", "on a brick wall", "on bricks"),
    "snow": ("in the snow", "on snow", "on a snowy field"),
    "night": ("at night", "in the night", "under the stars at night"),
}
TEXTURE_WORDS = {"solid": ("solid", "plain"), "striped": ("striped", "stripy"), "dotted": ("dotted", "spotted")}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big")}
COLOR_WORDS = {"purple": ("purple", "violet"), "pink": ("pink", "rose"), "red": ("red", "scarlet")}
SHAPE_WORDS = {"circle": ("circle", "disc"), "moon": ("moon", "crescent"), "cross": ("cross", "plus"),
               "diamond": ("diamond", "rhombus"), "square": ("square", "box")}  # fmt: skip

WRONG_RATE = 0.10
"""Share of web texts that belong to another picture."""
SYNONYM_RATE = 0.15
MUDDLE_RATE = 0.10
"""Share of web texts in which two neighbouring words changed places."""
DROP_RATE = 0.03
"""Chance of each word of a web text to be missing."""
JUNK_RATE = 0.25
JUNK = ("photo of", "picture", "stock image", "free wallpaper", "clip art", "buy now", "high quality", "art print")


def captions(scene: Scene, seed: int = 0) -> list[str]:
    """Five different captions of a scene, each true of it."""
    rng = stream(seed, "captions", scene.key)
    makers = [_everything, _counted, _related, _detail, _overview]
    found: list[str] = []
    while len(found) < 5:
        text = makers[len(found)](rng, scene)
        if text in found:
            text = _detail(rng, scene)
        if text not in found:
            found.append(text)
        elif rng.random() < 0.5:
            found.append("a drawing of " + text)
    return [text[0].upper() + text[1:] + "." for text in found]


def alt_text(rng: random.Random, scene: Scene) -> str:
    """One noisy web text for a scene (a scene may be empty). Whoever pairs texts and pictures adds the wrong ones."""
    return _noise(rng, _web_description(rng, scene))


def phrase(rng: random.Random, thing: Object, *, full: float = 0.8, synonyms: float = 0.0) -> str:
    """A noun phrase without its article; each attribute but the shape is mentioned with chance `full`."""
    words = []
    if rng.random() < full * 0.6:
        words.append(_word(rng, SIZE_WORDS, thing.size, synonyms))
    if rng.random() < full:
        words.append(_word(rng, COLOR_WORDS, thing.color, synonyms))
    if rng.random() < full * (0.5 if thing.texture == "solid" else 1.0):
        words.append(_word(rng, TEXTURE_WORDS, thing.texture, synonyms))
    words.append(_word(rng, SHAPE_WORDS, thing.shape, synonyms))
    return " ".join(words)


def article(noun: str) -> str:
    """The noun phrase with "a" or "an" before it."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def joined(parts: Sequence[str]) -> str:
    """Parts as an English list."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _word(rng: random.Random, table: Mapping[str, tuple[str, ...]], word: str, rate: float) -> str:
    choices = table.get(word, (word,))
    return choices[rng.randrange(len(choices))] if rate and rng.random() < rate else choices[0]


def _place(rng: random.Random, scene: Scene) -> str:
    choices = WHERE[scene.background]
    return choices[rng.randrange(len(choices))]


def _everything(rng: random.Random, scene: Scene) -> str:
    things = list(scene.objects)
    rng.shuffle(things)
    return joined([article(phrase(rng, thing)) for thing in things]) + " " + _place(rng, scene)


def _counted(rng: random.Random, scene: Scene) -> str:
    by_color = rng.random() < 0.3
    counts = Counter(thing.color if by_color else thing.shape for thing in scene.objects)
    parts = []
    for word, count in counts.items():
        if by_color:
            parts.append(f"{NUMBERS[count]} {word} {PLURALS['shape'] if count > 1 else 'shape'}")
        else:
            parts.append(f"{NUMBERS[count]} {PLURALS[word]}" if count > 1 else article(word))
    return joined(parts) + " " + _place(rng, scene)


def relation_words(rng: random.Random, a: Object, b: Object) -> str | None:
    """A relation that holds between two objects, in words, or None."""
    options = [r for r in ("left of", "right of", "above", "below") if relation_holds(r, a, b)]
    if next_to(a, b):
        options.append("next to")
    if not options:
        return None
    choice = options[rng.randrange(len(options))]
    return "to the " + choice if choice in ("left of", "right of") and rng.random() < 0.4 else choice


def _related(rng: random.Random, scene: Scene) -> str:
    pairs = [(a, b) for a in scene.objects for b in scene.objects if a is not b]
    rng.shuffle(pairs)
    for a, b in pairs:
        words = relation_words(rng, a, b)
        if words:
            return f"{article(phrase(rng, a))} {words} {article(phrase(rng, b))}"
    return _detail(rng, scene)


def _detail(rng: random.Random, scene: Scene) -> str:
    thing = scene.objects[rng.randrange(len(scene.objects))]
    return f"{article(phrase(rng, thing, full=1.0))} {_place(rng, scene)}"


def _overview(rng: random.Random, scene: Scene) -> str:
    count = len(scene.objects)
    noun = "object" if rng.random() < 0.5 else "shape"
    verb = "there is" if count == 1 else "there are"
    return f"{verb} {NUMBERS[count]} {PLURALS[noun] if count > 1 else noun} {_place(rng, scene)}"


def _web_description(rng: random.Random, scene: Scene) -> str:
    """A partial description: some of the objects, or a count, or a relation; often where they are."""
    things = list(scene.objects)
    if not things:
        return _place(rng, scene)
    rng.shuffle(things)
    draw = rng.random()
    if draw < 0.14 and len(things) > 1:
        text = _web_count(rng, scene)
    elif draw < 0.40 and len(things) > 1:
        text = _web_relation(rng, things)
    else:
        # Long lists are rarer than the pictures that would call for them: the web names what stands out.
        keep = len(things) if rng.random() < 0.6 else 1 + rng.randrange(len(things))
        parts = [phrase(rng, thing, full=0.85, synonyms=SYNONYM_RATE) for thing in things[:keep]]
        text = " and ".join(parts) if rng.random() < 0.5 else ", ".join(parts)
    if rng.random() < 0.6:
        text += " " + _place(rng, scene)
    return text


def _web_count(rng: random.Random, scene: Scene) -> str:
    attribute = ("shape", "color", "texture", "all")[rng.randrange(4)]
    if attribute == "all":
        return f"{NUMBERS[len(scene.objects)]} {PLURALS['shape']}"
    counts = Counter(str(getattr(thing, attribute)) for thing in scene.objects)
    parts = []
    for word, count in counts.most_common():
        noun = word if attribute == "shape" else "shape"
        lead = "" if attribute == "shape" else word + " "
        parts.append(f"{NUMBERS[count]} {lead}{PLURALS[noun] if count > 1 else noun}")
    return " and ".join(parts)


def _web_relation(rng: random.Random, things: Sequence[Object]) -> str:
    a, b = things[0], things[1]
    words = relation_words(rng, a, b) or "and"
    return (
        f"{phrase(rng, a, full=0.8, synonyms=SYNONYM_RATE)} {words} {phrase(rng, b, full=0.8, synonyms=SYNONYM_RATE)}"
    )


def _noise(rng: random.Random, text: str) -> str:
    words = [word for word in text.split() if rng.random() >= DROP_RATE] or text.split()
    if len(words) > 1 and rng.random() < MUDDLE_RATE:
        k = rng.randrange(len(words) - 1)
        words[k], words[k + 1] = words[k + 1], words[k]
    if rng.random() < JUNK_RATE:
        junk = JUNK[rng.randrange(len(JUNK))].split()
        words = junk + words if rng.random() < 0.5 else words + junk
    return " ".join(words)
