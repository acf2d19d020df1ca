from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from tests.datasets.build import write
from tests.shared import shared

GIVEN = {"1": ["A dog runs.", "The dog is running"], "2": ["Two cats on a mat."], "3": ["A red bus", "A bus on a road"]}
SAID = {"1": "a dog runs", "2": "a cat", "3": "A red bus on a road."}


def coco(given: dict[str, list[str]] = GIVEN) -> dict[str, Any]:
    rows = [{"image_id": int(i), "caption": text} for i, texts in given.items() for text in texts]
    return {
        "images": [{"id": int(i), "file_name": f"{i}.jpg"} for i in given],
        "annotations": [{"id": n, **row} for n, row in enumerate(rows)],
    }


def results(said: dict[str, str] = SAID) -> list[dict[str, Any]]:
    return [{"image_id": int(i), "caption": text} for i, text in said.items()]


def run(folder: Path, given: Any, said: Any, *extra: str, names: tuple[str, str] = ("r.json", "p.json")) -> int:
    references, predictions = write(folder / names[0], given), write(folder / names[1], said)
    line = ["score", "captions", "--references", str(references), "--predictions", str(predictions)]
    return main([*line, "--json", str(folder / "out.json"), *extra])


def report(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return value


def test_the_recorded_pipeline_through_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    want = json.loads(shared("fixtures", "caption_metrics", "pipeline.json").read_text(encoding="utf-8"))
    given = {str(i + 1): texts for i, texts in enumerate(want["raw_references"])}
    said = {str(i + 1): text for i, text in enumerate(want["raw_hypotheses"])}
    assert run(tmp_path, coco(given), results(said)) == 0
    out = report(tmp_path)
    names = {"BLEU-1": "bleu1", "BLEU-4": "bleu4", "ROUGE-L": "rouge_l", "CIDEr-D": "cider_d", "CIDEr": "cider_plain"}
    for name, key in names.items():
        assert out["corpus"][name] == pytest.approx(want["corpus"][key], abs=1e-9)
        each = [out["per_image"][image][name] for image in given]
        assert each == pytest.approx(want["per_image"][key], abs=1e-9)
    assert (out["n"], out["notes"], out["tokenizer"]) == (40, [], "official")
    shown = capsys.readouterr().out
    assert "captions (40 pictures)" in shown
    assert "137.74" in shown


def test_all_kinds_of_files_give_the_same(tmp_path: Path) -> None:
    assert run(tmp_path, coco(), results()) == 0
    want = report(tmp_path)
    rows = [(i, text) for i, texts in GIVEN.items() for text in texts]
    table = "image_id,caption\n" + "".join(f'{i},"{text}"\n' for i, text in rows)
    lines = "".join(json.dumps({"image": i, "captions": texts}) + "\n" for i, texts in GIVEN.items())
    tokens = "".join(f"{i}#{n}\t{text}\n" for i, texts in GIVEN.items() for n, text in enumerate(texts))
    sentences = {i: [{"tokens": [], "raw": text} for text in texts] for i, texts in GIVEN.items()}
    pictures = [{"filename": i, "cocoid": int(i), "split": "test", "sentences": s} for i, s in sentences.items()]
    for name, given in (
        ("r.json", GIVEN),
        ("r.json", {i: [{"caption": text} for text in texts] for i, texts in GIVEN.items()}),
        ("r.json", {"annotations": coco()["annotations"]}),
        ("r.json", [{"image_id": i, "caption": text} for i, text in rows]),
        ("r.json", {"images": pictures}),
        ("r.csv", table),
        ("r.jsonl", lines),
        ("r.token", tokens),
    ):
        assert run(tmp_path, given, SAID, names=(name, "p.json")) == 0, name
        assert report(tmp_path) == want, name
    said_table = "image_id,caption\n" + "".join(f"{i},{text}\n" for i, text in SAID.items())
    said_lines = "".join(json.dumps({"record_id": i, "image_id": i, "output": text}) + "\n" for i, text in SAID.items())
    for name, said in (("p.json", {i: [t] for i, t in SAID.items()}), ("p.csv", said_table), ("p.jsonl", said_lines)):
        assert run(tmp_path, GIVEN, said, names=("r.json", name)) == 0, name
        assert report(tmp_path) == want, name


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\u2028"])
def test_a_line_break_is_named_and_touches_no_other_caption(
    tmp_path: Path, separator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, GIVEN, {**SAID, "2": "a cat on a mat"}) == 0
    want = report(tmp_path)
    assert run(tmp_path, GIVEN, {**SAID, "2": f"a cat{separator}on a mat"}) == 0
    assert "note: 1 captions hold a line break, which counts as a blank: 2\n" in capsys.readouterr().err
    assert report(tmp_path)["per_image"] == want["per_image"]
    torn = {**GIVEN, "2": [f"Two cats{separator}on a mat."]}
    assert run(tmp_path, torn, {**SAID, "2": "a cat on a mat"}) == 0
    assert report(tmp_path)["corpus"] == want["corpus"]
    assert report(tmp_path)["notes"] == ["1 pictures have a reference with a line break, which counts as a blank: 2"]


def test_an_empty_caption_scores_nothing_and_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, GIVEN, {**SAID, "2": " "}) == 0
    out = report(tmp_path)
    assert out["notes"] == ["1 captions are empty and score 0: 2"]
    assert set(out["per_image"]["2"].values()) == {0.0}
    table = "image_id,caption\n1,a dog runs\n2,\n3,A red bus on a road.\n"
    assert run(tmp_path, GIVEN, table, names=("r.json", "p.csv")) == 0
    assert report(tmp_path) == out


