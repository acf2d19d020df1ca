"""Weights from files: loaded exactly, refused in one line when unsafe, damaged, unfitting or ambiguous."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from clipvil.encoders import weights
from clipvil.encoders.efficientnet_lite0 import by_position
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.encoders.weights import UntrainedWarning, _reason, downloading, find_weights
from clipvil.errors import EncoderError
from tests.encoders.zoo import VIT, write_open_clip

Built = Callable[[str], ModuleEncoder]


def fails(name: str) -> str:
    with pytest.raises(EncoderError) as caught:
        create_encoder(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def vit_folder(tmp_path: Path) -> Path:
    return write_open_clip(tmp_path / "vit", VIT)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped", "visual"])
def test_a_timm_file_and_its_wrappers_give_the_same_encoder(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = timm.create_model("test_vit").state_dict()
    path = tmp_path / ("weights.safetensors" if kind in ("safetensors", "visual") else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pth":
        torch.save(state, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:  # without its classifier
        save_file({key: value for key, value in state.items() if not key.startswith("head.")}, path)
    encoder = create_encoder(f"timm/test_vit:{path}")
    assert isinstance(encoder, ModuleEncoder)
    loaded = encoder.module.trunk.state_dict()
    assert state.keys() - loaded.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert create_encoder(f"timm/test_vit:{tmp_path}").encode(torch.ones(1, 3, 32, 48)).grid.shape == (1, 64, 2, 3)


def test_an_open_clip_file_may_hold_the_visual_part_alone(vit_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    config = json.loads((vit_folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", config)
    whole = load_file(vit_folder / "open_clip_model.safetensors")
    visual = {key: value for key, value in whole.items() if key.startswith("visual.")}
    assert len(visual) < len(whole)
    bare = vit_folder.parent / "bare.safetensors"
    save_file({key.removeprefix("visual."): value for key, value in visual.items()}, bare)
    prefixed = vit_folder.parent / "visual.safetensors"
    save_file(visual, prefixed)
    files = (vit_folder / "open_clip_model.safetensors", prefixed, bare)
    encoders = [create_encoder(f"open_clip/tiny-test:{file}") for file in files]
    assert len({encoder.fingerprint() for encoder in encoders}) == 1
    # Weights of the same values under the folder's own mean and std are another encoder: preprocessing counts.
    assert create_encoder(f"open_clip/local-dir:{vit_folder}").fingerprint() != encoders[0].fingerprint()


def test_a_timm_folder_in_hub_format(tmp_path: Path) -> None:
    model = timm.create_model("test_vit")
    timm.models.save_for_hf(model, tmp_path, model_config={"num_classes": 1000})
    encoder = create_encoder(f"timm/local-dir:{tmp_path}")
    assert isinstance(encoder, ModuleEncoder)
    assert encoder.layer == "last+norm"
    loaded = encoder.module.trunk.state_dict()
    assert model.state_dict().keys() - loaded.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.items())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*TorchScript:UserWarning")
def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "RN50.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    message = fails(f"timm/test_vit:{path}")
    assert "TorchScript" in message
    assert ".safetensors" in message


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    path = tmp_path / "weights.pth"
    with path.open("wb") as stream:
        pickle.dump(Hostile(), stream)
    torch.save({"state_dict": Hostile()}, tmp_path / "zip.pth")
    for name in (path, tmp_path / "zip.pth"):
        assert "could run code" in fails(f"torchvision/resnet18:{name}")
    assert not marker.exists()


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_damaged_safetensors_file_is_refused(cut: int, vit_folder: Path) -> None:
    path = vit_folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    assert "not a whole safetensors file" in fails(f"open_clip/local-dir:{vit_folder}")


def test_weights_of_another_model_are_refused_with_the_first_differences(vit_folder: Path) -> None:
    path = vit_folder / "open_clip_model.safetensors"
    state = load_file(path)
    state["visual.conv1.weight"] = torch.zeros(32, 3, 8, 8)
    state["visual.extra"] = torch.zeros(1)
    del state["visual.ln_post.bias"]
    save_file(state, path)
    message = fails(f"open_clip/local-dir:{vit_folder}")
    for part in ("lacks ln_post.bias", "has extra too many", "conv1.weight is (32, 3, 8, 8), not (32, 3, 16, 16)"):
        assert part in message


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    assert "no state dict" in fails(f"timm/test_vit:{tmp_path / 'list.pth'}")
    torch.save({"optimizer": {}}, tmp_path / "empty.pth")
    assert "no state dict" in fails(f"timm/test_vit:{tmp_path / 'empty.pth'}")


def test_folders_are_searched_and_ambiguous_ones_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no weights in"):
        find_weights(tmp_path, name="x")
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(EncoderError, match="several weights files"):
        find_weights(tmp_path, name="x")
    (tmp_path / "open_clip_model.safetensors").touch()
    assert find_weights(tmp_path, name="x").name == "open_clip_model.safetensors"
    assert find_weights(tmp_path / "a.safetensors", name="x").name == "a.safetensors"
    with pytest.raises(EncoderError, match="no file or folder"):
        find_weights(tmp_path / "absent", name="x")


@pytest.mark.parametrize("text", ["{", "[]", '{"no": "model_cfg"}'])
def test_a_broken_open_clip_folder_is_one_line(text: str, vit_folder: Path) -> None:
    (vit_folder / "open_clip_config.json").write_text(text)
    assert "open_clip_config.json" in fails(f"open_clip/local-dir:{vit_folder}")


def test_hugging_face_weights_that_lack_a_tensor_are_refused(built: Built, tmp_path: Path) -> None:
    folder = Path(built("hf-siglip").name.removeprefix("hf/"))
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    dropped = next(key for key in state if key.endswith("post_layernorm.weight"))
    save_file({k: v for k, v in state.items() if k != dropped}, tmp_path / "model.safetensors", {"format": "pt"})
    assert "post_layernorm.weight" in fails(f"hf/{tmp_path}")
    (tmp_path / "preprocessor_config.json").unlink()
    assert "mean and std" in fails(f"hf/{tmp_path}")


def test_hugging_face_weights_from_another_file(built: Built, tmp_path: Path) -> None:
    encoder = built("hf-siglip")
    folder = encoder.name.removeprefix("hf/")
    state = load_file(Path(folder) / "model.safetensors")
    save_file({key: value + 1 for key, value in state.items()}, tmp_path / "other.safetensors")
    other = create_encoder(f"{encoder.name}:{tmp_path / 'other.safetensors'}")
    assert other.fingerprint() != encoder.fingerprint()


@pytest.mark.parametrize("name", ["timm/test_vit:random", "torchvision/resnet18:random", "mini/random"])
def test_untrained_weights_warn(name: str) -> None:
    with pytest.warns(UntrainedWarning, match="untrained"):
        create_encoder(name)


def test_a_failed_download_is_one_line_and_leaves_the_hub_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(weights, "_resolves", lambda host: False)
    before = constants.HF_HUB_OFFLINE
    message = fails("hf/clipvil-tests/there-is-no-such-repository")
    assert "huggingface.co/clipvil-tests/there-is-no-such-repository" in message
    assert "local file or folder" in message
    assert before == constants.HF_HUB_OFFLINE


def test_the_way_out_is_that_of_the_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torchvision

    def no_network(*_: object, **__: object) -> None:
        print('Downloading: "https://download.pytorch.org/x.pth" to somewhere')
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", no_network)
    message = fails("torchvision/resnet18:IMAGENET1K_V1")
    assert "download.pytorch.org" in message and "name resolution" in message and "TORCH_HOME" in message
    assert "HF_HUB_OFFLINE" not in message
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(weights, "_resolves", lambda host: False)
    assert "HF_HUB_OFFLINE=1" in fails("open_clip/RN50:openai")


def test_a_folder_without_a_model_does_not_blame_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_resolves", lambda host: False)
    message = fails(f"hf/{tmp_path}")
    assert str(tmp_path) in message and "save_pretrained" in message
    assert "no network" not in message and "HF_HUB_OFFLINE" not in message


def test_the_reason_of_a_failure_is_the_deepest_one() -> None:
    try:
        try:
            raise OSError("no such host")
        except OSError as problem:
            raise RuntimeError("wrapped") from problem
    except RuntimeError as wrapped:
        assert _reason(wrapped) == "no such host"


def test_a_failed_download_is_one_error_that_says_what_to_do() -> None:
    with (
        pytest.raises(EncoderError, match="cannot get weights from there") as caught,
        downloading("weights", "there", name="x"),
    ):
        raise RuntimeError("two\nlines")
    assert "\n" not in str(caught.value) and "local file" in str(caught.value)


def test_efficientnet_loads_by_position_strictly() -> None:
    own = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    good = {"_x.weight": torch.ones(2, 3), "_x.bias": torch.ones(2)}
    assert torch.equal(by_position(good, own, where="x")["a.bias"], torch.ones(2))
    with pytest.raises(EncoderError, match="holds 1 tensors, not 2"):
        by_position({"_x.weight": torch.ones(2, 3)}, own, where="x")
    with pytest.raises(EncoderError, match=r"_x\.weight does not fit a\.weight"):
        by_position({"_x.weight": torch.ones(3, 2), "_x.bias": torch.ones(2)}, own, where="x")
    with pytest.raises(EncoderError, match="does not fit"):
        by_position({"_x.weight": torch.ones(2, 3), "_x.mean": torch.ones(2)}, own, where="x")
