"""Answer heads taken over by answer string, against the recorded transplant."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from clipvil.errors import DataError
from clipvil.models.answer_transplant import normalised, plan_transplant, transplant_head
from tests.models.recorded_clip_vil_p import FOLDER, case, recorded, released, with_trunk
from tests.shared import shared


def answers() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(shared("fixtures", FOLDER, "answers.json").read_text())
    return value


def test_answers_are_written_as_recorded() -> None:
    cases = answers()["normalisation"]
    assert len(cases) > 40
    for one in cases:
        assert normalised(one["raw"]) == one["normalised"], one


def test_the_plan_is_the_recorded_one() -> None:
    value = answers()
    plan = plan_transplant([row["ans"] for row in value["all_ans"]], value["target_answers"])
    assert list(plan.rows) == [row["table_row"] for row in value["transplant"]]
    assert (plan.found, len(plan.missing)) == (value["found"], value["missing"])
    assert "18 of 29" in str(plan) and plan.missing[0] == ""


def test_answers_that_stand_as_they_are_are_found() -> None:
    raw = ["grey", "two", "yes"]
    assert plan_transplant(raw, raw).rows == (0, 1, 2)
    assert plan_transplant(["gray", "2", "grey"], ["grey", "two", "The 2."]).rows == (2, 1, 1)


def test_the_head_and_its_logits_are_the_recorded_ones() -> None:
    value, expected = answers(), recorded("transplant")
    plan = plan_transplant([row["ans"] for row in value["all_ans"]], value["target_answers"])
    old = {
        key.removeprefix("heads.answers."): t for key, t in released("pretrain").found.state.items() if "answers" in key
    }
    new = transplant_head(old, plan)
    for ours, theirs in (("hidden", "0"), ("norm", "2"), ("out", "3")):
        for leaf in ("weight", "bias"):
            assert torch.equal(new[f"{ours}.{leaf}"], expected[f"logit_fc.{theirs}.{leaf}"]), (ours, leaf)
    assert all(tensor is not old[key] for key, tensor in new.items())

    model, _ = with_trunk("pretrain")
    head = model.head.heads["answers"]
    head.out = torch.nn.Linear(head.out.in_features, len(plan.rows))
    head.load_state_dict(new)
    given = case("vqa_cases", "landscape")
    with torch.no_grad():
        grids = model.eval().grids(recorded("pixels")["landscape"])
        out = model.head(given["input_ids"], given["attention_mask"], *grids)
    assert torch.allclose(out.logits, expected["landscape_logits"], atol=2e-5)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="'yes' stands twice"):
        plan_transplant(["yes", "no", "yes"], ["yes"])
    head = {"out.weight": torch.ones(2, 3), "out.bias": torch.ones(2)}
    with pytest.raises(DataError, match="has 3 rows or more"):
        transplant_head(head, plan_transplant(["a b", "c", "d"], ["D"]))
