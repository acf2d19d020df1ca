from __future__ import annotations

import pytest

from clipvil import environment


def test_a_torchvision_that_does_not_match_torch_is_named_with_its_fix(tmp_path, monkeypatch):
    # The real trap: the package is there, its operators are not, and the import fails deep inside.
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    findings = environment.diagnose()
    what, fix = next(problem for problem in findings.problems if "torchvision" in problem[0])
    assert "operator torchvision::nms does not exist" in what
    assert fix.startswith("torch ") and "torchvision" in fix
    assert any(line.startswith("PROBLEM") for line in findings.lines())


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.13.0+cpu", "--index-url https://download.pytorch.org/whl/cpu"), ("2.13.0", "'torch==2.13.0' torchvision")],
)
def test_the_fix_names_the_build(version, expected):
    assert expected in environment.torchvision_fix(version)


def test_versions_of_everything_a_result_depends_on_are_known():
    assert all(environment.package_versions().values())
    assert environment.hardware()["cpu"]["cores"] >= 1
