"""How a run that fills a store ended, whoever filled it."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipvil.errors import StoreError
from clipvil.features.finalise import finalise
from clipvil.features.manifest import Manifest
from clipvil.features.plan import MaxBad, Slice
from clipvil.features.shard import load_shard_index, statuses

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Outcome:
    """State of a slice of a store: `usable` records, failures counted by reason, `complete` when all slices are done.

    `exit_code` is 0, or 3 where more inputs failed than were allowed or not one could be used.
    """

    usable: int
    reasons: dict[str, int]
    complete: bool
    exit_code: int

    @property
    def failed(self) -> int:
        """How many inputs have no features."""
        return sum(self.reasons.values())


def conclude(folder: Path, manifest: Manifest, part: Slice, allowed: MaxBad) -> Outcome:
    """Join the store if all of it is there, and count what this slice holds."""
    complete = finalise(folder, manifest)
    counts: Counter[str] = Counter()
    for shard in part.shards(manifest.shards):
        counts.update(statuses(load_shard_index(folder, shard, manifest).rows))
    usable = counts.pop("ok", 0)
    failed = counts.total()
    # A store without a single picture is of no use to anybody, whatever was allowed.
    too_bad = allowed.exceeded(failed, usable + failed) or (failed > 0 and not usable)
    return Outcome(usable, dict(counts), complete, 3 if too_bad else 0)


@contextlib.contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about the store's disk into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(
                f"{folder}: no space left to write ({error.strerror}); finished shards are kept: free some space and "
                "run the same command again"
            ) from error
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error})") from error
