"""Panoramas as sources of pictures: rendered views of one's own, or views drawn from skyboxes.

Every source gives 36 pictures a viewpoint with the ids `<scan>_<viewpoint>_<view>`, view `12 * row + column` as in the
simulator (row 0 looks 30 degrees down, column c at heading 30 c degrees), which `panorama.PanoramaFeatures` reads.

- views: `<scan>/<viewpoint>_<view>.png`, `<scan>/<viewpoint>/<view>.png` or `<scan>_<viewpoint>_<view>.png` below a
  folder, the view with two digits, any picture format;
- skybox: `<scan>/.../<viewpoint>_skybox<0-5>_sami.jpg` (or without `_sami`) as Matterport3D ships them, or the six
  faces side by side in `<viewpoint>_skybox_small.jpg`, as the simulator's own script writes them.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipvil.datasets.connectivity import SUFFIX, Poses, read_poses
from clipvil.errors import DataError, ImageError
from clipvil.images import cubemap
from clipvil.images.decode import Limits, decode
from clipvil.images.sources.base import ImageItem, ImageSource, ListSource, printable
from clipvil.images.sources.files import FileBytes
from clipvil.images.sources.folder import FolderSource
from clipvil.simulator.views import VIEW_ELEVATION, VIEW_HEADING, VIEWS

KINDS = ("views", "skybox")
_VIEW = re.compile(r"(?:(.+)[_/])?(\d\d)\.\w+")
_FACE = re.compile(r"(.+)_skybox(?:([0-5])(?:_sami)?|_small)\.\w+")
_PICTURES = "matterport_skybox_images"
_FACES = 6


def open_panoramas(path: str | Path, kind: str, graphs: str | Path | None = None) -> ImageSource:
    """A folder of views or skyboxes (`kind`, one of `KINDS`) as a source of pictures.

    `graphs` is a folder of connectivity files: viewpoints that they do not include are left out, and skyboxes are
    turned by the poses there. Without it a skybox counts as upright, its face 3 looking along heading 0.

    Raises DataError where the folder holds nothing of the kind, a view or a face is missing, or a scan has no graph.
    """
    root = Path(path)
    found = FolderSource(root, Limits())
    poses = _Known(None if graphs is None else Path(graphs))
    return _views(found, root, poses) if kind == "views" else _skyboxes(found, root, poses)


class _Known:
    """The poses of a folder of graphs, scan by scan; without a folder every viewpoint is known and upright."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._poses: dict[str, Poses] = {}

    def rotation(self, scan: str, viewpoint: str) -> npt.NDArray[np.float64] | None:
        """Skybox to world, (3, 3); None for a viewpoint that is not included. Raises DataError."""
        if self.folder is None:
            return cubemap.LEVEL.astype(np.float64)
        if scan not in self._poses:
            file = self.folder / f"{scan}{SUFFIX}"
            if not file.is_file():
                raise DataError(f"has no graph of the scan '{printable(scan)}'", file=self.folder)
            self._poses[scan] = read_poses(file)
        return self._poses[scan].get(viewpoint)


def _views(found: FolderSource, root: Path, known: _Known) -> ImageSource:
    views: dict[tuple[str, str], dict[int, ImageItem]] = {}
    for item in found:
        place = PurePosixPath(item.image_id)
        match = _VIEW.fullmatch("/".join(place.parts[1:]) if len(place.parts) > 1 else place.name)
        if match is None or not match[1] or "/" in match[1]:
            continue
        scan, viewpoint = (place.parts[0], match[1]) if len(place.parts) > 1 else _parted(match[1])
        if not scan or not viewpoint or known.rotation(scan, viewpoint) is None:
            continue
        mine = views.setdefault((scan, viewpoint), {})
        if int(match[2]) in mine:
            raise DataError(f"view {match[2]} of viewpoint '{viewpoint}' is there twice", file=item.where)
        mine[int(match[2])] = item
    if not views:
        raise DataError(
            "holds no views of viewpoints", file=root, fix="name them <scan>/<viewpoint>_<view>.png, views 00 to 35"
        )
    items = []
    for (scan, viewpoint), mine in views.items():
        if mine.keys() != set(range(VIEWS)):
            odd = min(set(range(VIEWS)) ^ mine.keys())
            what = "lacks" if odd < VIEWS else "has more than 36 views:"
            raise DataError(f"viewpoint '{printable(viewpoint)}' of scan '{scan}' {what} view {odd:02d}", file=root)
        for view in range(VIEWS):
            items.append(ImageItem(_view_id(scan, viewpoint, view), mine[view].where, mine[view].read))
    return ListSource(items, root.name)


