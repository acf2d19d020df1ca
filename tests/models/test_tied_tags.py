from __future__ import annotations

import torch

from clipvil.models.clip_vil_p_choices import ClipVilPChoices, build
from clipvil.models.tied_tags import TiedTags, covered

SMALL = {"preset": "mini", "hidden": 16, "heads": 2, "layers": 1, "feed_forward": 16}


def test_a_box_weighs_cells_by_how_much_of_it_lies_there() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.25, 0.0, 0.75, 0.25], [0.9, 0.9, 0.9, 0.9], [2.0, 0.0, 3.0, 1.0]]])
    weights = covered(boxes, torch.tensor([[2, 2]]), 6)[0]
    assert torch.allclose(weights[0], torch.tensor([0.5, 0.0, 0.5, 0.0, 0.0, 0.0]))
    assert torch.allclose(weights[1], torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0, 0.0]))
    # A box without extent is the cell that it lies in; one outside is nowhere; cells of padding are never covered.
    assert torch.allclose(weights[2], torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0]))
    assert weights[3].sum() == 0


def test_rows_and_columns_are_not_exchanged() -> None:
    weights = covered(torch.tensor([[[0.8, 0.0, 1.0, 0.5]]]), torch.tensor([[2, 5]]), 10)
    assert weights[0, 0].argmax() == 4


def test_each_sentence_looks_into_the_boxes_of_its_own_question() -> None:
    seen = torch.arange(8.0).view(2, 4, 1)
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5]], [[0.5, 0.5, 1.0, 1.0]]])
    tied = TiedTags(torch.tensor([[0, 1], [1, 0], [1, 1]]), torch.tensor([0, 1, 1]), boxes, torch.tensor([1, 0]))
    found = tied.looked_up(seen, torch.tensor([[2, 2], [2, 2]])).squeeze(2)
    assert found.tolist() == [[0, 4], [3, 0], [3, 3]]


def model() -> ClipVilPChoices:
    torch.manual_seed(0)
    return build(SMALL, words=11, channels=4).eval()


def test_scores_depend_on_what_the_box_shows_and_not_on_padding() -> None:
    net = model()
    question = torch.randint(5, 11, (2, 4, 6))
    cells = torch.randn(1, 4, 4)
    tags = torch.zeros_like(question)
    tags[:, :, 1] = 1
    arguments = {"segments": torch.zeros_like(question), "tags": tags}
    base = (question, torch.full((2, 4), 6), cells, None, torch.tensor([[2, 2]]), torch.tensor([0, 0]))
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5]], [[0.5, 0.5, 1.0, 1.0]]])
    out = net(*base, boxes=boxes, **arguments)
    assert out.logits.shape == (2, 4)
    assert out.sequence.shape == (8, 10, 16)
    # The other box of the first question, the same one of the second.
    other = net(*base, boxes=boxes[[1, 1]], **arguments).logits
    assert not torch.allclose(other[0], out.logits[0])
    assert torch.allclose(other[1], out.logits[1])
    untied = net(*base, segments=arguments["segments"]).logits
    assert not torch.allclose(untied[0], out.logits[0])
    wide = torch.nn.functional.pad(question, (0, 3), value=7)
    padded = net(
        wide, *base[1:], boxes=boxes, segments=torch.zeros_like(wide), tags=torch.nn.functional.pad(tags, (0, 3))
    )
    assert torch.allclose(padded.logits, out.logits, atol=1e-5)
