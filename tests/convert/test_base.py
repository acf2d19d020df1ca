from __future__ import annotations

import pytest
import torch

from clipvil.convert import mmf_movie_mcan
from clipvil.convert.base import loaded, translate
from clipvil.convert.registry import list_sources, source
from clipvil.errors import CheckpointError, UsageError
from tests.convert.released import released

MOVIE = source("mmf-movie-mcan")


@pytest.mark.parametrize(
    "name", [name for name in list_sources() if "envdrop" not in name and not hasattr(source(name), "convert")]
)
def test_every_key_is_used_or_dropped_with_a_reason(name: str) -> None:
    state = released(name)
    found = translate(source(name), state, None if "pythia" in name else {"heads": 4})
    assert found.complete
    assert found.used.keys() | found.dropped.keys() == state.keys()
    assert not found.used.keys() & found.dropped.keys()
    dropped = {"mmf-movie-mcan": (4, "never runs"), "clip-vil-captioner": (1, "worked out")}.get(name, (0, ""))
    assert len(found.dropped) == dropped[0]
    assert all(dropped[1] in reason for reason in found.dropped.values())
    model = loaded(source(name), found)
    for key, own in found.used.items():
        assert torch.equal(model.state_dict()[own].flatten(), state[key].flatten())


def test_sizes_come_from_shapes_and_the_rest_from_the_preset() -> None:
    found = translate(MOVIE, released("mmf-movie-mcan"), {"heads": 2, "hidden": 99, "normalise": True})
    assert found.settings["preset"] == "published"
    assert found.settings["heads"] == 2
    assert found.assumed == {"heads": 2, "dropout": 0.1, "padding": "published", "padded_side": 32}
    assert found.to_json()["assumed"] == found.assumed
    assert found.settings["hidden"] == 16
    assert "normalise" not in found.settings
    assert (found.settings["text_layers"], found.settings["image_layers"], found.settings["movie_layers"]) == (1, 2, 2)
    assert (found.sizes.tables, found.sizes.channels) == ({"words": 13, "answers": 6}, 512)
    model = loaded(MOVIE, found)
    assert isinstance(model, mmf_movie_mcan.MovieMcan)
    assert model.config.padding == "published"


def test_what_is_missing_misshapen_or_unknown_is_listed_and_refused() -> None:
    state = released("mmf-movie-mcan")
    head, fused = "classifier.module.linears.1.bias", "image_text_multi_modal_combine_layer.linear_ques.0.weight"
    del state[head]
    state[fused] = state[fused].T.contiguous()
    state["image_feature_embeddings_list.sga_pool.linear.3.bias"] = torch.full((1,), float("nan"))
    state["detector.weight"] = torch.zeros(2)
    found = translate(MOVIE, state, {"heads": 4})
    assert list(found.missing) == [head]
    assert found.misshapen == {
        fused: "is torch.float32 (16, 32), not (32, 16)",
        "image_feature_embeddings_list.sga_pool.linear.3.bias": "holds values that are not finite numbers",
    }
    assert found.unknown == ["detector.weight"]
    with pytest.raises(CheckpointError, match=r"linears\.1\.bias is missing \(.*1 missing, 2 misshapen, 1 unknown\)"):
        loaded(MOVIE, found)


def test_half_precision_becomes_float32() -> None:
    state = {key: value.half() for key, value in released("mmf-movie-mcan").items()}
    found = translate(MOVIE, state, {"heads": 4})
    assert {tensor.dtype for tensor in found.state.values()} == {torch.float32}


def test_another_kind_of_checkpoint_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"not a MoVie\+MCAN checkpoint of MMF"):
        translate(MOVIE, released("mmf-pythia"))
    with pytest.raises(UsageError, match="unknown source 'mmf-pithia'; did you mean 'mmf-pythia'"):
        source("mmf-pithia")
