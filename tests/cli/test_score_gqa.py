from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from tests.datasets.build import write
from tests.datasets.test_gqa import asked

SAID = [{"questionId": "1", "prediction": "yes"}, {"questionId": "2", "prediction": "no"}]


def files(folder: Path, said: Any = SAID) -> list[str]:
    open_one = asked(types={"structural": "query", "semantic": "obj", "detailed": "x"}, groups={"global": "g"})
    write(folder / "q.json", {"1": asked(), "2": {**open_one, "entailed": [], "imageId": "n6"}})
    write(folder / "p.json", said)
    return ["score", "gqa", "--questions", str(folder / "q.json"), "--predictions", str(folder / "p.json")]


def extras(folder: Path, **changes: Any) -> list[str]:
    box = {"x": 0, "y": 0, "w": 20, "h": 50}
    scene = {"width": 20, "height": 100, "objects": {"12": box, "0": box}}
    values = {
        "choices": {key: {"valid": ["yes", "no"], "plausible": ["yes"]} for key in ("1", "2")},
        "scenes": {"n5": scene, "n6": scene},
        "attentions": [{"questionId": key, "attention": [[0.25, 0.25], [0.25, 0.25]]} for key in ("1", "2")],
        **changes,
    }
    return [f"--{name}={write(folder / f'{name}.json', value)}" for name, value in values.items()]


def test_everything_that_files_allow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main([*files(tmp_path), *extras(tmp_path), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "GQA accuracy (official)" in printed
    assert "(lower is better)" in printed
    report = json.loads(out.read_text())
    # Each of three regions (12 twice, and 0) covers half the picture.
    names = ("overall", "binary", "open", "consistency", "validity", "plausibility", "grounding", "distribution")
    assert [report[name] for name in names] == [50, 100, 0, 0, 100, 50, 150, 0.01]
    assert report["per_structural_type"] == {"query": 0, "verify": 100}
    assert report["per_semantic_type"] == {"obj": 0, "rel": 100}
    assert report["per_words"] == {"9": 50}
    assert report["per_question"] == {"1": 100, "2": 0}
    # Two pictures, one of them right: the exact limits, as there is nothing to draw again.
    assert report["interval"] == pytest.approx([1.258, 98.742], abs=1e-3)
    assert report["not_computed"] == {}


def test_without_further_files_and_lenient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [{"questionId": "1", "prediction": "Yes"}, *SAID[1:], {"questionId": "9", "prediction": "x"}]
    out = tmp_path / "out.json"
    assert main([*files(tmp_path, said), "--mode", "lenient", "--json", str(out)]) == 0
    captured = capsys.readouterr()
    assert "validity                       not computed: no choices file" in captured.out
    assert "1 predictions belong to no question of this file and were passed over" in captured.err
    report = json.loads(out.read_text())
    assert report["overall"] == 50
    assert report["predictions_passed_over"] == 1
    assert report["not_computed"].keys() == {"validity", "plausibility", "grounding"}


@pytest.mark.parametrize(
    ("said", "options", "message"),
    [
        (SAID[:1], [], "1 questions are not answered: 2"),
        ([*SAID, SAID[0]], [], "row 3, field 'questionId': question 1 was already answered in row 1"),
        ([{"questionId": "1", "prediction": 3}], [], "row 1, field 'prediction': must be a string"),
        ([{"questionId": "1"}], [], "row 1, field 'prediction': is missing"),
        (SAID, ["--mode", "kind"], "unknown mode 'kind'"),
        (SAID, ["--scenes", "x.json"], "grounding needs both --attentions and --scenes"),
        (SAID, ["--choices", "absent.json"], "absent.json: no such file"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: Any, options: list[str], message: str
) -> None:
    assert main([*files(tmp_path, said), *options]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": {"1": {"valid": []}}}, "choices.json, row 1, field 'plausible': is missing"),
        ({"choices": {"1": {"valid": "yes", "plausible": []}}}, "row 1, field 'valid': must be a list of strings"),
        ({"attentions": [{"questionId": "1", "attention": [[1, 2]]}]}, "field 'attention': must be a square map"),
        ({"attentions": [{"questionId": "1", "attention": [["x"]]}]}, "field 'attention': must be a number"),
        ({"attentions": [{"questionId": "1", "attention": [[1]]}]}, "1 questions have no attention map: 2"),
        ({"scenes": {"n5": {"width": 0, "height": 1, "objects": {}}}}, "field 'objects': has no object 12"),
        ({"scenes": {}}, "no scene graph of picture n5 (question 1)"),
    ],
)
def test_faults_of_further_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Any, message: str
) -> None:
    assert main([*files(tmp_path), *extras(tmp_path, **changes)]) == 1
    assert message in capsys.readouterr().err


def test_attention_over_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [{"questionId": key, "attention": [[0, 0, 1, 0.5, 1.0], [0, 0.5, 1, 1, 0.5]]} for key in ("1", "2")]
    out = tmp_path / "out.json"
    line = [*files(tmp_path), *extras(tmp_path, attentions=boxes), "--boxes", "--json", str(out)]
    assert main(line) == 0
    assert json.loads(out.read_text())["grounding"] == 300
    assert main([*line, "--mode", "lenient"]) == 0
    assert json.loads(out.read_text())["grounding"] == 100  # both speak of the whole scene
    capsys.readouterr()
