"""Captions for any pictures, from a finished run: streamed, in flat memory, gone on with where it was stopped.

captions.jsonl   a line a picture in the order of the source: image_id, path, caption, confidence, alternatives
failures.jsonl   a line a picture that could not be used, as in a feature store
captions.json    what the captions were made from, and how many there are; written last
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from clipvil.errors import UsageError
from clipvil.features.batches import decode_ahead
from clipvil.features.extract import default_workers
from clipvil.features.manifest import items_digest
from clipvil.features.plan import MaxBad
from clipvil.features.shard import Failure
from clipvil.files import atomic_write, atomic_write_json
from clipvil.images.decode import decode, located
from clipvil.images.sources import ImageItem, ImageSource, open_source
from clipvil.progress import Progress, progress
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks.base import Prediction
from clipvil.training.devices import best_device
from clipvil.training.evaluation import evaluating
from clipvil.training.loader import to_device
from clipvil.training.partial import KeyedLog
from clipvil.training.restored import PictureEncoder, PicturesAtHand, RestoredRun, restore_task, with_encoder
from clipvil.training.run_files import locked, read_json

if TYPE_CHECKING:
    from clipvil.images.policy import Resized
    from clipvil.tasks.captioning import Captioning

SCHEMA = 1
UNIT = 64
"""Pictures whose captions are put on the disk together."""
SHEET = 500
"""Pictures of a contact sheet, unless somebody asks for more."""
THUMBNAIL = 240
"""Longest side of a thumbnail in pixels."""
_OURS = ("captions.json", "captions.jsonl", "failures.jsonl", "contact_sheet.html", ".partial.jsonl", ".lock")


@dataclass(frozen=True)
class SheetEntry:
    """One picture of a contact sheet: `thumbnail` is a base64 JPEG."""

    image_id: str
    caption: str
    confidence: float
    thumbnail: str


Sheet = Callable[[Path, Iterator[SheetEntry], "CaptionReport"], None]
"""Writes a contact sheet to a path, from the first pictures that have a caption."""


@dataclass
class CaptionReport:
    """What came out: pictures captioned in this call (`done`) and before it (`skipped`), and those that could not be

    used by their `reasons`. `exit_code` is 0, or 3 where more failed than were allowed or not one could be used.
    """

    out: Path
    run: str
    total: int = 0
    done: int = 0
    skipped: int = 0
    shown: int = 0
    """Pictures of the contact sheet."""
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    exit_code: int = 0

    @property
    def failed(self) -> int:
        """Pictures without a caption."""
        return sum(self.reasons.values())

    def line(self) -> str:
        """The outcome in one line."""
        parts = [f"{self.out}: {self.done} pictures captioned"]
        if self.done:
            parts[0] += f" at {self.done / max(self.seconds, 1e-9):.1f}/s"
        if self.skipped:
            parts.append(f"{self.skipped} were there already")
        if self.failed:
            reasons = ", ".join(f"{count} {name}" for name, count in sorted(self.reasons.items()))
            parts.append(f"{self.failed} failed ({reasons}; see failures.jsonl)")
        return ", ".join(parts)


def caption_pictures(
    source: ImageSource | str | Path,
    run: str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    kind: str | None = None,
    images: Path | None = None,
    workers: int | None = None,
    batch_size: int = 32,
    max_bad: int | float | str | None = None,
    sheet: Sheet | None = None,
    sheet_pictures: int = SHEET,
    quiet: bool = False,
) -> CaptionReport:
    """Caption every picture of a source with a finished run of the task captioning, and write the files named above.

    `overrides` change `task_settings.*` of the run's recipe (beams, say). Each picture is decoded and encoded once. A
    call that was stopped goes on with the next `UNIT` of pictures, and a finished one is left as it is. `sheet` is
    given the first `sheet_pictures` pictures and writes contact_sheet.html.

    Raises:
        CheckpointError: the run is not finished or damaged, or its encoder is another one now.
        UsageError: the run is of another task, or `out` holds something else.
        DataError: there are no such pictures.
    """
    run, out, allowed = Path(run), Path(out), MaxBad.parse(max_bad)
    begun = time.monotonic()
    opened = source if isinstance(source, ImageSource) else open_source(source, kind=kind, images=images)
    task, model, recipe, spec = restore_task(run, overrides)
    if task.name != "captioning":
        raise UsageError(f"{run}: is a run of the task {recipe.task}; captions want a run of the task captioning")
    shown = sheet_pictures if sheet else 0
    key = _key(run, recipe.hash(), opened, shown)
    _refuse_foreign(out)
    with locked(out):
        report = CaptionReport(out, str(run), total=len(opened))
        if (before := _finished(out, key, report)) is None:
            restored = with_encoder(run, task, model, recipe, spec)
            writer = _Captioner(restored, shown, batch_size)
            log = KeyedLog(out / ".partial.jsonl", key, writer.take)
            try:
                _fill(log, writer, opened, default_workers() if workers is None else workers, quiet)
                report.done, report.skipped, report.reasons = writer.done, writer.skipped, dict(writer.reasons)
                report.shown = writer.shown
                report.seconds = time.monotonic() - begun
                _publish(out, log, report, key, sheet)
            finally:
                log.close()
            (out / ".partial.jsonl").unlink()
        else:
            report = before
    usable = report.done + report.skipped
    too_bad = allowed.exceeded(report.failed, report.total) or (report.failed > 0 and not usable)
    report.exit_code = 3 if too_bad else 0
    return report


@dataclass(frozen=True)
class _Ready:
    """One decoded picture: its canvas (None: the run looks at no picture) and its thumbnail as a base64 JPEG."""

    resized: Resized | None
    thumbnail: str


class _Captioner:
    """Captions units of pictures, and counts what was done."""

    def __init__(self, restored: RestoredRun, shown: int, batch_size: int) -> None:
        device = best_device()
        self._run, self._batch = restored, batch_size
        self._model = restored.model.to(device)
        if restored.encoder is not None:
            restored.encoder.to(device=device)
        self._encoder = PictureEncoder(restored.recipe, restored.encoder)
        self.units = self.done = self.skipped = self.shown = 0
        self._most_shown = shown
        self.reasons: Counter[str] = Counter()

    def take(self, value: Any) -> None:
        """Count a unit of an earlier call. Raises ValueError, TypeError or KeyError for what is none."""
        captions, failures = list(value["captions"]), [entry["reason"] for entry in value["failures"]]
        if value["unit"] != self.units:
            raise ValueError("units stand in another order")
        self.units += 1
        self.skipped += len(captions)
        self.reasons.update(failures)
        self.shown += sum(bool(entry.get("thumbnail")) for entry in captions)

    def prepare(self, item: ImageItem) -> _Ready:
        """From bytes to canvas and thumbnail, in a decoding thread."""
        image = decode(item.read(), where=item.where, convert=False)
        with located(item.where):
            resized = self._encoder.resize(image)
            # A few more than are shown, when some of those ahead fail; those nobody asks for are dropped.
            thumbnail = _thumbnail(image) if self.shown < self._most_shown else ""
        return _Ready(resized, thumbnail)

    def unit(self, pictures: Sequence[tuple[ImageItem, _Ready | Failure]]) -> dict[str, Any]:
        """What the log keeps of one unit: captions in order, failures in order."""
        good = [(item, ready) for item, ready in pictures if isinstance(ready, _Ready)]
        bad = [failure for _, failure in pictures if isinstance(failure, Failure)]
        said: dict[str, Prediction] = {}
        for group in _by_shape(good, self._batch):
            for prediction in self._predict(group):
                said[prediction.image_id] = prediction
        captions = []
        for item, ready in good:
            line = _line(item, said[item.image_id])
            if ready.thumbnail and self.shown < self._most_shown:
                line["thumbnail"] = ready.thumbnail
                self.shown += 1
            captions.append(line)
        value = {"unit": self.units, "captions": captions, "failures": [json.loads(f.to_line()) for f in bad]}
        self.units += 1
        self.done += len(captions)
        self.reasons.update(failure.reason for failure in bad)
        return value

    def _predict(self, group: Sequence[tuple[ImageItem, _Ready]]) -> list[Prediction]:
        ids = [item.image_id for item, _ in group]
        canvases = [ready.resized.pixels for _, ready in group if ready.resized is not None]
        source = (
            PicturesAtHand(self._run.spec, ids, self._encoder.grids(torch.stack(canvases)))
            if canvases
            else PicturesAtHand.unseen(ids)
        )
        records = [CaptionedImage(image_id, (Caption(image_id, ""),)) for image_id in ids]
        task = cast("Captioning", self._run.task)
        with evaluating(self._model):
            batch = to_device(task.collate(records, source), next(iter(self._model.parameters())).device)
            return task.predict(self._model, batch, records)


def _fill(log: KeyedLog, writer: _Captioner, source: ImageSource, workers: int, quiet: bool) -> None:
    """Caption what the log does not hold yet, unit by unit."""
    first = writer.units * UNIT
    left = max(len(source) - first, 0)
    items = (source[place] for place in range(first, len(source)))
    decoded = decode_ahead(items, writer.prepare, workers=workers, ahead=UNIT)
    bar: Progress
    try:
        with progress(left, "caption", unit="pictures", quiet=quiet or not left) as bar:
            while part := list(itertools.islice(decoded, UNIT)):
                log.add(writer.unit(part))
                bar.update(len(part), failed=str(writer.reasons.total()))
    finally:
        decoded.close()  # type: ignore[attr-defined]


def _publish(out: Path, log: KeyedLog, report: CaptionReport, key: str, sheet: Sheet | None) -> None:
    """From the log to the files that stay; captions.json comes last and says that all are there."""
    with atomic_write(out / "captions.jsonl") as captions, atomic_write(out / "failures.jsonl") as failures:
        for value in log.lines():
            for entry in value["captions"]:
                entry.pop("thumbnail", None)
                _write(captions, entry)
            for entry in value["failures"]:
                _write(failures, entry)
    if sheet is not None:
        sheet(out / "contact_sheet.html", _entries(log), report)
    atomic_write_json(
        out / "captions.json",
        {
            "schema": SCHEMA,
            "key": key,
            "run": report.run,
            "pictures": report.total,
            "captions": report.done + report.skipped,
            "failed": report.reasons,
        },
    )


def _entries(log: KeyedLog) -> Iterator[SheetEntry]:
    for value in log.lines():
        for entry in value["captions"]:
            if "thumbnail" in entry:
                yield SheetEntry(entry["image_id"], entry["caption"], entry["confidence"], entry["thumbnail"])


def _write(stream: IO[bytes], value: Any) -> None:
    stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _line(item: ImageItem, prediction: Prediction) -> dict[str, Any]:
    others = [
        {"caption": caption, "confidence": confidence}
        for caption, confidence in dict.fromkeys(prediction.top)
        if caption != prediction.output
    ]
    return {
        "image_id": item.image_id,
        "path": item.where,
        "caption": prediction.output,
        "confidence": prediction.confidence,
        "alternatives": others,
    }


def _by_shape(pictures: Sequence[tuple[ImageItem, _Ready]], most: int) -> Iterator[list[tuple[ImageItem, _Ready]]]:
    """Batches of canvases of one shape, at most `most` each."""
    groups: dict[tuple[int, ...], list[tuple[ImageItem, _Ready]]] = {}
    for item, ready in pictures:
        shape = () if ready.resized is None else tuple(ready.resized.pixels.shape)
        groups.setdefault(shape, []).append((item, ready))
    for group in groups.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]


def _thumbnail(image: Any) -> str:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    small.convert("RGBA").convert("RGB").save(stream, "JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _key(run: Path, recipe_hash: str, source: ImageSource, shown: int) -> str:
    """Stands for everything that the captions depend on but the pictures' bytes."""
    weights = hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()
    what = [SCHEMA, UNIT, shown, recipe_hash, weights, items_digest(source.ids())]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder of something else, before anything is written there."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out wants a folder")
    if out.exists() and any(path.name not in _OURS and not path.name.startswith(".") for path in out.iterdir()):
        raise UsageError(f"{out}: holds something else than captions; choose another --out")


def _finished(out: Path, key: str, report: CaptionReport) -> CaptionReport | None:
    """The report of the very same captions that are there already; None where there is work to do."""
    path = out / "captions.json"
    if not path.exists():
        return None
    found = read_json(path)
    if found.get("key") != key:
        raise UsageError(
            f"{out}: holds captions of other pictures, of another run, or made in another way; choose another --out"
        )
    report.skipped, report.reasons = int(found["captions"]), {str(k): int(v) for k, v in found["failed"].items()}
    return report
