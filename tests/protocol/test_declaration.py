from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipvil.errors import RecipeError
from clipvil.protocol.declaration import Condition, Declaration, packaged_protocols
from clipvil.protocol.methods import METHODS
from clipvil.training.recipe import Recipe

LEAST: dict[str, Any] = {"encoder": "mini/annotated", "tasks": ["mini/vqa-clip-vil-p"]}


@pytest.mark.parametrize("name", packaged_protocols())
def test_packaged_protocols_are_valid(name: str) -> None:
    declaration = Declaration.load(name)
    assert declaration.name == name and declaration.reference == "plain" and declaration.cells()
    assert {method.name for _, _, method in declaration.cells()} == {method.name for method in declaration.methods}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_fits_a_recipe(name: str) -> None:
    recipe = Recipe.from_file("mini/vqa-clip-vil-p", METHODS[name])
    assert recipe.distillation.asked == (name != "plain")


def test_methods_differ_in_what_their_names_say() -> None:
    chosen = {name: Recipe().with_overrides(*changes).distillation for name, changes in METHODS.items()}
    assert chosen["naive"].selection.policy == "all" and chosen["naive"].confidence == "constant"
    assert chosen["mad"].selection.policy == "top_k" and chosen["mad"].confidence == "correctness"
    assert chosen["random-tokens"].selection.text == chosen["random-tokens"].selection.vision == "random"
    assert chosen["shuffled-teacher"].shuffled and not chosen["mad"].shuffled
    assert len({choice.model_dump_json() for choice in chosen.values()}) == len(chosen)


def test_sizes_may_be_said_in_short() -> None:
    made = Declaration.from_values({**LEAST, "conditions": [100, 0.1, "5 %", "full"]})
    assert [one.title for one in made.conditions] == ["100", "10 %", "5 %", "full"]
    assert [one.count(1000) for one in made.conditions] == [100, 100, 50, 1000]
    assert Condition(share=0.001).count(100) == 1


def test_where_a_method_is_tried() -> None:
    made = Declaration.from_values(
        {
            **LEAST,
            "tasks": [{"recipe": "a"}, {"recipe": "b", "conditions": ["full"], "methods": ["plain"]}],
            "conditions": [10, "full"],
            "methods": ["plain", {"name": "mad", "conditions": ["10"], "tasks": ["a"]}],
        }
    )
    cells = [(task.title, condition.title, method.name) for task, condition, method in made.cells()]
    assert cells == [("a", "10", "plain"), ("a", "10", "mad"), ("a", "full", "plain"), ("b", "full", "plain")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ["nav"]}, "'nav' is none of plain, naive, mad"),
        ({"methods": ["mad"]}, "reference 'plain' is none of the methods mad"),
        ({"methods": ["plain", "plain"]}, "the method plain comes twice"),
        ({"conditions": [{"pictures": 5, "share": 0.5}]}, "both pictures and share"),
        (
            {"conditions": [5], "tasks": [{"recipe": "a", "conditions": ["6"]}]},
            "there is no condition '6'; there are 5",
        ),
        ({"condition": [5]}, "unknown key 'condition'; did you mean 'conditions'"),
        ({"seeds": [1, 1]}, "comes twice"),
        ({"tasks": [{"recipe": "a", "shift": "odd"}]}, "shift"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Declaration.from_values({**LEAST, **values})


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such file or packaged protocol; packaged are mini, mini-small"):
        Declaration.load("minni")
    (tmp_path / "x.yaml").write_text("[1")
    with pytest.raises(RecipeError, match=r"x\.yaml: not valid YAML"):
        Declaration.load(tmp_path / "x.yaml")
