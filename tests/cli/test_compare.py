from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.cli.compare import spread_lists
from clipvil.cli.main import main
from tests.compare.builder import build


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("--encoders A B --out x", "--encoders A --encoders B --out x"),
        ("--encoders A --encoders B", "--encoders A --encoders B"),
        ("mini --set a=1 b=2 --seeds 3", "mini --set a=1 --set b=2 --seeds 3"),
        ("--encoders A B C --tasks t u", "--encoders A --encoders B --encoders C --tasks t --tasks u"),
        ("--encoders A B -- mini", "--encoders A --encoders B -- mini"),
        ("mini --out x", "mini --out x"),
        ("--encoders", "--encoders"),
    ],
)
def test_lists_may_be_separated_by_spaces(typed: str, understood: str) -> None:
    assert spread_lists(typed.split()) == understood.split()


def test_the_report_is_made_again_without_running_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = build()
    results.save(tmp_path / "results.json")
    assert main(["compare", "--report-only", "--out", str(tmp_path)]) == 0
    assert "mini/contrastive - mini/random: +21.3 [19.8, 22.8]" in capsys.readouterr().out
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    results.cells[0].status, results.cells[0].error = "failed", "no weights"
    results.save(tmp_path / "results.json")
    assert main(["compare", "--report-only", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "no weights" in said.out and "1 of 8 cells failed" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nano"], 2, "packaged are easy_vqa, flickr, mini"),
        ([], 2, "name a suite"),
        (["mini", "--data", "absent.yaml"], 1, "no such file"),
        (["--report-only"], 1, "run the comparison first"),
        (["mini", "--set", "optimiser.speed=1"], 2, "unknown key 'optimiser.speed'"),
    ],
)
def test_wrong_use_is_one_line_and_an_exit_code(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments, "--out", str(tmp_path / "x")]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
