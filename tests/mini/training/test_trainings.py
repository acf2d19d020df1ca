"""Both trainings run for a few steps, are the same each time, and leave folders that open_clip loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from clipvil.mini.training import annotated, contrastive
from clipvil.mini.training.architecture import (
    WEIGHTS_FILE,
    build,
    encode_text,
    encode_texts,
    write_config,
    write_weights,
)
from clipvil.mini.training.optimisation import Budget, make_optimiser, schedule
from clipvil.mini.training.vocabulary import WordTable

BUDGET = Budget(close_up_steps=3, whole_steps=1, batch=4, warmup_steps=2)


def run(name: str, scratch: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    scratch.mkdir()
    if name == "contrastive":
        return contrastive.train(contrastive.Protocol(scenes=6, cycles=(BUDGET, BUDGET)), scratch, lambda line: None)
    return annotated.train(annotated.Protocol(pictures=6, cycles=(BUDGET, BUDGET)), scratch, lambda line: None)


@pytest.mark.parametrize("name", ["contrastive", "annotated"])
def test_a_training_moves_the_weights_and_can_be_repeated(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    state, measured = run(name, tmp_path / "a")
    again, _ = run(name, tmp_path / "b")
    assert all(torch.equal(value, again[key]) for key, value in state.items())
    torch.manual_seed(0)
    start = build().state_dict()
    assert not torch.equal(start["visual.layer4.0.conv1.weight"], state["visual.layer4.0.conv1.weight"])
    trained_text = not torch.equal(start["token_embedding.weight"], state["token_embedding.weight"])
    assert trained_text == (name == "contrastive")
    assert measured["seconds"] > 0


def test_a_written_folder_loads_and_gives_nearly_the_same_pictures(tmp_path: Path) -> None:
    import open_clip

    torch.manual_seed(1)
    model = build().eval()
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.fill_(1e-7)  # would be zero in float16 without its subnormals, and is kept exactly here
    write_config(tmp_path)
    write_weights(tmp_path, model.state_dict())
    loaded = open_clip.create_model(f"local-dir:{tmp_path}")
    assert torch.equal(loaded.visual.bn1.running_var, model.visual.bn1.running_var)
    torch.testing.assert_close(loaded.visual.conv1.weight, model.visual.conv1.weight, rtol=1e-3, atol=1e-4)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size < 6_000_000


def test_texts_sorted_by_length_give_what_padded_texts_give() -> None:
    torch.manual_seed(0)
    model = build().eval()
    table = WordTable()
    tokens = torch.zeros(5, 32, dtype=torch.long)
    for row, text in enumerate(["red star", "a", "two blue rings on the sand at night", "night", "a green cross"]):
        ids = table.encode(text)
        tokens[row, : len(ids)] = torch.tensor(ids)
    with torch.no_grad():
        torch.testing.assert_close(encode_texts(model, tokens, 3), model.encode_text(tokens))
        torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens))


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    budget = Budget(close_up_steps=80, whole_steps=20, warmup_steps=10, learning_rate=1.0)
    optimiser = make_optimiser(torch.nn.Linear(2, 2), budget)
    rates = []
    for step in range(budget.steps):
        schedule(optimiser, budget, step)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] or max(rates) == rates[10]
    assert rates[-1] == pytest.approx(0.01, abs=0.002)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [budget.weight_decay, 0.0]