def test_missing_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"1": "a dog runs", "3": "a bus"}
    assert run(tmp_path, GIVEN, said) == 1
    error = capsys.readouterr().err
    assert "p.json: 1 of 3 pictures have no caption: 2; add them, or choose --missing skip or --missing empty" in error
    assert run(tmp_path, GIVEN, said, "--missing", "skip") == 0
    assert report(tmp_path)["notes"] == ["1 pictures have no caption and are left out: 2"]
    assert sorted(report(tmp_path)["per_image"]) == ["1", "3"]
    assert run(tmp_path, GIVEN, said, "--missing", "empty") == 0
    assert report(tmp_path)["per_image"]["2"]["CIDEr-D"] == 0
    assert run(tmp_path, GIVEN, said, "--missing", "perhaps") == 2


@pytest.mark.parametrize(
    ("given", "said", "message"),
    [
        (GIVEN, [*results(), *results()[:1]], "row 4, field 'image_id': picture 1 already has a caption in row 1"),
        (GIVEN, '{"1": "a", "1": "b"}', "the key '1' comes twice in one object"),
        ('{"1": ["a"], "1": ["b"]}', SAID, "the key '1' comes twice in one object"),
        (GIVEN, {**SAID, "9": "x"}, "1 captions are about pictures without references: 9"),
        (GIVEN, {**SAID, "1": ["a", "b"]}, "picture 1 has 2 captions, and one is judged"),
        (GIVEN, {**SAID, "1": 5}, "picture 1 must have a caption or a list of captions"),
        (GIVEN, [{"image_id": 1}], "row 1, field 'caption': is missing"),
        (GIVEN, [{"caption": "x"}], "row 1, field 'image_id': is missing"),
        (GIVEN, [], "holds no captions"),
        ({"annotations": []}, SAID, "holds no captions"),
        (
            {"images": [{"filename": "a", "split": "val", "sentences": []}]},
            SAID,
            "has no split 'test'; --split is one of val",
        ),
        ("5", SAID, "must be an object or a list"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: Any, said: Any, message: str
) -> None:
    assert run(tmp_path, given, said) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_metrics_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, GIVEN, SAID, "--metrics", "cider-d", "BLEU") == 0
    assert list(report(tmp_path)["corpus"]) == ["CIDEr-D", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert run(tmp_path, GIVEN, SAID, "--metrics", "ROUGE-L,BLEU-2", "--mode", "alone") == 0
    assert list(report(tmp_path)["intervals"]) == ["ROUGE-L", "BLEU-2"]
    assert report(tmp_path)["tokenizer"] == "alone"
    assert run(tmp_path, GIVEN, SAID, "--metrics", "WMD") == 2
    assert "unknown metric 'WMD'; known are BLEU-1" in capsys.readouterr().err
    assert run(tmp_path, GIVEN, SAID, "--mode", "fast") == 2


def test_tokenised_captions_stay_as_they_are(tmp_path: Path) -> None:
    given = {"1": ["a dog ."], "2": ["a cat ."]}
    assert run(tmp_path, given, {"1": "a dog .", "2": "a cat"}, "--tokenised") == 0
    out = report(tmp_path)
    assert out["tokenizer"] == "none"
    assert out["per_image"]["1"]["ROUGE-L"] > out["per_image"]["2"]["ROUGE-L"]


def test_domains_are_reported_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = coco()
    for image, domain in zip(value["images"], ("in-domain", "in-domain", "out-domain"), strict=True):
        image["domain"] = domain
    assert run(tmp_path, value, results()) == 0
    out = report(tmp_path)
    assert {name: part["n"] for name, part in out["domains"].items()} == {"in-domain": 2, "out-domain": 1}
    assert "in-domain (2 pictures)" in capsys.readouterr().out
    only = {i: GIVEN[i] for i in ("1", "2")}
    assert run(tmp_path, coco(only), results({i: SAID[i] for i in only})) == 0
    assert report(tmp_path)["corpus"] == out["domains"]["in-domain"]["corpus"]


def test_scoring_files_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "import clipvil.cli.score, clipvil.metrics.captions, clipvil.datasets.caption_files\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
