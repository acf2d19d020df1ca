"""Where pictures come from: folders, lists, dataset files, archives; one item a picture, read when it is needed."""

from clipvil.images.sources.base import ImageItem, ImageSource, ListSource
from clipvil.images.sources.opening import KINDS, open_source

__all__ = ["KINDS", "ImageItem", "ImageSource", "ListSource", "open_source"]
