from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipvil.convert.checkpoint_file import read_checkpoint
from clipvil.errors import CheckpointError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2)}


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
@pytest.mark.parametrize("wrapper", ["", "model", "state_dict"])
def test_wrappers_and_prefixes_are_taken_off_and_told(tmp_path: Path, wrapper: str, prefix: str) -> None:
    state = {prefix + key: value for key, value in STATE.items()}
    path = tmp_path / "model.pth"
    torch.save({wrapper: state, "best_iteration": 7} if wrapper else state, path)
    found = read_checkpoint(path)
    assert found.tensors.keys() == STATE.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in STATE.items())
    assert (found.wrapper, found.prefix) == (wrapper, prefix)
    assert found.beside == (("best_iteration",) if wrapper else ())


def test_safetensors_and_the_torch_format_of_old(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "m.safetensors")
    torch.save(STATE, tmp_path / "m.ckpt", _use_new_zipfile_serialization=False)
    for name in ("m.safetensors", "m.ckpt"):
        assert torch.equal(read_checkpoint(tmp_path / name).tensors["a.weight"], STATE["a.weight"])


class Trap:
    ran = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (setattr, (Trap, "ran", True))


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "trap.pth"
    torch.save({"model": STATE, "config": Trap()}, path)
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not Trap.ran


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damage_is_one_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is None:  # a download that broke off
        if name == "m.pth":
            torch.save(STATE, path)
        else:
            save_file(STATE, path)
        content = path.read_bytes()[:-40]
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("it is damaged, or no torch file" if name == "m.pth" else "not a whole safetensors") in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3}, "holds no state dict .'epoch' is no tensor"),
        ({}, "it is empty"),
        ([torch.ones(1)], "but a list"),
        ({"model": {3: torch.ones(1)}}, "'3' is no tensor"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, value: object, message: str) -> None:
    torch.save(value, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pth")
