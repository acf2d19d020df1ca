"""A picture as people have it in hand, a file, a PIL image, an array or a tensor, as a PIL image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from clipvil.errors import ImageError, UsageError
from clipvil.images.decode import adopt, decode

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = "str | Path | Image | np.ndarray | Tensor"


def open_picture(picture: Picture) -> Image:
    """The picture in its own colour mode, upright as its EXIF tag says.

    A path is read and decoded as in extraction. A PIL image may have any mode. An array is uint8, (H, W, 3) in RGB or
    (H, W) or (H, W, 1) in grey, as Pillow and OpenCV users have them. A tensor is (3, H, W), (1, H, W) or (H, W), uint8
    or floating between 0 and 1, as torchvision hands them out; it may lie on any device.

    Raises:
        ImageError: the file is not there or no usable picture.
        UsageError: an array or tensor of another type, shape or range, or something else altogether.
    """
    from PIL import Image as images

    if isinstance(picture, images.Image):
        return adopt(picture, where="the PIL image")
    if isinstance(picture, np.ndarray):
        return images.fromarray(_grey_or_rgb(picture))
    if isinstance(picture, Tensor):
        return images.fromarray(_from_tensor(picture))
    if isinstance(picture, str | Path):
        return _from_file(Path(picture))
    raise UsageError(
        f"a picture must be a path, a PIL image, a NumPy array or a torch tensor, not {type(picture).__name__}"
    )


def _from_file(path: Path) -> Image:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError("missing", f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", f"{path}: {getattr(error, 'strerror', None) or error}") from None
    # The file's own colour mode, as in extraction: the published policies differ in when they convert.
    return decode(data, where=str(path), convert=False)


def _grey_or_rgb(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array that Pillow reads as it is meant."""
    shape = f"{array.dtype} {array.shape}"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        hint = ""
        if array.ndim == 4:
            hint = "; hand over one picture at a time"
        elif array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
            hint = "; its channels stand first: array.transpose(1, 2, 0) puts them last"
        elif array.dtype.kind == "f":
            hint = "; scale it to 0..255 and round: (255 * array).round().astype('uint8') for one in 0..1"
        raise UsageError(f"a picture as an array must be uint8 of shape (H, W, 3) or (H, W), not {shape}{hint}")
    if 0 in array.shape:
        raise UsageError(f"a picture needs at least one pixel, this array has the shape {array.shape}")
    return np.ascontiguousarray(array)


def _from_tensor(tensor: Tensor) -> np.ndarray[Any, Any]:
    shape = f"{tensor.dtype} {tuple(tensor.shape)}"
    if tensor.ndim == 2:
        tensor = tensor[None]
    good = tensor.dtype == torch.uint8 or tensor.is_floating_point()
    if not good or tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        hint = ""
        if tensor.ndim == 4:
            hint = "; hand over one picture at a time"
        elif tensor.ndim == 3 and tensor.shape[2] in (1, 3):
            hint = "; its channels stand last: tensor.permute(2, 0, 1) puts them first"
        raise UsageError(
            "a picture as a tensor must be (3, H, W), (1, H, W) or (H, W), uint8 or floating between 0 and 1, not "
            f"{shape}{hint}"
        )
    if not tensor.numel():
        raise UsageError(f"a picture needs at least one pixel, this tensor has the shape {tuple(tensor.shape)}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        low, high = float(tensor.min()), float(tensor.max())
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise UsageError(
                f"a picture as a floating tensor must lie between 0 and 1, this one between {low:g} and {high:g}; "
                "divide by 255, or undo its normalisation"
            )
        tensor = tensor.float().mul(255).round().to(torch.uint8)
    return _grey_or_rgb(tensor.permute(1, 2, 0).numpy())
