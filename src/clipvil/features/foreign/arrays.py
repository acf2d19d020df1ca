"""NumPy's .npy and .npz without trust: headers are checked before any memory is taken, and nothing is unpickled."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from clipvil.errors import FeatureError

MAX_BYTES = 1 << 28
"""The largest record that is read, in bytes as stored: a grid of 128 x 128 cells of 4096 float32."""
MAX_ENTRIES = 4096
"""The largest number of arrays in one .npz."""
_MAGIC = b"\x93NUMPY"
PICKLED = (
    "{where}: holds pickled Python objects, which are never read here: loading them can run any code; where you trust "
    "the file, load it in a Python of your own and write plain float arrays (numpy.save of one float32 array)"
)


def pickled(where: str) -> FeatureError:
    """The refusal of an object array or a pickle."""
    return FeatureError("unsupported", PICKLED.format(where=where))


def read_npy_file(path: Path) -> Tensor:
    """The float array of a .npy file. Raises FeatureError."""
    where = str(path)
    with _open(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        return read_npy(stream, size, where)


def read_npy_bytes(data: bytes | memoryview, where: str) -> Tensor:
    """The float array of a .npy file in memory. Raises FeatureError."""
    return read_npy(io.BytesIO(data), len(data), where)


def read_npy(stream: IO[bytes], size: int, where: str) -> Tensor:
    """The float array in the next `size` bytes of a stream, copied once. Raises FeatureError."""
    shape, fortran, dtype, header = _header(stream, size, where)
    if any(extent < 1 for extent in shape):
        raise FeatureError("empty", f"{where}: an array of shape {shape} holds nothing")
    need = math.prod(shape) * dtype.itemsize
    check_size(need, f"an array of shape {shape}", where)
    if need > size - header:
        raise FeatureError("truncated", f"{where}: {size - header} bytes of data, the header promises {need}")
    if need < size - header:
        raise FeatureError("corrupt", f"{where}: {size - header - need} bytes behind the array")
    # Memory of our own, so that torch may write into it without a copy.
    buffer = bytearray(need)
    _fill(stream, memoryview(buffer), where)
    array = np.frombuffer(buffer, dtype).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(array, dtype.newbyteorder("=")))


def first_line(error: Exception) -> str:
    """What a library's error says, on one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_size(need: int, what: str, where: str) -> None:
    """Raise FeatureError where a record would take more than `MAX_BYTES`."""
    if need > MAX_BYTES:
        raise FeatureError(
            "too_large", f"{where}: {what} takes {need} bytes, more than the {MAX_BYTES} that one picture may"
        )


def _header(stream: IO[bytes], size: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, dtype, and how many bytes they took."""
    if size == 0:
        raise FeatureError("empty", f"{where}: the file is empty")
    start = stream.tell()
    first = stream.read(len(_MAGIC))
    if first != _MAGIC:
        if first[:1] == b"\x80":
            raise pickled(where)
        if _MAGIC.startswith(first):
            raise FeatureError("truncated", f"{where}: ends inside the header")
        raise FeatureError("corrupt", f"{where}: not a NumPy file")
    try:
        version = tuple(stream.read(2))
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(stream)
        else:
            raise FeatureError("unsupported", f"{where}: a NumPy file of version {version} holds no plain array")
    except FeatureError:
        raise
    except Exception as error:
        # NumPy parses the header as a Python literal, and its parsers complain in many ways.
        reason = "truncated" if size < 80 else "corrupt"
        raise FeatureError(reason, f"{where}: its header cannot be read ({first_line(error)})") from None
    if dtype.hasobject:
        raise pickled(where)
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise FeatureError("unsupported", f"{where}: values of type {dtype}, expected float16, float32 or float64")
    return shape, fortran, dtype, stream.tell() - start


def _fill(stream: IO[bytes], buffer: memoryview, where: str) -> None:
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done:])  # type: ignore[attr-defined]
        if not count:
            raise FeatureError("truncated", f"{where}: ends after {done} of {len(buffer)} bytes of data")
        done += count


def read_npz(source: Path | bytes, where: str, wanted: Sequence[str | tuple[str, ...]]) -> list[Tensor | None]:
    """The float arrays of a .npz asked for, None for those that are not there; a tuple names alternatives.

    Raises FeatureError: not a zip, damaged, too large, pickled.
    """
    try:
        with _open(source) if isinstance(source, Path) else io.BytesIO(source) as stream:
            if not stream.read(1):
                raise FeatureError("empty", f"{where}: the file is empty")
            with zipfile.ZipFile(stream) as archive:
                if len(archive.infolist()) > MAX_ENTRIES:
                    raise FeatureError("too_large", f"{where}: {len(archive.infolist())} arrays in one file")
                names = set(archive.namelist())
                choices = [(keys,) if isinstance(keys, str) else keys for keys in wanted]
                found = [next((key for key in keys if f"{key}.npy" in names), None) for keys in choices]
                return [None if key is None else _member(archive, key, where) for key in found]
    except zipfile.BadZipFile as error:
        reason = "corrupt" if "CRC" in str(error) else "truncated"
        raise FeatureError(reason, f"{where}: not a whole .npz file ({error})") from None
    except EOFError:
        raise FeatureError("truncated", f"{where}: ends inside its data") from None
    except NotImplementedError as error:
        raise FeatureError("unsupported", f"{where}: {error}") from None
    except (zlib.error, RuntimeError, ValueError) as error:
        # RuntimeError: encrypted; ValueError: offsets that lie outside the file.
        raise FeatureError("corrupt", f"{where}: damaged ({error})") from None


def _member(archive: zipfile.ZipFile, key: str, where: str) -> Tensor:
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as stream:
        tensor = read_npy(stream, info.file_size, f"{where}[{key}]")
        stream.read(1)  # at the end the archive compares its checksum
        return tensor


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FeatureError("missing", f"{path}: no such file") from None
    except IsADirectoryError:
        raise FeatureError("unreadable", f"{path}: is a folder") from None


def npy_bytes(tensor: Tensor) -> bytes:
    """A .npy file of a tensor, as float32 (which holds every float16 and bfloat16 exactly)."""
    stream = io.BytesIO()
    npy.write_array(stream, tensor.float().contiguous().numpy(), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def write_npz(stream: IO[bytes], arrays: dict[str, Tensor]) -> None:
    """A compressed .npz file of float32 arrays, the same bytes for the same values."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, tensor in arrays.items():
            # A fixed date: a file is to depend on nothing but what it holds.
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, npy_bytes(tensor))
