"""Drawing a scene with Pillow. The same scene gives the same pixels for a given version of Pillow."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from clipvil.mini.world import CANVAS, Object, Scene, stream

RGB = tuple[int, int, int]
Point = tuple[float, float]

PAINT: dict[str, RGB] = {
    "red": (214, 36, 40),
    "green": (38, 150, 52),
    "blue": (40, 80, 214),
    "yellow": (246, 222, 40),
    "purple": (130, 44, 168),
    "orange": (244, 134, 22),
    "pink": (248, 152, 190),
    "white": (242, 242, 242),
}
OUTLINE: RGB = (24, 24, 24)
SUPERSAMPLING = 2
"""Scenes are drawn this many times larger and averaged down, so that small shapes keep their outline."""


def draw(scene: Scene, size: int = 128) -> Image.Image:
    """The picture of a scene: RGB, `size` by `size` pixels."""
    scale = SUPERSAMPLING * size / CANVAS
    side = SUPERSAMPLING * size
    rng = stream(0, "paint", scene.key)
    image = Image.new("RGB", (side, side))
    BACKDROPS[scene.background](ImageDraw.Draw(image), rng, side, scale)
    for thing in scene.objects:
        _draw_object(image, thing, scale)
    return image.reduce(SUPERSAMPLING)


def shifted_color(color: RGB, shade: RGB) -> RGB:
    """A colour moved by `shade` a channel, kept within 0 to 255."""
    red, green, blue = (max(0, min(255, c + s)) for c, s in zip(color, shade, strict=True))
    return (red, green, blue)


def _draw_object(image: Image.Image, thing: Object, scale: float) -> None:
    radius = thing.radius * scale
    half = math.ceil(radius) + 2
    patch = (2 * half, 2 * half)
    body, edge = Image.new("L", patch), Image.new("L", patch)
    width = max(1.0, 1.3 * scale)
    outline = SHAPE_MASKS[thing.shape]
    outline(ImageDraw.Draw(edge), float(half), radius, thing.tilt)
    outline(ImageDraw.Draw(body), float(half), radius - width, thing.tilt)
    if thing.shape in ("ring", "moon"):
        # These two are holed, so a smaller copy would not leave an even border: the border is drawn by erosion.
        body = edge.resize(patch)
        body = _eroded(edge, max(1, round(width)))
    paint = Image.new("RGB", patch, shifted_color(PAINT[thing.color], thing.shade))
    _texture(ImageDraw.Draw(paint), thing, 2 * half, scale)
    corner = (round(thing.x * scale) - half, round(thing.y * scale) - half)
    image.paste(Image.new("RGB", patch, OUTLINE), corner, edge)
    image.paste(paint, corner, body)


def _eroded(mask: Image.Image, width: int) -> Image.Image:
    from PIL import ImageFilter

    return mask.filter(ImageFilter.MinFilter(2 * width + 1))


def _texture(draw: ImageDraw.ImageDraw, thing: Object, side: int, scale: float) -> None:
    """Stripes or dots in a darker tone of the object's own colour."""
    red, green, blue = shifted_color(PAINT[thing.color], thing.shade)
    dark = (int(red * 0.35), int(green * 0.35), int(blue * 0.35))
    if thing.texture == "striped":
        step = 5.6 * scale
        position = step * 0.3
        while position < side:
            draw.rectangle((0, position, side, position + step * 0.42), fill=dark)
            position += step
    elif thing.texture == "dotted":
        step, dot = 6.4 * scale, 1.55 * scale
        rows = int(side / step) + 2
        for row in range(rows):
            for column in range(rows):
                x = (column + 0.5 * (row % 2)) * step
                y = row * step * 0.9
                draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=dark)


# --- shapes: each paints its mask into a square patch, centre (c, c), within radius r ---------------------------------


