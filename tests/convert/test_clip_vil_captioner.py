from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipvil.cli.main import main
from clipvil.convert.clip_vil_captioner import from_clip_vil, source_name
from clipvil.convert.folder import convert
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.records import CaptionedImage
from clipvil.training.recipe import Recipe
from clipvil.training.run import restore
from tests.convert.released import WORDS, released, text_files, word_file
from tests.shared import shared
from tests.training.conftest import mini_recipe


def recipe(folder: Path, **task_settings: object) -> Recipe:
    """A recipe of the task captioning; its model section says what no shape tells."""
    change = {"task": "captioning", "task_settings": task_settings, "model": {"heads": 4}}
    return mini_recipe(folder).model_copy(update=change)


def test_the_recorded_checkpoint_becomes_a_run_that_captions_as_recorded(tmp_path: Path) -> None:
    """From a torch file with the fixed table in it and the published vocabulary to the recorded sentences."""
    folder = shared("fixtures", "captioner")
    state = load_file(folder / "model.safetensors")
    # The published file holds the table of 5,000 places, which is no weight.
    torch.save({**state, "model.tgt_embed.1.pe": torch.zeros(1, 5000, 32)}, tmp_path / "model.pth")
    text = json.loads((folder / "text.json").read_text(encoding="utf-8"))
    words = tmp_path / "cocotalk.json"
    words.write_text(json.dumps({"ix_to_word": text["index_to_word"], "images": []}), encoding="utf-8")
    chosen = recipe(tmp_path, decode_max_length=12)
    found = convert(tmp_path / "model.pth", "clip-vil-captioner", tmp_path / "run", recipe=chosen, words=words)
    assert found.dropped == {"model.tgt_embed.1.pe": "the fixed table of positions, which is worked out"}
    assert len(found.used) == len(state)
    assert found.assumed == {"heads": 4, "dropout": 0.1, "cell_dropout": 0.5}

    io = load_file(folder / "io.safetensors")
    mask = io["att_masks"].bool()
    batch = {"cells": io["att_feats"], "mask": mask, "shapes": torch.tensor([[1, 14]] * 5)}
    pictures = [CaptionedImage(str(i), ()) for i in range(5)]
    for beams, wanted in ((1, text["greedy_text"]), (5, text["beam5_text"])):
        written = Recipe.from_file(tmp_path / "run" / "recipe.yaml", [f"task_settings.beams={beams}"])
        assert written.task == "captioning"
        task, model, _ = restore(tmp_path / "run", written)
        said = task.predict(model.eval(), batch, pictures)
        assert [prediction.output for prediction in said] == wanted
    # Confidence: the geometric mean of the probabilities of the tokens.
    logs = io["beam5_token_logprobs"]
    for prediction, own in zip(said, logs, strict=True):
        assert prediction.confidence == pytest.approx(own[own != 0].mean().exp().item(), abs=1e-4)


def test_a_released_checkpoint_captions_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands: convert, then caption, from picture files through the recipe's own encoder."""
    from PIL import Image

    torch.save(released("clip-vil-captioner"), tmp_path / "model.pth")
    (tmp_path / "r.yaml").write_text(recipe(tmp_path).to_yaml())
    run, files = tmp_path / "run", ["--words", str(word_file(tmp_path)), "--recipe", str(tmp_path / "r.yaml")]
    command = ["convert", str(tmp_path / "model.pth"), "--from", "clip-vil-captioner", *files, "--out", str(run)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "1 dropped: the fixed table of positions" in told and "heads 4" in told and "weights only" not in told
    (tmp_path / "pictures").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (48, 40), colour).save(tmp_path / "pictures" / f"{name}.png")
    assert main(["caption", str(tmp_path / "pictures"), str(run), "--out", str(tmp_path / "said"), "--quiet"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "said" / "captions.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    said = {word for line in lines for word in line["caption"].split()}
    assert said and said <= {*WORDS, "UNK"}


def test_without_a_vocabulary_the_folder_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(released("clip-vil-captioner"), tmp_path / "m.safetensors")
    (tmp_path / "r.yaml").write_text(recipe(tmp_path).to_yaml())
    out = ["--recipe", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")]
    assert main(["convert", str(tmp_path / "m.safetensors"), "--from", "clip-vil-captioner", *out]) == 0
    assert "weights only: convert again with --words to use it" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"converted without vocabularies; convert again with --words$"):
        restore(tmp_path / "run", Recipe.from_file(tmp_path / "run" / "recipe.yaml"))


def test_other_vocabularies_and_recipes_are_refused(tmp_path: Path) -> None:
    save_file(released("clip-vil-captioner"), tmp_path / "m.safetensors")
    words, (text, answers) = word_file(tmp_path), text_files(tmp_path)

    def attempt(chosen: Recipe | None = None, **files: Path) -> None:
        given = {"words": words, **files}
        convert(
            tmp_path / "m.safetensors",
            "clip-vil-captioner",
            tmp_path / "run",
            recipe=chosen or recipe(tmp_path),
            **given,
        )

    short = tmp_path / "short.json"
    short.write_text(json.dumps({"ix_to_word": {"1": "a", "2": "UNK"}}))
    with pytest.raises(DataError, match=r"gives 3 rows with that of start and end, .* has 11"):
        attempt(words=short)
    with pytest.raises(DataError, match="cannot read the vocabulary"):
        attempt(words=text)
    with pytest.raises(UsageError, match="a captioner has no answers; leave out --answers"):
        attempt(answers=answers)
    with pytest.raises(UsageError, match="for the task captioning, the recipe for the task vqa"):
        attempt(mini_recipe(tmp_path))
    assert not (tmp_path / "run").exists()


def test_another_kind_of_captioner_is_refused() -> None:
    state = released("clip-vil-captioner")
    with pytest.raises(CheckpointError, match=r"does not fit: holds what such a model has not: core\.lstm"):
        from_clip_vil({**state, "core.lstm.weight": torch.zeros(1)}, heads=4)
    state.pop(source_name("decoder.1.picture.key.bias"))
    with pytest.raises(CheckpointError, match=r"decoder\.layers\.1\.src_attn\.linears\.1\.bias is missing"):
        from_clip_vil(state, heads=4)
    with pytest.raises(CheckpointError, match="not a captioner checkpoint of CLIP-ViL: no tensor"):
        from_clip_vil(released("mmf-pythia"))
    with pytest.raises(KeyError):
        source_name("cells.positions.weight")


def test_the_heads_matter_though_no_shape_tells_them() -> None:
    state, rows = released("clip-vil-captioner", channels=6), torch.tensor([[0, 3, 4]])
    cells = torch.randn(1, 5, 6)
    four, two = (from_clip_vil(state, heads=heads).eval()(cells, rows) for heads in (4, 2))
    assert not torch.allclose(four, two, atol=1e-3)
