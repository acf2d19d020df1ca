"""The recorded captioner as this library's task sees it: model, batch, frequencies. Skips where it is absent."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from clipvil.convert.clip_vil_captioner import from_clip_vil
from clipvil.metrics.captions import CaptionReward, DocumentFrequencies
from clipvil.models.transformer_captioner import TransformerCaptioner
from tests.shared import shared


@dataclass(frozen=True)
class Recorded:
    """Everything that was recorded, read anew for each test."""

    io: dict[str, Tensor]
    text: dict[str, Any]
    grad_norms: dict[str, dict[str, dict[str, float]]]

    def model(self) -> TransformerCaptioner:
        """The recorded network in evaluation mode, with gradients."""
        state = load_file(shared("fixtures", "captioner", "model.safetensors"))
        return from_clip_vil(state, heads=4).eval()

    def pictures(self) -> dict[str, Tensor]:
        """What a batch holds of the pictures."""
        return {"cells": self.io["att_feats"], "mask": self.io["att_masks"].bool(), "shapes": torch.ones(5, 2).long()}

    def references(self) -> dict[str, Tensor]:
        """What a batch holds of their captions for the reward."""
        found = [torch.tensor(rows) for rows in self.text["reference_ids"]]
        rows = torch.zeros(len(found), max(map(len, found)), found[0].shape[1], dtype=torch.int64)
        for place, own in enumerate(found):
            rows[place, : len(own)] = own
        return {"references": rows, "references_of": torch.tensor([len(own) for own in found])}

    def reward(self) -> CaptionReward:
        """CIDEr-D with the recorded document frequencies."""
        by_order: dict[int, dict[int, int]] = defaultdict(dict)
        for ngram, count in self.text["document_frequency"]:
            packed = 0
            for word in ngram:
                packed = packed << 16 | int(word) + 1
            by_order[len(ngram)][packed] = int(count)
        keys = [np.array(sorted(by_order[order]), dtype=np.uint64) for order in (1, 2, 3, 4)]
        counts = [
            np.array([by_order[order][int(key)] for key in own], dtype=np.int32)
            for order, own in zip((1, 2, 3, 4), keys, strict=True)
        ]
        return CaptionReward(DocumentFrequencies(int(self.text["document_count"]), tuple(keys), tuple(counts)))


def recorded() -> Recorded:
    """Read the fixture."""
    folder = shared("fixtures", "captioner")
    return Recorded(
        load_file(folder / "io.safetensors"),
        json.loads((folder / "text.json").read_text(encoding="utf-8")),
        json.loads((folder / "grad_norms.json").read_text(encoding="utf-8")),
    )
