"""The manifest of a feature store: what its features are, so that other ones are never mixed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipvil.encoders.base import CellKind, EncoderSpec, Preprocess
from clipvil.errors import StoreError
from clipvil.features.index import encode_id

NAME = "manifest.json"
SCHEMA = 1
Positive = Annotated[int, Field(ge=1, le=1 << 31)]
DType = Literal["float16", "bfloat16", "float32"]
DTYPES: tuple[DType, ...] = get_args(DType)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EncoderEntry(_Strict):
    """The encoder that made the features; `fingerprint` decides, the rest tells people.

    Of imported features `stride` and `preprocess` are not known.
    """

    name: str
    fingerprint: str
    layer: str
    positions: str
    grid_channels: Positive
    pooled_channels: Positive | None
    stride: Positive | None
    preprocess: Preprocess | None


class PrecisionEntry(_Strict):
    """How the encoder was run. `cosine` is the lowest one to fp32 over the pictures of the trial (1 for fp32).

    Imported features say "imported"; nobody measured their cosine.
    """

    choice: str
    cosine: float | None
    backend: str
    device: str


class Manifest(_Strict):
    """Everything that must agree for two features to stand in one store, and how far it is to go.

    `total` pictures are expected, in shards of `shard_size` in the order whose digest is `items`. `cells` says what a
    picture's cells are; regions are stored as grids of one column, with their boxes where these are known.
    """

    format: Literal["clipvil-features"] = "clipvil-features"
    schema_version: Literal[1] = 1
    encoder: EncoderEntry
    resize: str
    dtype: DType
    precision: PrecisionEntry
    shard_size: Positive
    batch_size: Positive
    total: Annotated[int, Field(ge=0, le=1 << 32)]
    items: str
    source: str
    cells: CellKind = "grid"

    @property
    def shards(self) -> int:
        """How many shards a complete store has."""
        return -(-self.total // self.shard_size)

    @property
    def spec(self) -> EncoderSpec:
        """What a task needs to know of the encoder."""
        entry = self.encoder
        return EncoderSpec(entry.name, entry.fingerprint, entry.grid_channels, entry.pooled_channels, self.cells)

    def shard_length(self, shard: int) -> int:
        """How many pictures belong to shard number `shard`."""
        return min(self.shard_size, self.total - shard * self.shard_size)

    def to_bytes(self) -> bytes:
        """The file as it is written: UTF-8 JSON, one field a line."""
        values = self.model_dump(mode="json")
        if self.cells == "grid":
            del values["cells"]  # what every store held before there were others
        return (json.dumps(values, indent=1, ensure_ascii=True) + "\n").encode()

    def differences(self, asked: Manifest) -> list[str]:
        """One phrase for every field in which `asked` may not differ from this manifest and does."""
        pairs = {
            "encoder": (self.encoder.fingerprint, asked.encoder.fingerprint),
            "layer": (self.encoder.layer, asked.encoder.layer),
            "positions": (self.encoder.positions, asked.encoder.positions),
            "preprocess": (self.encoder.preprocess, asked.encoder.preprocess),
            "grid channels": (self.encoder.grid_channels, asked.encoder.grid_channels),
            "cells": (self.cells, asked.cells),
            "pooled channels": (self.encoder.pooled_channels, asked.encoder.pooled_channels),
            "resize": (self.resize, asked.resize),
            "dtype": (self.dtype, asked.dtype),
            "precision": (self.precision.choice, asked.precision.choice),
            "backend": (self.precision.backend, asked.precision.backend),
            "shard size": (self.shard_size, asked.shard_size),
            "pictures": ((self.total, self.items), (asked.total, asked.items)),
        }
        names = {"encoder": (self.encoder.name, asked.encoder.name), "pictures": (self.total, asked.total)}
        told = []
        for field, (here, there) in pairs.items():
            if here == there:
                continue
            if field in names:
                here, there = (
                    f"{name} ({_short(value)})" for name, value in zip(names[field], (here, there), strict=True)
                )
            told.append(f"{field} is {here} there, {there} asked")
        return told


def _short(value: object) -> str:
    """The last part of an identity: a fingerprint, or the digest of a list of pictures."""
    return str(value[-1] if isinstance(value, tuple) else value)[:16]


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a store folder. Raises StoreError: no store, newer schema, damaged."""
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{folder}: no feature store here ({NAME} is missing); make one with `clipvil extract`"
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise StoreError(f"{path}: damaged: not JSON") from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is int and version > SCHEMA:
        raise StoreError(f"{path}: schema {version} is newer than this clipvil reads ({SCHEMA}); upgrade clipvil")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StoreError(f"{path}: damaged: {where}: {first['msg']}") from None


def items_digest(ids: Iterable[str]) -> str:
    """Identity of an ordered list of picture ids (BLAKE2b, 32 hex digits)."""
    digest = hashlib.blake2b(digest_size=16)
    for image_id in ids:
        raw = encode_id(image_id)
        digest.update(len(raw).to_bytes(4, "little") + raw)
    return digest.hexdigest()
