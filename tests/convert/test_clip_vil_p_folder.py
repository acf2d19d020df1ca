"""Released CLIP-ViL_p checkpoints through `convert`: every key accounted for, every recorded output from the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import clipvil
from clipvil.cli.main import main
from clipvil.convert.clip_vil_p_folder import load_clip_vil_p
from clipvil.convert.folder import convert
from clipvil.convert.registry import list_sources
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, ClipvilError, DataError, UsageError
from clipvil.images.resize import policy
from clipvil.models.grid_trunk import GridTrunk
from clipvil.models.picture_model import PictureModel
from clipvil.records import Question
from clipvil.tasks.base import InitialRun, continue_from
from clipvil.tasks.pretraining_losses import counted_terms
from clipvil.tasks.registry import create_task
from clipvil.tasks.vqa import answer_loss
from clipvil.text.answer_table import normalised
from clipvil.training.inputs import load_datasets
from clipvil.training.pictures import open_picture
from clipvil.training.recipe import Recipe
from clipvil.training.run import restore
from clipvil.training.run_files import read_recipe
from tests.models.recorded_clip_vil_p import FOLDER, PIXELS, PRETRAIN_CASES, case, recorded
from tests.shared import shared
from tests.training.conftest import mini_recipe

Answers = {"pretrain": 17, "vqa": 11}


def recipe(task: str) -> Recipe:
    return Recipe.from_values(
        {"task": task, "model": {"heads": 4}, "encoder": {"resize": "clipvil-pretrain:short=96,long=160"}}
    )


def files(folder: Path, which: str, first: str = "") -> tuple[Path, Path]:
    """The vocabulary, and a table of answers in the layout that goes with the checkpoint."""
    answers = folder / "answers.json"
    if which == "pretrain":
        table = json.loads(shared("fixtures", FOLDER, "answers.json").read_text())["all_ans"]
    else:
        table = [first, *(f"answer {number}" for number in range(Answers["vqa"] - 1))]
    answers.write_text(json.dumps(table))
    return shared("fixtures", FOLDER, "vocab.txt"), answers


def convert_recorded(
    folder: Path,
    which: str,
    change: Callable[[dict[str, Tensor]], object] = lambda state: None,
    task: str = "",
    **more: str,
) -> Path:
    """`EpochNN_LXRT.pth` or `BEST.pth` as the original saves them, converted into `folder`/run."""
    state = dict(recorded(f"{which}_state"))
    change(state)
    name = "Epoch09_LXRT.pth" if which == "pretrain" else "BEST.pth"
    torch.save(state, folder / name)
    words, answers = files(folder, which, **more)
    chosen = recipe(task or ("vqa" if which == "vqa" else "pretraining"))
    convert(folder / name, "clip-vil-p", folder / "run", recipe=chosen, words=words, answers=answers)
    return folder / "run"


def test_a_pretrained_folder_gives_every_recorded_output(tmp_path: Path) -> None:
    out = convert_recorded(tmp_path, "pretrain")
    model, encoder, words = load_clip_vil_p(out)
    assert words is not None and len(words) == 200
    whole = PictureModel(GridTrunk(encoder), model, encoder.preprocess).eval()
    for name in PRETRAIN_CASES:
        given = case("pretrain_cases", name)
        with torch.no_grad():
            found = model(
                given["input_ids"],
                given["attention_mask"],
                *whole.grids(recorded("pixels")[PIXELS.get(name, name)]),
                segments=given["segment_ids"],
                chosen=given.get("sampled_index"),
            )
        for ours, theirs in (
            (found.sequence, "sequence_output"), (found.pooled, "pooled_output"), (found.mlm, "mlm_logits"),
            (found.itm, "matching_logits"), (found.answers, "qa_logits"),
        ):  # fmt: skip
            assert ours is not None and torch.allclose(ours, given[theirs], rtol=1e-5, atol=2e-5), (name, theirs)
        terms = counted_terms(
            {
                "mlm": (found.mlm, given["mlm_labels"]),
                "itm": (found.itm, given["matching_labels"]),
                "qa": (found.logits, given["qa_labels"]),
            }
        )
        assert terms.value().item() == pytest.approx(given["loss_total"].item(), rel=1e-5)


def test_a_fine_tuned_folder_answers_as_recorded(tmp_path: Path) -> None:
    out = convert_recorded(tmp_path, "vqa")
    model, encoder, words = load_clip_vil_p(out)
    whole = PictureModel(GridTrunk(encoder), model, encoder.preprocess).eval()
    sentences = json.loads(shared("fixtures", FOLDER, "manifest.json").read_text())["cases"]["vqa"]
    for name in ("landscape", "portrait"):
        given = case("vqa_cases", name)
        assert words is not None
        tokens, mask = words.encode_batch(sentences[name]["sentences"])
        assert torch.equal(tokens, given["input_ids"]) and torch.equal(mask.long(), given["attention_mask"])
        with torch.no_grad():
            found = model(tokens, mask, *whole.grids(recorded("pixels")[name]))
        assert torch.allclose(found.logits, given["logits"], atol=2e-5)
        loss = answer_loss(found.logits, given["soft_targets"], 500.0)
        assert loss.item() == pytest.approx(given["loss_bce_times_500"].item(), rel=1e-5)


def test_every_key_is_accounted_for(tmp_path: Path) -> None:
    for which, layout, heads in (
        ("pretrain", "pre-trained", ["mlm", "itm", "answers"]),
        ("vqa", "fine-tuned", ["answers"]),
    ):
        folder = tmp_path / which
        folder.mkdir()
        report = json.loads((convert_recorded(folder, which) / "conversion.json").read_text())
        assert report["complete"] and (report["layout"], report["heads"]) == (layout, heads)
        keys = {key.removeprefix("module.") for key in recorded(f"{which}_state")}
        assert keys == set(report["used"]) | set(report["dropped"])
        assert report["encoder"] == "ModifiedResNet of width 4, blocks (1, 1, 2, 2)"
        assert report["prefix"] == "module." and report["channels"] == 128 and report["words"] == 200
        reasons = " ".join(report["dropped"].values())
        assert "attention pooling" in reasons and "text tower" in reasons and "boxes" in reasons
        assert all("attnpool" in key for key, why in report["dropped"].items() if "attention pooling" in why)


def test_the_folder_is_asked_as_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command, then clipvil.load: the answer to a picture is that of the recorded pipeline."""
    torch.save(recorded("vqa_state"), tmp_path / "BEST.pth")
    words, answers = files(tmp_path, "vqa")
    data = mini_recipe(tmp_path)
    values = {"data": data.data, "model": {"heads": 4}, "features": {"dtype": "float32"}}
    values["encoder"] = {"resize": "clipvil-pretrain:short=96,long=160"}
    (tmp_path / "r.yaml").write_text(Recipe.from_values(values).to_yaml())
    out = tmp_path / "run"
    given = ["--words", str(words), "--answers", str(answers), "--recipe", str(tmp_path / "r.yaml"), "--out", str(out)]
    assert main(["convert", str(tmp_path / "BEST.pth"), "--from", "clip-vil-p", *given]) == 0
    assert "CLIP's text tower" in capsys.readouterr().out

    record = load_datasets(data.data, ("test",))["test"]
    picture = record.pictures[record.records[0].image_id]
    said = dict(clipvil.load(out).answer(picture, "what color is the cat?", top=10))
    model, encoder, pieces = load_clip_vil_p(out)
    whole = PictureModel(GridTrunk(encoder), model, encoder.preprocess).eval()
    resized = policy("clipvil-pretrain:short=96,long=160").apply(open_picture(picture), encoder.preprocess, 32)
    assert pieces is not None
    with torch.no_grad():
        grids = whole.grids(resized.pixels[None])
        logits = model(*pieces.encode_batch(["what color is the cat?"]), *grids).logits
    expected = logits[0, 1:].softmax(dim=0)  # the empty answer, first of the published table, is never given
    assert len(said) == 10
    for place, share in enumerate(expected.tolist()):
        assert said[f"answer {place}"] == pytest.approx(share, abs=1e-5)
    assert main(["evaluate", str(out), "--split", "test", "--quiet"]) == 0
    assert len((out / "predictions_test.jsonl").read_text().splitlines()) == len(record.records)


