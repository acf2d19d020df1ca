"""Released followers: a torch file of several networks becomes a run of the task `navigation`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from clipvil.convert import envdrop as source
from clipvil.convert import envdrop_speaker as speaker_source
from clipvil.convert.folder import convert
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.models import envdrop, envdrop_speaker
from clipvil.models.navigator import Navigator
from clipvil.text.instructions import InstructionVocabulary
from clipvil.training.run import restore
from tests.tasks.navigation_corpus import recipe

SIZES = {"hidden": 16, "word_size": 8, "action_size": 4, "angle_size": 8}


def released(path: Path, words: int = 9) -> dict[str, Tensor]:
    """Write a checkpoint in the published layout; returns our weights."""
    torch.manual_seed(0)
    model = Navigator(envdrop.build({"preset": "published", **SIZES}, words=words, visual=5), None)
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}, "critic": {}}
    for name, tensor in model.state_dict().items():
        part, _, rest = source.source_name(name).partition(".")
        parts[part][rest] = tensor
    parts["decoder"]["feat_att_layer.linear_out.weight"] = torch.zeros(16, 29)
    parts["decoder"]["candidate_att_layer.linear_out.weight"] = torch.zeros(16, 29)
    content = {part: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}} for part, state in parts.items()}
    torch.save(content, path)
    return model.state_dict()


def test_a_released_follower_becomes_a_run(tmp_path: Path) -> None:
    weights = released(tmp_path / "best.pth")
    InstructionVocabulary(["go", "north", "south", "west", "east"]).save(tmp_path / "vocab.txt")
    chosen = recipe({"format": "r2r"}).model_copy(update={"model": {"preset": "published"}})
    found = convert(tmp_path / "best.pth", "envdrop", tmp_path / "run", recipe=chosen, words=tmp_path / "vocab.txt")
    assert found.complete
    assert len(found.dropped) == 2
    for name, tensor in load_file(tmp_path / "run" / "best.safetensors").items():
        assert torch.equal(tensor, weights[name])
    task, model, _ = restore(tmp_path / "run", chosen.model_copy(update={"model": found.settings}))
    assert task.name == "navigation"
    assert isinstance(model, Navigator)


def test_wrong_vocabularies_and_checkpoints_are_refused(tmp_path: Path) -> None:
    released(tmp_path / "best.pth")
    chosen = recipe({"format": "r2r"}).model_copy(update={"model": {}})
    InstructionVocabulary(["go"]).save(tmp_path / "short.txt")
    with pytest.raises(DataError, match=r"gives 5 ids .* has 9"):
        convert(tmp_path / "best.pth", "envdrop", tmp_path / "a", recipe=chosen, words=tmp_path / "short.txt")
    with pytest.raises(UsageError, match="has no answers"):
        convert(tmp_path / "best.pth", "envdrop", tmp_path / "b", recipe=chosen, answers=tmp_path / "short.txt")
    torch.save({"encoder": {"state_dict": {"embedding.weight": torch.zeros(2, 2)}}}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="not a follower of EnvDrop"):
        convert(tmp_path / "part.pth", "envdrop", tmp_path / "c", recipe=chosen)


def test_a_released_speaker_becomes_a_run_that_knows_how_wide_its_views_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Navigator(None, envdrop_speaker.build({"preset": "published", **SIZES}, words=9, visual=5))
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in model.state_dict().items():
        part, _, rest = speaker_source.source_name(name).partition(".")
        parts[part][rest] = tensor
    parts["decoder"]["baseline_projection.0.weight"] = torch.zeros(2, 2)
    torch.save({part: {"state_dict": state} for part, state in parts.items()}, tmp_path / "best.pth")
    words = tmp_path / "vocab.txt"
    InstructionVocabulary(["go", "north", "south", "west", "east"]).save(words)
    chosen = recipe({"format": "r2r"}, task="navigation_speaker").model_copy(update={"model": {"angle_size": 8}})
    found = convert(tmp_path / "best.pth", "envdrop-speaker", tmp_path / "run", recipe=chosen, words=words)
    assert found.complete and len(found.dropped) == 1
    task, restored, _ = restore(tmp_path / "run", chosen.model_copy(update={"model": found.settings}))
    assert task.name == "navigation_speaker" and isinstance(restored, Navigator)
    assert restored.speaker is not None and restored.speaker.visual == 5
    for name, tensor in restored.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