def _parted(name: str) -> tuple[str, str]:
    """Scan and viewpoint of `<scan>_<viewpoint>`; ids of viewpoints hold no underscore, those of scans may."""
    scan, _, viewpoint = name.rpartition("_")
    return scan, viewpoint


def _skyboxes(found: FolderSource, root: Path, known: _Known) -> ImageSource:
    faces: dict[tuple[str, str], dict[int, str]] = {}
    for item in found:
        place = PurePosixPath(item.image_id)
        match = _FACE.fullmatch(place.name)
        if match is None:
            continue
        outside = len(place.parts) == 1 or place.parts[0] == _PICTURES
        scan = root.resolve().name if outside else place.parts[0]
        number = -1 if match[2] is None else int(match[2])
        faces.setdefault((scan, match[1]), {})[number] = str(root / place)
    if not faces:
        raise DataError("holds no skyboxes", file=root, fix="name their faces <scan>/<viewpoint>_skybox0.jpg to 5")
    boxes = []
    for (scan, viewpoint), mine in sorted(faces.items()):
        rotation = known.rotation(scan, viewpoint)
        if rotation is None:
            continue
        missing = [number for number in range(_FACES) if number not in mine]
        if missing and -1 not in mine:
            raise DataError(f"skybox '{printable(viewpoint)}' of scan '{scan}' lacks face {missing[0]}", file=root)
        files = tuple(mine[number] for number in range(_FACES)) if not missing else (mine[-1],)
        boxes.append(Skybox(scan, viewpoint, files, tuple(map(tuple, rotation.tolist()))))
    if not boxes:
        raise DataError("holds no skybox of a viewpoint that the graphs include", file=root)
    return SkyboxSource(boxes, root.name)


@dataclass(frozen=True)
class Skybox:
    """One viewpoint: six files, or one with six faces side by side, and the rotation from skybox to world."""

    scan: str
    viewpoint: str
    files: tuple[str, ...]
    rotation: tuple[tuple[float, ...], ...]


class SkyboxSource(ImageSource):
    """The 36 views of every skybox, drawn when they are read."""

    def __init__(self, boxes: list[Skybox], name: str) -> None:
        self.name, self._boxes = name, boxes

    def __len__(self) -> int:
        return VIEWS * len(self._boxes)

    def ids(self) -> list[str]:
        """All picture ids, in order."""
        return [_view_id(box.scan, box.viewpoint, view) for box in self._boxes for view in range(VIEWS)]

    def _item(self, row: int) -> ImageItem:
        box, view = self._boxes[row // VIEWS], row % VIEWS
        where = printable(f"{box.files[0]} view {view:02d}")
        return ImageItem(_view_id(box.scan, box.viewpoint, view), where, _Drawn(box, view))


@dataclass(frozen=True)
class _Drawn:
    """Draws a view: 640 x 480 pixels, 60 degrees high, as a BMP, which costs little to write and loses nothing."""

    box: Skybox
    view: int

    def __call__(self) -> bytes:
        """The picture's file. Raises ImageError for faces that cannot be read or do not fit."""
        heading, elevation = float(VIEW_HEADING[self.view]), float(VIEW_ELEVATION[self.view])
        pixels = cubemap.perspective(_faces(self.box.files), heading, elevation, self.box.rotation)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "BMP")
        return stream.getvalue()


@lru_cache(maxsize=2)
def _faces(files: tuple[str, ...]) -> cubemap.Bytes:
    """(6, n, n, 3). Kept for the other views of the same viewpoint, which come next."""
    limits = Limits()
    read = [np.asarray(decode(FileBytes(file, limits.max_bytes)(), where=file, limits=limits)) for file in files]
    if len(read) == 1:
        if read[0].shape[1] != _FACES * read[0].shape[0]:
            height, width = read[0].shape[:2]
            raise ImageError("corrupt", f"{files[0]}: {width}x{height} pixels are no six faces side by side")
        read = np.split(read[0], _FACES, axis=1)
    if len({one.shape for one in read}) > 1 or read[0].shape[0] != read[0].shape[1]:
        raise ImageError("corrupt", f"{files[0]}: the faces of this skybox are no six squares of one size")
    return np.stack(read)


def _view_id(scan: str, viewpoint: str, view: int) -> str:
    return f"{scan}_{viewpoint}_{view:02d}"
