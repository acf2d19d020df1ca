"""The text sides are the libraries' own, in the same weights as the visual side; what has none says so."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from clipvil.encoders.base import TextEncoder, TwoTower
from clipvil.encoders.registry import create_encoder, may_have_text
from clipvil.encoders.weights import UntrainedWarning
from clipvil.errors import EncoderError
from clipvil.mini import weights_folder
from clipvil.mini.training.vocabulary import END, PAD, START, WordTable, write_tokenizer
from tests.encoders.zoo import VIT, jitter

TEXTS = ["a red circle", "Is there a large star, above the moon?", "", "two big rings"]
LONG = "a red circle above a small striped star on the grass"
TOWER = {"vocab_size": len(WordTable()), "width": 64, "heads": 2, "layers": 2, "hf_tokenizer_name": "here"}
CLIP_LIKE = {**TOWER, "context_length": 10, "pool_type": "eos", "eos_id": END, "pad_id": PAD}
SIGLIP_LIKE = {**TOWER, "context_length": 10, "no_causal_mask": True, "pool_type": "last", "proj_bias": True}


def write_open_clip(folder: Path, text: dict[str, Any], *, custom: bool = False, quick: bool = False) -> Path:
    folder.mkdir()
    config = {**VIT, "text_cfg": text, "quick_gelu": quick, **({"custom_text": True} if custom else {})}
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    torch.manual_seed(0)
    model = kind(**{key: value for key, value in config.items() if key != "custom_text"})
    jitter(model)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    write_tokenizer(folder)
    return folder


def write_hf(folder: Path, family: str) -> Path:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": len(WordTable()), "max_position_embeddings": 10}
    marks = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    vision, text = {**shape, "image_size": 64, "patch_size": 16}, {**shape, **words, **marks}
    torch.manual_seed(0)
    model: Any
    if family == "clip":
        # An end mark of 2, as it is here, stands for "the largest token": the first released files say so.
        sizes = {"text_config": {**text, "projection_dim": 24}, "vision_config": {**vision, "projection_dim": 24}}
        model = transformers.CLIPModel(transformers.CLIPConfig(**sizes, projection_dim=24))
        transformers.CLIPImageProcessor().save_pretrained(folder)
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        transformers.SiglipImageProcessor().save_pretrained(folder)
    jitter(model)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "custom", "quick"),
    [(CLIP_LIKE, False, False), (CLIP_LIKE, False, True), (CLIP_LIKE, True, False), (SIGLIP_LIKE, True, False)],
)
def test_open_clip_text_equals_the_library(text: dict[str, Any], custom: bool, quick: bool, tmp_path: Path) -> None:
    name = f"local-dir:{write_open_clip(tmp_path / 'model', text, custom=custom, quick=quick)}"
    encoder = create_encoder(f"open_clip/{name}")
    assert isinstance(encoder, TwoTower)
    side = encoder.text()
    assert isinstance(side, TextEncoder)
    model, tokenizer = open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    with torch.no_grad():
        expected = model.encode_text(tokenizer([*TEXTS, LONG]))
    torch.testing.assert_close(side.encode([*TEXTS, LONG]), expected, atol=1e-5, rtol=1e-5)
    assert expected.std(0).min() > 1e-3  # the texts do differ
    assert side.channels == encoder.pooled_channels == expected.shape[1]
    assert (side.encoded, side.truncated, side.context_length) == (5, 1, 10)
    assert side.scale == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_hugging_face_text_equals_the_library(family: str, tmp_path: Path) -> None:
    folder = write_hf(tmp_path / family, family)
    encoder = create_encoder(f"hf/{folder}")
    assert isinstance(encoder, TwoTower)
    side = encoder.text()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pad = {"padding": True} if family == "clip" else {"padding": "max_length"}
    tokens = tokenizer([*TEXTS, LONG], truncation=True, max_length=10, return_tensors="pt", **pad)
    extra = {"attention_mask": tokens["attention_mask"]} if family == "clip" else {}
    with torch.no_grad():
        expected = model.get_text_features(input_ids=tokens["input_ids"], **extra).pooler_output
    torch.testing.assert_close(side.encode([*TEXTS, LONG]), expected, atol=1e-5, rtol=1e-5)
    assert expected.std(0).min() > 1e-3
    assert side.channels == encoder.pooled_channels == expected.shape[1]
    assert (side.encoded, side.truncated, side.context_length) == (5, 1, 10)


def test_openai_words_come_with_the_library(tmp_path: Path) -> None:
    """Without a tokenizer of its own a CLIP model speaks open_clip's, which pads to 77 and knows all of English."""
    torch.manual_seed(0)
    tower = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    model = open_clip.CLIP(**VIT, text_cfg=tower).eval()
    about = {"model_cfg": {**VIT, "text_cfg": tower}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(about))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    texts = ["Is the woman's shirt blonde? yes", "word " * 75, "word " * 76]
    side = create_encoder(f"open_clip/local-dir:{tmp_path}").text()  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("RN50")(texts))
    torch.testing.assert_close(side.encode(texts), expected, atol=1e-5, rtol=1e-5)
    assert (side.context_length, side.truncated) == (77, 1)  # 75 words and two marks just fit


