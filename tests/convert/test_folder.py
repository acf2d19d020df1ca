from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import clipvil
from clipvil.cli.main import main
from clipvil.convert.base import translate
from clipvil.convert.folder import convert
from clipvil.convert.registry import source
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.training.inputs import load_datasets
from clipvil.training.recipe import Recipe
from tests.convert.released import ANSWERS, released, text_files
from tests.training.conftest import mini_recipe


@pytest.mark.parametrize("name", ["mmf-movie-mcan", "mmf-pythia"])
def test_a_released_checkpoint_answers_questions(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From a state dict in MMF's names to answers about pictures: predict, evaluate, submit-ready predictions."""
    state = released(name)
    torch.save({"model": {f"model.{key}": value for key, value in state.items()}, "epoch": 3}, tmp_path / "m.pth")
    words, answers = text_files(tmp_path)
    recipe = mini_recipe(tmp_path).model_copy(update={"model": {"heads": 4} if "mcan" in name else {}})
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    out = tmp_path / "run"
    files = ["--words", str(words), "--answers", str(answers), "--out", str(out)]
    assert main(["convert", str(tmp_path / "m.pth"), "--from", name, "--recipe", str(tmp_path / "r.yaml"), *files]) == 0
    told = capsys.readouterr().out
    assert "used" in told and ("heads 4" if "mcan" in name else "text_mask published") in told
    report = json.loads((out / "conversion.json").read_text())
    assert report["complete"]
    assert (report["wrapper"], report["prefix"], report["beside the state dict, dropped"]) == (
        "model",
        "model.",
        ["epoch"],
    )
    assert len(report["used"]) + len(report["dropped"]) == len(state)

    data = load_datasets(recipe.data, ("test",))["test"]
    record = data.records[0]
    predictor = clipvil.load(out)
    said = predictor.answer(data.pictures[record.image_id], record.question)
    assert {answer for answer, _ in said} <= set(ANSWERS)
    assert sum(share for _, share in said) == pytest.approx(1, abs=1e-4)
    assert main(["evaluate", str(out), "--split", "test", "--quiet"]) == 0
    lines = [json.loads(line) for line in (out / "predictions_test.jsonl").read_text().splitlines()]
    assert len(lines) == len(data.records)
    assert lines[0]["output"] == said[0][0]
    assert lines[0]["confidence"] == pytest.approx(said[0][1], abs=2e-3)
    assert main(["predict", str(out), "--image", str(data.pictures[record.image_id]), "--text", "how many?"]) == 0


def test_the_answer_is_that_of_the_weights(tmp_path: Path) -> None:
    """Not only some answer: the folder's network gives the logits of the state dict's own network."""
    save_file(released("mmf-movie-mcan"), tmp_path / "m.safetensors")
    words, answers = text_files(tmp_path)
    recipe = mini_recipe(tmp_path).model_copy(update={"model": {"name": "movie_mcan", "heads": 4}})
    convert(tmp_path / "m.safetensors", "mmf-movie-mcan", tmp_path / "run", recipe=recipe, words=words, answers=answers)
    from clipvil.convert.mmf_movie_mcan import from_mmf

    own = clipvil.load(tmp_path / "run").model
    model = from_mmf(released("mmf-movie-mcan"), heads=4).eval()
    batch = (torch.tensor([[4, 5, 6]]), torch.tensor([3]), torch.rand(1, 16, 512), None, torch.tensor([[4, 4]]))
    torch.testing.assert_close(own(*batch).logits, model(*batch).logits)


def test_without_vocabularies_the_folder_says_what_it_lacks(tmp_path: Path) -> None:
    save_file(released("mmf-pythia"), tmp_path / "m.safetensors")
    recipe = mini_recipe(tmp_path)
    convert(tmp_path / "m.safetensors", "mmf-pythia", tmp_path / "run", recipe=recipe)
    with pytest.raises(CheckpointError, match="convert again with --words and --answers"):
        clipvil.load(tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already"):
        convert(tmp_path / "m.safetensors", "mmf-pythia", tmp_path / "run", recipe=recipe)


def test_a_checkpoint_that_does_not_fit_leaves_its_account_and_nothing_else(tmp_path: Path) -> None:
    state = released("mmf-pythia")
    del state["classifier.module.linear_text.bias"]
    save_file({**state, "extra": torch.ones(1)}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"linear_text\.bias is missing .*all keys are in .*conversion\.json"):
        convert(tmp_path / "m.safetensors", "mmf-pythia", tmp_path / "run", recipe=mini_recipe(tmp_path))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["conversion.json"]
    report = json.loads((tmp_path / "run" / "conversion.json").read_text())
    assert not report["complete"]
    assert report["unknown"] == ["extra"]
    assert list(report["missing"]) == ["classifier.module.linear_text.bias"]


def test_a_checkpoint_of_another_kind_is_named_with_its_file(tmp_path: Path) -> None:
    save_file(released("mmf-pythia"), tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"m\.safetensors: not a MoVie\+MCAN checkpoint of MMF"):
        convert(tmp_path / "m.safetensors", "mmf-movie-mcan", tmp_path / "run", recipe=mini_recipe(tmp_path))
    assert not (tmp_path / "run").exists()


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    save_file(released("mmf-pythia"), tmp_path / "m.safetensors")
    words, answers = text_files(tmp_path)

    def attempt(**files: Path) -> None:
        given = {"words": words, "answers": answers, **files}
        convert(tmp_path / "m.safetensors", "mmf-pythia", tmp_path / "run", recipe=mini_recipe(tmp_path), **given)

    short = tmp_path / "short.txt"
    short.write_text("what\nis\n")
    with pytest.raises(DataError, match=r"gives 6 rows with the four special ones, .* has 13"):
        attempt(words=short)
    turned = tmp_path / "turned.txt"
    turned.write_text("\n".join((*ANSWERS, "<unk>")))
    with pytest.raises(DataError, match="6 classes beginning with 'yes'; the checkpoint has 6, the first"):
        attempt(answers=turned)
    with pytest.raises(UsageError, match="both --words and --answers"):
        convert(tmp_path / "m.safetensors", "mmf-pythia", tmp_path / "x", recipe=mini_recipe(tmp_path), words=words)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_another_depth_is_refused(tmp_path: Path) -> None:
    save_file(released("mmf-pythia", channels=12), tmp_path / "m.safetensors")
    words, answers = text_files(tmp_path)
    convert(
        tmp_path / "m.safetensors",
        "mmf-pythia",
        tmp_path / "run",
        recipe=mini_recipe(tmp_path),
        words=words,
        answers=answers,
    )
    with pytest.raises(CheckpointError, match="trained on grids of 12 channels, those here have 512"):
        clipvil.load(tmp_path / "run").answer(np.zeros((64, 64, 3), np.uint8), "what is it?")


def test_options_of_another_model_are_not_taken_over(tmp_path: Path) -> None:
    # A Pythia recipe names the encoder and the data; its model section is no business of MoVie+MCAN.
    save_file(released("mmf-movie-mcan"), tmp_path / "m.safetensors")
    recipe = mini_recipe(tmp_path)
    assert recipe.model["name"] == "pythia"
    convert(tmp_path / "m.safetensors", "mmf-movie-mcan", tmp_path / "run", recipe=recipe)
    settings = Recipe.from_file(tmp_path / "run" / "recipe.yaml").model
    assert settings["name"] == "movie_mcan"
    assert settings["preset"] == "published"
    assert translate(source("mmf-movie-mcan"), released("mmf-movie-mcan")).settings == settings