def test_a_table_that_begins_with_an_answer_keeps_it(tmp_path: Path) -> None:
    """GQA's table has no empty answer: a row that is never given is put in front."""
    out = convert_recorded(tmp_path, "vqa", first="yes")
    model, encoder, _ = load_clip_vil_p(out)
    whole = PictureModel(GridTrunk(encoder), model, encoder.preprocess).eval()
    given = case("vqa_cases", "landscape")
    with torch.no_grad():
        grids = whole.grids(recorded("pixels")["landscape"])
        logits = model(given["input_ids"], given["attention_mask"], *grids).logits
    assert torch.allclose(logits[:, 1:], given["logits"], atol=2e-5)
    assert json.loads((out / "assets.json").read_text())["task"]["answers"]["answers"][0] == "yes"


def test_a_pretrained_checkpoint_can_answer(tmp_path: Path) -> None:
    out = convert_recorded(tmp_path, "pretrain", task="vqa")
    report = json.loads((out / "conversion.json").read_text())
    assert report["heads"] == ["answers"]
    assert "has not" in report["dropped"]["cls.seq_relationship.weight"]
    picture = shared("fixtures", FOLDER, "images", "full_input.png")
    assert clipvil.load(out).answer(picture, "what is it?", top=1)[0][0]


def test_stage_one_has_no_answer_head(tmp_path: Path) -> None:
    def drop(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if "answer_head" in key]:
            del state[key]

    with pytest.raises(CheckpointError, match="no answer head"):
        convert_recorded(tmp_path, "pretrain", drop, task="vqa")
    state = dict(recorded("pretrain_state"))
    drop(state)
    torch.save(state, tmp_path / "one.pth")
    convert(tmp_path / "one.pth", "clip-vil-p", tmp_path / "one", recipe=recipe("pretraining"),
            words=shared("fixtures", FOLDER, "vocab.txt"))  # fmt: skip
    model, _, _ = load_clip_vil_p(tmp_path / "one")
    assert set(model.heads) == {"mlm", "itm"}


