from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipvil.compare.suite import EncoderEntry, Suite, TaskEntry, merge, packaged_suites, read_data, unique_slugs
from clipvil.errors import DataError, RecipeError, UsageError


def test_the_packaged_suites_load() -> None:
    assert {"mini", "mini-captioning", "easy_vqa"} <= set(packaged_suites())
    mini = Suite.load("mini")
    assert mini.labels() == ["mini/contrastive", "mini/annotated", "mini/random", "question-only"]
    assert mini.seeds == (0, 1) and mini.chosen_reference() == "mini/contrastive" and mini.name == "mini"


def test_a_file_may_give_options_a_label_and_a_number_of_seeds(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("encoders: [a, {name: a, layer: '9'}, {name: b, label: B}]\nseeds: 3\nreference: B\n")
    suite = Suite.load(path)
    assert suite.labels() == ["a", "a (layer=9)", "B", "question-only"]
    assert suite.seeds == (0, 1, 2) and suite.chosen_reference() == "B" and suite.name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder: [a]", "unknown key 'encoder'; did you mean 'encoders'"),
        ("encoders: []", "encoders"),
        ("encoders: [a, a]", "the encoder a comes twice"),
        ("encoders: [a]\nseeds: [1, 1]", "the seed 1 comes twice"),
        ("encoders: [a]\nseeds: [-1]", "a seed is negative"),
        ("encoders: [a]\nreference: c", "the reference 'c' is none of a, question-only"),
        (
            "encoders: [a]\ntasks: [{recipe: x, minus: [y]}, y]",
            "the task x is held against 'y', which is no task before it",
        ),
        ("- a", "must be a mapping"),
        ("encoders: [", "not valid YAML"),
    ],
)
def test_faults_are_one_line_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as raised:
        Suite.load(path)
    assert message in str(raised.value) and str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_suite_names_the_packaged_ones() -> None:
    with pytest.raises(RecipeError, match=r"packaged are easy_vqa, flickr, mini"):
        Suite.load("nano")


def test_yaml_is_data_and_never_code(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("encoders: !!python/object/apply:os.system ['echo no']")
    with pytest.raises(RecipeError, match="not valid YAML"):
        Suite.load(path)


def test_parts_given_beside_a_suite_replace_its_own() -> None:
    made = merge("mini", encoders=["x"], tasks=["t"], seeds=3, data={"format": "custom"}, overrides=["a=1"])
    assert made.labels() == ["x", "question-only"] and made.seeds == (0, 1, 2)
    assert [task.recipe for task in made.tasks] == ["t"]
    assert made.data == {"format": "custom"} and made.overrides == ("a=1",)
    assert merge("mini", question_only=False).labels()[-1] == "mini/random"
    assert merge("mini", seeds=[7]).seeds == (7,)


def test_a_comparison_needs_a_suite_or_encoders_and_one_of_tasks_and_recipe() -> None:
    packaged = "easy_vqa, flickr, mini, mini-backtranslation, mini-captioning, mini-navigation, mini-pretraining"
    with pytest.raises(UsageError, match=rf"name a suite \({packaged}\) or --encoders"):
        merge(None)
    with pytest.raises(UsageError, match="not both"):
        merge("mini", recipe="r.yaml", tasks=["vqa"])
    assert merge(None, encoders=[EncoderEntry(name="a", label="A")], recipe="r.yaml").tasks == (
        TaskEntry(recipe="r.yaml"),
    )


def test_question_only_is_not_added_twice() -> None:
    assert merge(None, encoders=["a", "question-only"]).labels() == ["a", "question-only"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("d.yaml", "format: custom\nquestions: q.csv", {"format": "custom", "questions": "q.csv", "root": "."}),
        ("d.yaml", "data: {format: mini, root: m}", {"format": "mini", "root": "m"}),
        ("d.yaml", "format: easy_vqa", {"format": "easy_vqa"}),
        ("q.csv", "image,question,answer", {"format": "custom", "questions": "q.csv", "root": "."}),
    ],
)
def test_paths_in_a_data_file_count_from_its_folder(
    tmp_path: Path, name: str, text: str, expected: dict[str, Any]
) -> None:
    (tmp_path / name).write_text(text)
    if "root" in expected:
        expected = {**expected, "root": str(tmp_path / expected["root"])}
    assert read_data(tmp_path / name) == expected


@pytest.mark.parametrize("text", ["root: x", "[1]", "format: ["])
def test_a_data_file_without_sense_is_a_data_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(DataError, match=r"d\.yaml"):
        read_data(tmp_path / "d.yaml")
    with pytest.raises(DataError, match="no such file"):
        read_data(tmp_path / "absent.yaml")


def test_labels_become_different_folders() -> None:
    made = unique_slugs(["hf/a:b", "hf-a-b", "../..", "open_clip/RN50:openai (layer=4)", "é"])
    assert len(set(made.values())) == 5 and made["hf/a:b"] == "hf-a-b" and made["hf-a-b"] == "hf-a-b-2"
    assert all("/" not in name and not name.startswith(".") for name in made.values())