def test_the_miniature_text_tower_matches_pictures_that_its_own_visual_tower_describes() -> None:
    trained, untrained = (
        create_encoder("mini/contrastive"),
        create_encoder(f"open_clip/local-dir:{weights_folder('annotated')}"),
    )
    texts = ["a red circle on the grass", "a scarlet disc in a meadow", "three blue stars at night"]
    vectors = torch.nn.functional.normalize(trained.text().encode(texts), dim=1)  # type: ignore[attr-defined]
    same, other = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert same > other + 0.3
    prints = {e.text().fingerprint() for e in (trained, untrained)}  # type: ignore[attr-defined]
    assert len(prints) == 2
    assert trained.text().fingerprint() in prints  # type: ignore[attr-defined]


def test_an_untrained_text_side_is_the_same_every_time() -> None:
    sides = []
    for _ in range(2):
        with pytest.warns(UntrainedWarning):
            sides.append(create_encoder("open_clip/RN50:random").text())  # type: ignore[attr-defined]
    assert torch.equal(sides[0].encode(TEXTS), sides[1].encode(TEXTS))
    assert sides[0].fingerprint() == sides[1].fingerprint()


def test_batches_orders_and_precision_do_not_matter(tmp_path: Path) -> None:
    side = create_encoder(f"open_clip/local-dir:{write_open_clip(tmp_path / 'm', CLIP_LIKE)}").text()  # type: ignore[attr-defined]
    texts = [" ".join(["red", "star", "big"][: 1 + i % 3] * (1 + i % 4)) for i in range(70)]
    whole = side.encode(texts)
    side.batch_size = 16
    torch.testing.assert_close(side.encode(texts), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(side.encode(texts[::-1]).flip(0), whole, atol=1e-5, rtol=1e-5)
    assert side.encode([]).shape == (0, 24)
    before = side.fingerprint()
    half = side.to(dtype=torch.bfloat16).encode(texts)
    assert torch.cosine_similarity(half.float(), whole).min() > 0.99
    assert side.fingerprint() == before


@pytest.mark.parametrize("name", ["timm/test_vit:random", "torchvision/resnet18:random"])
@pytest.mark.filterwarnings("ignore::clipvil.encoders.weights.UntrainedWarning")
def test_a_visual_tower_alone_says_so(name: str) -> None:
    with pytest.raises(EncoderError, match="has no text side") as caught:
        create_encoder(name).text()  # type: ignore[attr-defined]
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "m", CLIP_LIKE)
    name = f"open_clip/local-dir:{folder}"
    with pytest.raises(EncoderError, match="list of strings"):
        create_encoder(name).text().encode("one text")  # type: ignore[attr-defined]
    weights = folder / "open_clip_model.safetensors"
    state = load_file(weights)
    save_file({key: value for key, value in state.items() if key.startswith("visual.")}, weights)
    with pytest.raises(EncoderError, match="visual tower alone"):
        create_encoder(name).text()  # type: ignore[attr-defined]
    save_file({key: value for key, value in state.items() if "ln_final" not in key}, weights)
    with pytest.raises(EncoderError, match="lacks ln_final"):
        create_encoder(name).text()  # type: ignore[attr-defined]
    save_file(state, weights)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(EncoderError, match="no tokenizer can be read") as caught:
        create_encoder(name).text()  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)


def test_a_text_tower_of_another_library_is_not_fetched_for_a_local_folder(tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "m", CLIP_LIKE)
    about = json.loads((folder / "open_clip_config.json").read_text())
    about["model_cfg"]["text_cfg"]["hf_model_name"] = "xlm-roberta-base"
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    with pytest.raises(EncoderError, match="xlm-roberta-base"):
        create_encoder(f"open_clip/local-dir:{folder}").text()  # type: ignore[attr-defined]


def test_the_visual_half_of_hugging_face_has_no_text(tmp_path: Path) -> None:
    from tests.encoders import zoo

    for family, what in (("clip", "visual half alone"), ("dinov2", "no text side")):
        encoder = create_encoder(f"hf/{zoo.write_hf(tmp_path / family, family)}")
        with pytest.raises(EncoderError, match=what):
            encoder.text()  # type: ignore[attr-defined]


def test_the_fingerprint_tells_weights_and_tokenizers_apart(tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "m", CLIP_LIKE)
    name = f"open_clip/local-dir:{folder}"
    first = create_encoder(name).text().fingerprint()  # type: ignore[attr-defined]
    assert (weights_folder("contrastive") / "tokenizer.json").exists()
    tokens = json.loads((folder / "tokenizer.json").read_text())
    words = tokens["model"]["vocab"]
    words["red"], words["is"] = words["is"], words["red"]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    assert create_encoder(name).text().fingerprint() != first  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["mini/annotated", "mini/random"])
def test_a_text_tower_that_was_never_trained_is_not_offered(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWarning)
        encoder = create_encoder(name)
    assert not may_have_text(name)
    with pytest.raises(EncoderError, match="no text side"):
        encoder.text()  # type: ignore[attr-defined]