BODY = "module.bert."
VISUAL = BODY + "encoder.visual_model.visual."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(BODY + "pooler.dense.bias"), "bert.pooler.dense.bias is missing"),
        (lambda s: s.pop(VISUAL + "layer3.1.bn2.weight"), "layer3.1.bn2.weight is missing"),
        (lambda s: s.update({"module.cls.surprise.weight": torch.ones(2)}), "has not: cls.surprise.weight"),
        (lambda s: s.update({VISUAL + "layer9.0.conv1.weight": torch.ones(2)}), "layer9.0.conv1.weight"),
        (lambda s: s.update({VISUAL + "layer2.0.conv2.weight": torch.ones(2)}), r"conv2.weight is torch.* \(2,\)"),
        (lambda s: s.update({BODY + "pooler.dense.bias": torch.full((48,), torch.nan)}), "not finite"),
        (lambda s: s.update({VISUAL + "conv1.weight": torch.full((2, 3, 3, 3), torch.inf)}), "not finite"),
        (lambda s: s.update({"module.cls.predictions.decoder.weight": torch.ones(200, 48)}), "differs from the word"),
        (lambda s: s.pop(BODY + "embeddings.word_embeddings.weight"), "not a CLIP-ViL_p checkpoint"),
        (lambda s: s.pop(VISUAL + "conv3.weight"), "no ResNet of CLIP"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert_recorded(tmp_path, "pretrain", change)
    assert not (tmp_path / "run" / "recipe.yaml").exists() and not (tmp_path / "run" / "best.safetensors").exists()


def test_vocabularies_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(recorded("vqa_state"), tmp_path / "BEST.pth")
    words, answers = files(tmp_path, "vqa")
    short = tmp_path / "short.txt"
    short.write_text("\n".join(words.read_text().splitlines()[:-1]))
    few = tmp_path / "few.json"
    few.write_text(json.dumps(["", "yes"]))
    cases: list[tuple[dict[str, Path], type[ClipvilError], str]] = [
        ({"words": short, "answers": answers}, DataError, "199 pieces, the checkpoint's word table has 200"),
        ({"words": words, "answers": few}, DataError, "gives 2 answers, the checkpoint has 11"),
        ({"words": words}, UsageError, "give both"),
        ({"words": words, "answers": short.with_name("none.json")}, DataError, "cannot read the answers"),
    ]
    for number, (given, kind, message) in enumerate(cases):
        with pytest.raises(kind, match=message):
            convert(tmp_path / "BEST.pth", "clip-vil-p", tmp_path / f"run{number}", recipe=recipe("vqa"), **given)  # type: ignore[arg-type]


def test_weights_alone_are_told_so(tmp_path: Path) -> None:
    torch.save(recorded("vqa_state"), tmp_path / "BEST.pth")
    convert(tmp_path / "BEST.pth", "clip-vil-p", tmp_path / "run", recipe=recipe("vqa"))
    assert load_clip_vil_p(tmp_path / "run")[2] is None
    with pytest.raises(CheckpointError, match="converted without vocabularies"):
        clipvil.load(tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already"):
        convert(tmp_path / "BEST.pth", "clip-vil-p", tmp_path / "run", recipe=recipe("vqa"))
    assert "clip-vil-p" in list_sources()


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("pretrain-rn50x4-stage-two", "pretrain"), ("pretrain-rn50-stage-one", "one"), ("vqa-rn50", "vqa"),
        ("vqa-rn50x4", "pretrain"), ("gqa-rn50", "vqa"),
    ],
)  # fmt: skip
def test_what_a_published_recipe_converts_can_be_opened(tmp_path: Path, name: str, which: str) -> None:
    chosen = Recipe.from_file(f"paper/clip_vil_p/{name}", ["model.heads=4"])
    assert chosen.features.source == "pictures"
    state = dict(recorded("vqa_state" if which == "vqa" else "pretrain_state"))
    if which == "one":
        state = {key: value for key, value in state.items() if "answer_head" not in key}
    torch.save(state, tmp_path / "a.pth")
    words, answers = files(tmp_path, "vqa" if which == "vqa" else "pretrain")
    out = tmp_path / "run"
    convert(
        tmp_path / "a.pth", "clip-vil-p", out, recipe=chosen, words=words, answers=None if which == "one" else answers
    )
    task, model, _ = restore(out, read_recipe(out))
    assert task.name == chosen.task and "trunk" not in dict(model.named_children())
    assert read_recipe(out).encoder.name == f"open_clip/local-dir:{out / 'encoder'}"


