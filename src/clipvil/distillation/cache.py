"""What a teacher said of texts, kept on disk: every distinct text is read once, whichever run asks for it.

A folder of safetensors files a teacher (named by its fingerprint); each pass adds one file with the texts that were
missing, whole or not at all. Two processes that do the same at once write the same content twice, and nothing else.

    texts-<digest>.safetensors
        keys (N, 2) U64     the first 16 bytes of the text's SHA-256
        ends (N,) U64       words up to and with each text
        vectors (N, D)      the text
        words (W, D)        its words
        known (W,) U8       0 where a word lies behind the end of the teacher's context
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from clipvil.distillation.text_teachers import TextTeacher, read_parts
from clipvil.errors import StoreError
from clipvil.features.tensorfile import TensorFile
from clipvil.files import atomic_write
from clipvil.progress import progress

_AT_ONCE = 2048
DTYPES = {"float16": torch.float16, "float32": torch.float32}


class TextCache:
    """Texts by number, in the order in which they were asked for.

    Text i has the vector `vectors[rows[i]]` and the words from `begins[i]` on, `counts[i]` of them, in `words` (W, D)
    and `known` (W,) uint8; in the type that they are kept in.
    """

    def __init__(
        self,
        teacher: TextTeacher,
        folder: Path | None,
        texts: Sequence[tuple[str, ...]],
        dtype: str,
        quiet: bool = True,
    ) -> None:
        """Reads what is missing. `folder` None keeps it in memory alone; `dtype` float16 or float32.

        Raises StoreError for a damaged file.
        """
        self.channels = teacher.channels
        self.read, self.seconds = 0, 0.0
        keys = [_key(text) for text in texts]
        kept: list[_Part] = []
        if folder is not None:
            folder = folder / f"texts-{teacher.fingerprint()}-{dtype}"
            kept = [_Part.open(file, self.channels) for file in sorted(folder.glob("texts-*.safetensors"))]
        known = {key for part in kept for key in part.rows}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            start = time.monotonic()
            part = _read(teacher, missing, dtype, quiet)
            self.read, self.seconds = len(missing), time.monotonic() - start
            if folder is not None:
                part = _write(folder, part, self.channels)
            kept.append(part)
        self._gather(keys, kept)

    def _gather(self, keys: Sequence[bytes], kept: Sequence[_Part]) -> None:
        """Everything that was asked for: views of the one file that holds it all, or copied behind each other."""
        where = {key: (part, row) for part in kept for key, row in part.rows.items()}
        found = [where[key] for key in keys]
        counts = np.array([part.count(row) for part, row in found], dtype=np.int64)
        begins = np.array([part.begin(row) for part, row in found], dtype=np.int64)
        self.counts = torch.from_numpy(counts)
        used = {id(part): part for part, _ in found}
        if len(used) == 1:
            part = found[0][0]
            self.begins, self.rows = torch.from_numpy(begins), torch.tensor([row for _, row in found])
            self.vectors, self.words = torch.from_numpy(part.vectors), torch.from_numpy(part.words)
            self.known = torch.from_numpy(part.known)
            return
        self.begins, self.rows = torch.from_numpy(np.cumsum(counts) - counts), torch.arange(len(found))
        taken = [slice(begin, begin + count) for begin, count in zip(begins.tolist(), counts.tolist(), strict=True)]
        pairs = [(part, row, words) for (part, row), words in zip(found, taken, strict=True)]
        self.vectors = torch.from_numpy(np.stack([part.vectors[row] for part, row, _ in pairs]))
        self.words = torch.from_numpy(np.concatenate([part.words[words] for part, _, words in pairs]))
        self.known = torch.from_numpy(np.concatenate([part.known[words] for part, _, words in pairs]))


class _Part:
    """One pass over texts: arrays as in the file."""

    def __init__(self, keys: Sequence[bytes], ends: npt.NDArray[np.int64], arrays: dict[str, np.ndarray]) -> None:
        self.rows = {key: row for row, key in enumerate(keys)}
        self.ends = ends
        self.vectors, self.words, self.known = arrays["vectors"], arrays["words"], arrays["known"]

    @classmethod
    def open(cls, path: Path, channels: int) -> _Part:
        file = TensorFile(path)
        keys = file.array("keys", "U64", (None, 2))
        kind = "F16" if path.parent.name.endswith("float16") else "F32"
        vectors = file.array("vectors", kind, (len(keys), channels))
        words = file.array("words", kind, (None, channels))
        ends = file.array("ends", "U64", (len(keys),)).astype(np.int64)
        known = file.array("known", "U8", (len(words),))
        if (len(ends) and int(ends[-1]) != len(words)) or bool((np.diff(ends, prepend=0) < 0).any()):
            raise StoreError(f"{path}: damaged: the words of its texts do not add up; remove it, it is made anew")
        names = [row.tobytes() for row in np.ascontiguousarray(keys)]
        return cls(names, ends, {"vectors": vectors, "words": words, "known": known})

    def begin(self, row: int) -> int:
        return int(self.ends[row - 1]) if row else 0

    def count(self, row: int) -> int:
        return int(self.ends[row]) - self.begin(row)


def _read(teacher: TextTeacher, missing: dict[bytes, tuple[str, ...]], dtype: str, quiet: bool) -> _Part:
    texts, vectors, words, known, counts = list(missing.values()), [], [], [], []
    with progress(len(texts), f"read texts ({teacher.name})", unit="texts", quiet=quiet) as bar:
        for start in range(0, len(texts), _AT_ONCE):
            here = texts[start : start + _AT_ONCE]
            for said in read_parts(teacher, here):
                vectors.append(said.vector)
                words.append(said.words)
                known.append(said.known)
                counts.append(len(said.words))
            bar.update(len(here))
    arrays = {
        "vectors": torch.stack(vectors).to(DTYPES[dtype]).numpy(),
        "words": torch.cat(words).to(DTYPES[dtype]).numpy(),
        "known": torch.cat(known).to(torch.uint8).numpy(),
    }
    return _Part(list(missing), np.cumsum(counts, dtype=np.int64), arrays)


def _write(folder: Path, part: _Part, channels: int) -> _Part:
    folder.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(part.rows), dtype=np.uint64).reshape(-1, 2)
    content: dict[str, Tensor] = {
        "keys": torch.from_numpy(keys.copy()),
        "ends": torch.from_numpy(part.ends.astype(np.uint64)),
        "vectors": torch.from_numpy(part.vectors),
        "words": torch.from_numpy(part.words),
        "known": torch.from_numpy(part.known),
    }
    path = folder / f"texts-{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.safetensors"
    with atomic_write(path) as stream:
        stream.write(save(content))
    return _Part.open(path, channels)


def _key(text: tuple[str, ...]) -> bytes:
    return hashlib.sha256(json.dumps(text).encode()).digest()[:16]
