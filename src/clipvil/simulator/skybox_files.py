"""Skyboxes in a folder, and the pictures of their views, ready for `clipvil extract`.

Read are `<scan>/<viewpoint>_skybox<n>_sami.jpg` (n = 0 to 5) as Matterport3D has them, also in a folder
`matterport_skybox_images` inside the scan's, and `<scan>/<viewpoint>_<face>.<jpg or png>` for cubes of one's own.
Written is `<scan>_<viewpoint>_<view>.png`, a view of two digits: the names that `clipvil.features.panorama` looks for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from clipvil.datasets.connectivity import SUFFIX, read_rotations
from clipvil.errors import ClipvilError, DataError
from clipvil.files import atomic_write
from clipvil.images.decode import decode
from clipvil.progress import progress
from clipvil.simulator.skybox import FACES, FIELD, SIZE, Bytes, Floats, views
from clipvil.simulator.views import VIEWS

_NAME = re.compile(rf"(.+)_(?:skybox([0-5])(?:_sami)?|({'|'.join(FACES)}))\.(?:jpe?g|png)", re.IGNORECASE)
_INNER = "matterport_skybox_images"


@dataclass(frozen=True)
class Skybox:
    """One cube: where its faces lie, by face."""

    scan: str
    viewpoint: str
    faces: Mapping[str, Path]


@dataclass
class Drawn:
    """What was drawn: viewpoints with all their views, those that were there already, and why others failed."""

    viewpoints: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def find_skyboxes(root: Path) -> list[Skybox]:
    """The cubes of a folder by scan and viewpoint. Raises DataError where there are none, or a face comes twice."""
    if not root.is_dir():
        raise DataError("no such folder", file=root, fix="name the folder that holds a folder of skyboxes a scan")
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(root.glob("*/*")) + sorted(root.glob(f"*/{_INNER}/*")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        scan = path.relative_to(root).parts[0]
        face = FACES[int(match[2])] if match[2] else match[3].lower()
        faces = found.setdefault((scan, match[1]), {})
        if face in faces:
            raise DataError(f"the face '{face}' of {match[1]} also lies in {faces[face].name}", file=path)
        faces[face] = path
    if not found:
        raise DataError(
            "holds no skyboxes <scan>/<viewpoint>_skybox0_sami.jpg or <scan>/<viewpoint>_front.png", file=root
        )
    return [Skybox(scan, viewpoint, faces) for (scan, viewpoint), faces in sorted(found.items())]


def draw_views(
    root: Path,
    out: Path,
    *,
    graphs: Path | None = None,
    size: tuple[int, int] = SIZE,
    vertical_field: float = FIELD,
    quiet: bool = False,
) -> Drawn:
    """Write 36 pictures for every cube in `root`; what is there already is not drawn again.

    `graphs` is the folder of the connectivity files: cubes are then turned as the pose of their viewpoint says. Without
    it `front` looks along heading 0. Cubes with a missing or broken face are counted and left out. `vertical_field` in
    radians. Raises DataError for a folder without skyboxes, and for a graph that cannot be read.
    """
    boxes = find_skyboxes(root)
    turns = {} if graphs is None else {scan: _rotations(graphs, scan) for scan in sorted({b.scan for b in boxes})}
    out.mkdir(parents=True, exist_ok=True)
    done = Drawn()
    with progress(len(boxes), "views", unit="viewpoints", quiet=quiet) as bar:
        for box in boxes:
            try:
                _draw(box, out, turns.get(box.scan), size, vertical_field, done)
            except ClipvilError as error:
                done.failures[f"{box.scan}_{box.viewpoint}"] = str(error)
            bar.update(1)
    return done


def _draw(
    box: Skybox, out: Path, turns: Mapping[str, Floats] | None, size: tuple[int, int], angle: float, done: Drawn
) -> None:
    paths = [out / f"{box.scan}_{box.viewpoint}_{view:02d}.png" for view in range(VIEWS)]
    if all(path.exists() for path in paths):
        done.skipped += 1
        return
    rotation = None
    if turns is not None:
        if box.viewpoint not in turns:
            raise DataError(f"{box.scan}: its graph has no viewpoint {box.viewpoint}")
        rotation = turns[box.viewpoint]
    for path, picture in zip(paths, views(_faces(box), rotation, size=size, field=angle), strict=True):
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG", compress_level=1)
        with atomic_write(path) as stream:
            stream.write(data.getvalue())
    done.viewpoints += 1


def _faces(box: Skybox) -> dict[str, Bytes]:
    missing = next((name for name in FACES if name not in box.faces), None)
    if missing is not None:
        raise DataError(f"{box.scan}/{box.viewpoint}: the face '{missing}' is missing")
    found = dict(_decoded(box))
    side = len(found["front"])
    for name, pixels in found.items():
        if pixels.shape[:2] != (side, side):
            height, width = pixels.shape[:2]
            raise DataError(f"{width} x {height} pixels; all faces must be squares of one size", file=box.faces[name])
    return found


def _decoded(box: Skybox) -> Iterator[tuple[str, Bytes]]:
    for name in FACES:
        path = box.faces[name]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", file=path) from None
        yield name, np.asarray(decode(data, where=str(path)).convert("RGB"))


def _rotations(graphs: Path, scan: str) -> Mapping[str, Floats]:
    path = graphs / f"{scan}{SUFFIX}"
    if not path.is_file():
        raise DataError(
            "no such file", file=path, fix="give the folder of the connectivity files, or leave --graphs out"
        )
    return read_rotations(path)