def test_published_recipes_name_the_encoder_of_a_converted_folder() -> None:
    folder = Path(clipvil.__file__).parent / "recipes" / "paper" / "clip_vil_p"
    tuned = [path for path in sorted(folder.glob("*.yaml")) if not path.name.startswith("pretrain")]
    assert len(tuned) == 6
    for path in tuned:
        assert "\n# encoder.name=open_clip/local-dir:FOLDER/encoder." in path.read_text(encoding="utf-8"), path.name


def test_what_could_not_be_opened_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    cases: list[tuple[str, str, dict[str, object], str]] = [
        ("visual_entailment", "pretrain", {}, "for the tasks pretraining and vqa, the recipe for .* visual_entailment"),
        ("captioning", "vqa", {}, "for the tasks pretraining and vqa"),
        ("pretraining", "vqa", {}, "fine-tuned, without the heads of pre-training"),
        ("vqa", "vqa", {"top_answer": 3}, "top_answer"),
    ]
    for task, which, settings, message in cases:
        torch.save(recorded(f"{which}_state"), tmp_path / "a.pth")
        words, answers = files(tmp_path, which)
        chosen = recipe(task).model_copy(update={"task_settings": settings})
        with pytest.raises(ClipvilError, match=message):
            convert(tmp_path / "a.pth", "clip-vil-p", tmp_path / "run", recipe=chosen, words=words, answers=answers)
        assert not (tmp_path / "run").exists()


def test_a_pretrained_folder_is_a_run_to_start_from(tmp_path: Path) -> None:
    out = convert_recorded(tmp_path, "pretrain")
    task, before, assets = restore(out, read_recipe(out))
    assert task.name == "pretraining" and task.settings.objectives == ["mlm", "itm", "qa"]  # type: ignore[attr-defined]
    recipe = read_recipe(out)
    initial = InitialRun("pretraining", assets["task"], recipe.to_values(), out / "best.safetensors")
    table = [item["ans"] for item in assets["task"]["answers"]]
    said = next(answer for answer in table if normalised(answer) == answer)
    asked = [Question(str(n), str(n), "what is it?", (answer,)) for n, answer in enumerate([said, "none of them"])]
    tuned = create_task("vqa", {"tokenizer": "wordpiece", "max_tokens": 20, "mode": "exact"})
    continue_from(tuned, initial, asked)
    model = tuned.build({"name": "clip_vil_p", **recipe.model}, EncoderSpec(**assets["encoder"]))
    report = tuned.adopt(model, initial)  # type: ignore[attr-defined]
    assert report["answers"] == {"found": 1, "of": 3, "missing": ["<unk>", "none of them"]}
    row = list(tuned.head_answers()).index(said)  # type: ignore[attr-defined]
    old, new = before.state_dict(), model.state_dict()
    assert torch.equal(new["heads.answers.out.weight"][row], old["heads.answers.out.weight"][table.index(said)])
    assert torch.equal(new["body.pooler.weight"], old["body.pooler.weight"])
