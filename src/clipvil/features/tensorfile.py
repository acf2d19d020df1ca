"""Reading and writing safetensors files through a memory map: every claim of the header is checked before use.

File format: 8 bytes little-endian header length, a JSON header `{name: {dtype, shape, data_offsets}}` with an optional
`__metadata__` of strings, then the bytes of the tensors without holes or overlaps. The files are ordinary safetensors
files and open with the `safetensors` library; this reader exists because a store needs views of a map that is opened
once (the library copies every slice) and one clear line for every damage.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from clipvil.errors import StoreError

# safetensors dtype -> NumPy dtype. NumPy has no bfloat16: its two bytes are read as an integer and viewed by torch.
DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<i2"),
    "F32": np.dtype("<f4"),
}
_MAX_HEADER = 1 << 20


class TensorFile:
    """The tensors of one safetensors file as NumPy views of a private memory map.

    `arrays` name -> array, `dtypes` name -> safetensors dtype, `metadata` of strings. Writing into an array changes
    memory only, never the file. Raises StoreError, one line naming the file, for whatever is missing, cut or untrue.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, 2)
                if size < 8:
                    raise StoreError(f"{path}: damaged: {size} bytes are too few for a safetensors file")
                # Private (copy-on-write), so that torch gets writable memory and the file stays untouched.
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise StoreError(f"{path}: missing file of a feature store") from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
        size = len(self._map)
        length = int.from_bytes(self._map[:8], "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise StoreError(f"{path}: damaged: the header says it is {length} bytes long, the file has {size}")
        entries, self.metadata = _parse(path, self._map[8 : 8 + length])
        _check_layout(path, entries, size - 8 - length)
        base = np.frombuffer(self._map, dtype=np.uint8)[8 + length :]
        self.dtypes = {name: entry[0] for name, entry in entries.items()}
        self.arrays = {
            name: base[begin:end].view(DTYPES[dtype]).reshape(shape)
            for name, (dtype, shape, begin, end) in entries.items()
        }

    def release(self) -> None:
        """Let go of the pages read so far: they leave this process's memory and stay in the system's cache.

        What was written into an array is lost.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def array(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> np.ndarray[Any, Any]:
        """The tensor `name`, checked against dtype and shape (None: any extent); raises StoreError."""
        if name not in self.arrays:
            raise StoreError(f"{self.path}: damaged: the tensor '{name}' is missing")
        found = self.arrays[name]
        fits = len(shape) == found.ndim and all(
            want is None or want == have for want, have in zip(shape, found.shape, strict=True)
        )
        if self.dtypes[name] != dtype or not fits:
            wanted = "x".join("?" if extent is None else str(extent) for extent in shape)
            actual = "x".join(map(str, found.shape))
            raise StoreError(
                f"{self.path}: damaged: '{name}' is {self.dtypes[name]} {actual}, expected {dtype} {wanted}"
            )
        return found


_Entry = tuple[str, tuple[int, ...], int, int]


def _parse(path: Path, raw: bytes) -> tuple[dict[str, _Entry], dict[str, str]]:
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise StoreError(f"{path}: damaged: the header is not JSON") from None
    if not isinstance(header, dict):
        raise StoreError(f"{path}: damaged: the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise StoreError(f"{path}: damaged: the header's metadata is not a table of strings")
    return {name: _entry(path, name, value) for name, value in header.items()}, metadata


def _entry(path: Path, name: str, value: Any) -> _Entry:
    def whole(numbers: Any) -> bool:
        # bool is an int in Python, and a header that says `true` for a size lies.
        return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)

    if (
        not isinstance(value, dict)
        or value.get("dtype") not in DTYPES
        or not whole(value.get("shape"))
        or not whole(value.get("data_offsets"))
        or len(value["data_offsets"]) != 2
    ):
        raise StoreError(f"{path}: damaged: the header's entry '{name}' is not a tensor description")
    begin, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if len(shape) > 4 or end - begin != math.prod(shape) * DTYPES[value["dtype"]].itemsize:
        raise StoreError(f"{path}: damaged: '{name}' claims shape {shape} in {end - begin} bytes")
    return value["dtype"], shape, begin, end


def _check_layout(path: Path, entries: Mapping[str, _Entry], payload: int) -> None:
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: (item[1][2], item[1][3])):
        if begin != position:
            raise StoreError(f"{path}: damaged: '{name}' starts at byte {begin} of the data, expected {position}")
        position = end
    if position != payload:
        raise StoreError(f"{path}: damaged: the header describes {position} bytes of data, the file has {payload}")


def header_bytes(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str], *, size: int | None = None
) -> bytes:
    """Length and header of a safetensors file whose tensors (name -> dtype, shape) follow in the order given.

    Padded with spaces (the format allows it) to a multiple of 8 bytes, or to `size` bytes in all: a header of fixed
    size is what lets a shard be written as a stream, before its tensors' sizes are known.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape) in tensors.items():
        length = math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + length]}
        position += length
    text = json.dumps(header, separators=(",", ":")).encode()
    total = size - 8 if size is not None else -(-len(text) // 8) * 8
    if len(text) > total:
        raise StoreError(f"a header of {len(text)} bytes does not fit in {total}")
    return total.to_bytes(8, "little") + text.ljust(total)


def write_tensors(stream: IO[bytes], arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]) -> None:
    """Write NumPy arrays as one safetensors file; dtypes of `DTYPES` except bfloat16."""
    names = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
    stream.write(header_bytes({name: (names[array.dtype], array.shape) for name, array in arrays.items()}, metadata))
    for array in arrays.values():
        stream.write(np.ascontiguousarray(array).tobytes())
