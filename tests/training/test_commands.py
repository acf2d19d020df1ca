"""train, evaluate, predict and submit as one types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.cli.main import main


def test_train_prints_scores_and_does_nothing_twice(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = mini_run.parent / "data"
    command = [
        "train", "mini/vqa", f"data.root={data}", "data.sizes={train: 30, val: 8, test: 8}", "schedule.steps=3",
        "schedule.warmup_steps=1", "training.batch_size=16", f"features.store={mini_run / 'features'}",
        "features.precision=fp32", "--out", str(tmp_path / "run"), "--quiet",
    ]  # fmt: skip
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "test       vqa_accuracy (official)" in out
    assert "n=40" in out
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "vqa_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "mini/vqa", "optimizer.lr=1"], "did you mean 'optimiser.lr'"),
        (["train", "mini/vqaa"], "did you mean 'mini/vqa'"),
        (["train", "mini/vqa", "task=vqq"], "did you mean 'vqa'"),
        (["train", "mini/vqa", "encoder.name=mini/nothing"], "mini/nothing"),
        (["train", "mini/vqa", "encoder.layer=block"], "layer 'block'"),
        (["train", "mini/vqa", "data.seed=abc"], "'data.seed': must be a whole number, not 'abc'"),
        (["train", "custom/vqa", "data.question=q.csv"], "did you mean 'questions'"),
    ],
)
def test_wrong_use_is_one_line_and_code_2_or_1(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    sizes = "data.sizes={train: 30, val: 8, test: 8}"
    place = [f"data.root={mini_run.parent / 'data'}", sizes, "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*arguments, *place]) == (1 if "data." in arguments[-1] else 2)
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.startswith("clipvil: ")
    assert error.count("\n") == 0


def test_a_run_that_failed_at_once_does_not_block_its_folder(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mistake is put right and the same command typed again."""
    command = [
        "train", "mini/vqa", f"data.root={mini_run.parent / 'data'}", "data.sizes={train: 30, val: 8, test: 8}",
        "schedule.steps=2", "schedule.warmup_steps=1", "training.batch_size=16", "features.precision=fp32",
        f"features.store={mini_run / 'features'}", "--out", str(tmp_path / "run"), "--quiet",
    ]  # fmt: skip
    assert main([*command, "model.name=nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert main(command) == 0
    assert main(command) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], resume: list[str]
) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"a photograph")
    for out, says in ((tmp_path, "is not empty and holds no run"), (tmp_path / "holiday.jpg", "is a file")):
        assert main(["train", "mini/vqa", "--out", str(out), *resume]) == 2
        assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_evaluate_prints_breakdowns(mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(mini_run), "--split", "val", "--out", str(tmp_path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "by answer type" in out
    assert "yes/no" in out
    assert (tmp_path / "predictions_val.jsonl").read_bytes() == (mini_run / "predictions_val.jsonl").read_bytes()
    assert not (tmp_path / "features").exists()


def test_predict_prints_answers_or_json(mini_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next((mini_run.parent / "data" / "images" / "test").iterdir())
    command = ["predict", str(mini_run), "--image", str(picture), "--text", "how many shapes?", "--top", "2"]
    assert main(command) == 0
    assert capsys.readouterr().out.count("%") == 2
    assert main([*command, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert len(answers) == 2
    assert answers[0]["confidence"] >= answers[1]["confidence"]


def test_predict_asks_every_question_about_every_picture_and_names_the_bad_one(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = sorted((mini_run.parent / "data" / "images" / "test").iterdir())
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    pictures = [argument for picture in (first, bad, second) for argument in ("--image", str(picture))]
    texts = ["--text", "how many shapes?", "--text", "is there a star?"]
    assert main(["predict", str(mini_run), *pictures, *texts, "--json"]) == 1
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [(row["image"], row.get("question")) for row in rows] == [
        (str(first), "how many shapes?"),
        (str(first), "is there a star?"),
        (str(bad), None),
        (str(second), "how many shapes?"),
        (str(second), "is there a star?"),
    ]
    assert "bad.png" in rows[2]["error"] and printed.err.count("bad.png") == 1
    assert main(["predict", str(mini_run), "--image", str(second), "--text", "is there a star?", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["answer"] for answer in alone] == [answer["answer"] for answer in rows[4]["answers"]]
    assert main(["predict", str(mini_run), *pictures, *texts, "--top", "1"]) == 1
    assert f"{first}: how many shapes?" in capsys.readouterr().out


def test_submit_writes_what_the_server_takes(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "send" / "result.json"
    assert main(["submit", str(mini_run), "--server", "vqa2", "--split", "test", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())
    questions = json.loads((mini_run.parent / "data" / "questions_test.json").read_text())["questions"]
    assert sorted(row["question_id"] for row in rows) == sorted(question["question_id"] for question in questions)
    assert all(isinstance(row["answer"], str) and row["answer"] for row in rows)
    assert main(["submit", str(mini_run), "--server", "vqa3"]) == 2
    assert "known are vqa2, gqa" in capsys.readouterr().err


def test_submit_refuses_a_partial_file_and_leaves_none(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_bytes((mini_run / "recipe.yaml").read_bytes())
    lines = (mini_run / "predictions_test.jsonl").read_text().splitlines()
    (run / "predictions_test.jsonl").write_text("\n".join(lines[:-3]) + "\n")
    assert main(["submit", str(run), "--server", "vqa2"]) == 1
    assert "3 of 40 questions have no answer" in capsys.readouterr().err
    assert sorted(entry.name for entry in run.iterdir()) == ["predictions_test.jsonl", "recipe.yaml"]


@pytest.mark.parametrize("command", ["evaluate", "predict --image x.png --text q", "submit --server vqa2"])
def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    name, *options = command.split()
    assert main([name, str(tmp_path), *options]) == 1
    assert str(tmp_path) in capsys.readouterr().err