def _polygon(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float, points: list[Point]) -> None:
    """Paint a polygon given in unit coordinates (x right, y down), turned by `tilt` degrees."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    draw.polygon([(c + r * (x * cos - y * sin), c + r * (x * sin + y * cos)) for x, y in points], fill=255)


def _circle(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    draw.ellipse((c - 0.92 * r, c - 0.92 * r, c + 0.92 * r, c + 0.92 * r), fill=255)


def _square(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    _polygon(draw, c, r, tilt, [(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)])


def _triangle(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    _polygon(draw, c, r, tilt, [(0.0, -0.98), (0.95, 0.72), (-0.95, 0.72)])


def _diamond(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    _polygon(draw, c, r, tilt, [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)])


def _star(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    turns = [(math.radians(-90 + 36 * k), 1.0 if k % 2 == 0 else 0.44) for k in range(10)]
    _polygon(draw, c, r, tilt, [(d * math.cos(a), d * math.sin(a)) for a, d in turns])


def _cross(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    a, b = 0.32, 0.94
    corners = [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]
    _polygon(draw, c, r, tilt, corners)


def _ring(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    draw.ellipse((c - 0.96 * r, c - 0.96 * r, c + 0.96 * r, c + 0.96 * r), fill=255)
    draw.ellipse((c - 0.42 * r, c - 0.42 * r, c + 0.42 * r, c + 0.42 * r), fill=0)


def _moon(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    draw.ellipse((c - 0.96 * r, c - 0.96 * r, c + 0.96 * r, c + 0.96 * r), fill=255)
    angle = math.radians(tilt)
    x, y, s = c + 0.58 * r * math.cos(angle), c + 0.58 * r * math.sin(angle), 0.78 * r
    draw.ellipse((x - s, y - s, x + s, y + s), fill=0)


def _heart(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    points: list[Point] = []
    for k in range(28):
        t = 2 * math.pi * k / 28
        x = 16 * math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x / 17.0, y / 17.0))
    _polygon(draw, c, r, tilt, points)


def _arrow(draw: ImageDraw.ImageDraw, c: float, r: float, tilt: float) -> None:
    points = [(-0.92, -0.3), (0.05, -0.3), (0.05, -0.84), (0.95, 0.0), (0.05, 0.84), (0.05, 0.3), (-0.92, 0.3)]
    _polygon(draw, c, r, tilt, points)


SHAPE_MASKS: dict[str, Callable[[ImageDraw.ImageDraw, float, float, float], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "heart": _heart,
    "arrow": _arrow,
}


# --- backgrounds ------------------------------------------------------------------------------------------------------


def _jitter(rng: random.Random, color: RGB, by: int = 8) -> RGB:
    return shifted_color(color, (rng.randrange(-by, by + 1), rng.randrange(-by, by + 1), rng.randrange(-by, by + 1)))


def _grass(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, scale: float) -> None:
    draw.rectangle((0, 0, side, side), fill=_jitter(rng, (122, 186, 92)))
    blade = (84, 146, 60)
    for _ in range(70):
        x, y = rng.random() * side, rng.random() * side
        lean = (rng.random() - 0.5) * 5 * scale
        draw.line((x, y, x + lean, y - 6 * scale), fill=blade, width=max(1, round(scale)))


def _sky(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, scale: float) -> None:
    top, bottom = _jitter(rng, (96, 160, 226)), _jitter(rng, (188, 220, 246))
    bands = 24
    for k in range(bands):
        mix = k / (bands - 1)
        tone = tuple(round(a + (b - a) * mix) for a, b in zip(top, bottom, strict=True))
        draw.rectangle((0, side * k / bands, side, side * (k + 1) / bands), fill=tone)
    for _ in range(3):
        x, y = rng.random() * side, rng.random() * side
        width, height = (16 + 12 * rng.random()) * scale, (4 + 3 * rng.random()) * scale
        draw.ellipse((x - width, y - height, x + width, y + height), fill=(226, 238, 250))


def _sand(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, scale: float) -> None:
    draw.rectangle((0, 0, side, side), fill=_jitter(rng, (222, 196, 142)))
    for _ in range(110):
        x, y = rng.random() * side, rng.random() * side
        draw.rectangle((x, y, x + scale, y + scale), fill=(182, 150, 96))


def _brick(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, scale: float) -> None:
    draw.rectangle((0, 0, side, side), fill=_jitter(rng, (164, 104, 88)))
    mortar, height, width = (206, 190, 178), 12 * scale, 24 * scale
    start = -rng.random() * height
    line = max(1, round(1.4 * scale))
    for row in range(int(side / height) + 2):
        y = start + row * height
        draw.line((0, y, side, y), fill=mortar, width=line)
        x = -width * (0.5 if row % 2 else 0.0)
        while x < side:
            draw.line((x, y, x, y + height), fill=mortar, width=line)
            x += width


def _snow(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, scale: float) -> None:
    draw.rectangle((0, 0, side, side), fill=_jitter(rng, (226, 232, 240), 6))
    for _ in range(22):
        x, y = rng.random() * side, rng.random() * side
        width, height = (5 + 6 * rng.random()) * scale, 1.4 * scale
        draw.ellipse((x - width, y - height, x + width, y + height), fill=(196, 208, 224))


def _night(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, scale: float) -> None:
    draw.rectangle((0, 0, side, side), fill=_jitter(rng, (26, 28, 66)))
    for _ in range(26):
        x, y = rng.random() * side, rng.random() * side
        draw.ellipse((x, y, x + 1.4 * scale, y + 1.4 * scale), fill=(236, 232, 190))


BACKDROPS: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, int, float], None]] = {
    "grass": _grass,
    "sky": _sky,
    "sand": _sand,
    "brick": _brick,
    "snow": _snow,
    "night": _night,
}
