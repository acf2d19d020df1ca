from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from clipvil.convert.mmf_pythia import from_mmf, source_name
from clipvil.errors import CheckpointError, RecipeError
from clipvil.models.pythia import Pythia, build
from clipvil.models.pythia_config import PRESETS, PythiaConfig
from clipvil.tasks.vqa import answer_probabilities
from tests.shared import shared

TINY = PythiaConfig(6, 8, 5, 2, 24, 10, 4, 7)
PLAIN = {"preset": "published", **{k: v for k, v in dataclasses.asdict(TINY).items() if k.endswith(("size", "hidden"))}}


def fixture() -> tuple[Pythia, dict[str, Tensor]]:
    folder = shared("fixtures", "pythia")
    return from_mmf(load_file(folder / "model.safetensors")), load_file(folder / "io.safetensors")


def tiny(**options: object) -> Pythia:
    torch.manual_seed(0)
    return Pythia(dataclasses.replace(TINY, **options), words=20, answers=7, channels=12).eval()  # type: ignore[arg-type]


def batch(size: int = 4, cells: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([3, 5, 1, 4])[:size]
    words = torch.randint(4, 20, (size, 5), generator=generator) * (torch.arange(5) < lengths[:, None])
    return words, lengths, torch.rand(size, cells, 12, generator=generator), torch.tensor([[2, cells // 2]] * size)


@pytest.mark.parametrize(
    ("own", "recorded"),
    [
        ("question_states", "question_lstm_outputs"),
        ("question_vector", "question_vector"),
        ("image_attention", "image_attention"),
        ("attended_image", "attended_image"),
        ("joint", "joint"),
        ("logits", "answer_logits"),
    ],
)
def test_recorded_network(own: str, recorded: str) -> None:
    model, io = fixture()
    output = model(io["question_ids"], io["question_lengths"], io["image_cells"])
    torch.testing.assert_close(getattr(output, own), io[recorded], atol=1e-4, rtol=0)


def test_recorded_loss_gradients_and_answers() -> None:
    model, io = fixture()
    logits = model(io["question_ids"], io["question_lengths"], io["image_cells"]).logits
    loss = functional.binary_cross_entropy_with_logits(logits, io["soft_targets"], reduction="sum") / len(logits)
    assert loss.item() == pytest.approx(io["loss"].item(), abs=1e-4)
    loss.backward()
    norms = json.loads(shared("fixtures", "pythia", "grad_norms.json").read_text(encoding="utf-8"))
    names = {source_name(name): parameter for name, parameter in model.named_parameters()}
    assert names.keys() == norms.keys()
    for name, parameter in names.items():
        assert parameter.grad is not None
        assert parameter.grad.norm().item() == pytest.approx(norms[name]["l2"], abs=1e-4)
        assert parameter.grad.sum().item() == pytest.approx(norms[name]["sum"], abs=1e-4)
    probabilities = answer_probabilities(logits.detach())
    torch.testing.assert_close(probabilities, io["masked_probabilities"], atol=1e-5, rtol=0)
    assert probabilities.argmax(1).tolist() == io["predicted_answer"].tolist()


def test_double_precision_agrees_more_closely() -> None:
    model, io = fixture()
    model.double()
    logits = model(io["question_ids"], io["question_lengths"], io["image_cells"].double()).logits
    torch.testing.assert_close(logits, io["answer_logits_f64"], atol=1e-9, rtol=0)


def test_published_sizes() -> None:
    model = Pythia(PythiaConfig(), words=5, answers=3129, channels=2048)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["question.lstm.weight_hh_l0"] == (4096, 1024)
    assert shapes["question.hidden.weight"] == (512, 1024)
    assert shapes["attention.image.linear.weight_v"] == (5000, 2048)
    assert shapes["attention.question.linear.weight_v"] == (5000, 2048)
    assert shapes["fuse_question.linear.weight_v"] == (5000, 2048)
    assert shapes["narrow.out.weight"] == (3129, 300)
    assert shapes["wide.out.weight"] == (3129, 5000)
    assert not [name for name in shapes if source_name(name).startswith("None")]


def test_a_checkpoint_that_does_not_fit_is_named() -> None:
    state = {source_name(name): value for name, value in tiny().state_dict().items()}
    assert from_mmf(state).config == TINY
    with pytest.raises(CheckpointError, match=r"not a Pythia checkpoint of MMF: no tensor .* 'word_embedding.weight'"):
        from_mmf({"word": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"has not: extra\.weight"):
        from_mmf({**state, "extra.weight": torch.zeros(1)})
    lacking = {name: value for name, value in state.items() if not name.endswith("linear_text.bias")}
    with pytest.raises(CheckpointError, match=r"linear_text\.bias is missing"):
        from_mmf(lacking)


@pytest.mark.parametrize("preset", ["published", "mini"])
def test_padded_cells_change_nothing(preset: str) -> None:
    torch.manual_seed(0)
    model = build({**PLAIN, "preset": preset}, words=20, answers=7, channels=12).eval()
    words, lengths, cells, shapes = batch()
    padded = torch.cat([cells, 100 * torch.ones(4, 3, 12)], dim=1)
    mask = (torch.arange(9) < 6).expand(4, 9)
    plain = model(words, lengths, cells, None, shapes)
    masked = model(words, lengths, padded, mask, shapes)
    torch.testing.assert_close(masked.logits, plain.logits, atol=1e-5, rtol=1e-5)


def test_text_padding_counts_only_as_published() -> None:
    words, lengths, cells, _ = batch()
    longer = torch.cat([words, torch.zeros(4, 3, dtype=torch.int64)], dim=1)
    real, published = tiny(text_mask="real"), tiny()
    torch.testing.assert_close(real(words, lengths, cells).logits, real(longer, lengths, cells).logits)
    assert not torch.allclose(published(words, lengths, cells).logits, published(longer, lengths, cells).logits)


def test_positions_tell_where_a_cell_lies() -> None:
    words, lengths, cells, shapes = batch()
    turned = cells.flip(1)
    without, with_places = tiny(), tiny(cell_positions=True)
    torch.testing.assert_close(without(words, lengths, cells).logits, without(words, lengths, turned).logits)
    first = with_places(words, lengths, cells, None, shapes).logits
    assert not torch.allclose(first, with_places(words, lengths, turned, None, shapes).logits, atol=1e-5)
    with pytest.raises(RecipeError, match="needs the shapes"):
        with_places(words, lengths, cells)


def test_match_strength_counts_what_a_softmax_cannot() -> None:
    model = tiny(attention="dot", match_strength=True, image_glimpses=3)
    with torch.no_grad():
        model.attention.threshold.fill_(0.0)  # type: ignore[union-attr]
    words, lengths, cells, _ = batch()
    once, twice = cells[:, :1], cells[:, :1].expand(4, 2, 12)
    first, second = model(words, lengths, once), model(words, lengths, twice)
    torch.testing.assert_close(first.attended_image, second.attended_image)
    assert not torch.allclose(first.logits, second.logits, atol=1e-5)
    without = tiny(attention="dot", image_glimpses=3)
    torch.testing.assert_close(without(words, lengths, once).logits, without(words, lengths, twice).logits)


def test_scale_of_features_does_not_matter_when_normalised() -> None:
    words, lengths, cells, _ = batch()
    model = tiny(normalise=True)
    torch.testing.assert_close(
        model(words, lengths, cells).logits, model(words, lengths, 1000 * cells + 5).logits, atol=1e-3, rtol=1e-3
    )


def test_one_constant_cell_is_a_question_only_model() -> None:
    torch.manual_seed(0)
    model = build({"preset": "mini"}, words=20, answers=7, channels=1).eval()
    words, lengths, _, _ = batch()
    logits = model(words, lengths, torch.ones(4, 1, 1), None, torch.ones(4, 2, dtype=torch.int64)).logits
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1])


def test_word_vectors_start_the_table() -> None:
    vectors = torch.randn(20, 11)
    model = build({"preset": "mini"}, words=20, answers=7, channels=4, vectors=vectors)
    assert torch.equal(model.words.weight, vectors)
    assert model.config.word_size == 11
    fresh = build({"preset": "mini"}, words=20, answers=7, channels=4)
    assert fresh.words.weight[0].abs().sum() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lstm_sise": 3}, r"unknown key 'model.lstm_sise'.* did you mean 'lstm_size'"),
        ({"preset": "huge"}, "unknown Pythia preset 'huge'"),
        ({"lstm_size": "3"}, "must be int, not str"),
        ({"lstm_size": True}, "must be int, not bool"),
        ({"text_mask": "none"}, "text_mask"),
        ({"lstm_size": 0}, "lstm_size' must be larger, not 0"),
        ({"dropout": 1.5}, "dropout"),
        ({"attention": "cosine"}, "'model.attention' must be product or dot"),
        ({"match_strength": True}, "needs 'model.attention' to be dot"),
        ({"attention": "dot", "image_glimpses": 7}, "must be a multiple"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(settings, words=5, answers=3, channels=2)


def test_same_seed_same_model() -> None:
    first, second = tiny().state_dict(), tiny().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert PRESETS["published"] == PythiaConfig()
