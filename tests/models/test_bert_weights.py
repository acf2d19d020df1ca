"""A BERT's weights in CLIP-ViL_p: where the grid is hidden, the text side says what the BERT says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, BertModel

from clipvil.errors import CheckpointError
from clipvil.models.bert_weights import load_bert
from clipvil.models.clip_vil_p import ClipVilPModel, build
from clipvil.text.wordpiece import PACKAGE, WordPiece, package_folder

SIZES = {"hidden": 16, "heads": 4, "layers": 2, "feed_forward": 32, "dropout": 0.0, "text_positions": 24}
WORDS, CHANNELS = 30, 8


def bert(**changes: object) -> BertConfig:
    sizes = {
        "vocab_size": WORDS, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2,
        "intermediate_size": 32, "max_position_embeddings": 64, **changes,
    }  # fmt: skip
    return BertConfig(**sizes)


def model(**changes: object) -> ClipVilPModel:
    torch.manual_seed(1)
    return build({**SIZES, **changes}, words=WORDS, channels=CHANNELS, answers=3)


def text_alone(own: ClipVilPModel, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    own.eval()
    cells, shapes = torch.randn(len(tokens), 6, CHANNELS), torch.tensor([[2, 3]] * len(tokens))
    nothing = torch.zeros(len(tokens), 6, dtype=torch.bool)
    sequence, pooled = own.body(tokens, mask, cells, nothing, shapes)
    return sequence[:, : tokens.shape[1]], pooled


def test_the_text_side_is_the_bert(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = BertForPreTraining(bert(initializer_range=0.3)).eval()
    theirs.save_pretrained(tmp_path)
    own = model()
    report = load_bert(own, tmp_path)
    tokens = torch.randint(5, WORDS, (3, 9))
    mask = torch.arange(9) < torch.tensor([[9], [5], [2]])
    with torch.no_grad():
        expected = theirs(input_ids=tokens, attention_mask=mask.long())
        body = theirs.bert(input_ids=tokens, attention_mask=mask.long())
        sequence, pooled = text_alone(own, tokens, mask)
        assert torch.allclose(sequence[mask], body.last_hidden_state[mask], atol=1e-5)
        assert torch.allclose(pooled, body.pooler_output, atol=1e-5)
        assert torch.allclose(own.words_at(sequence)[mask], expected.prediction_logits[mask], atol=1e-4)
    assert report.cut == ["embeddings.position_embeddings.weight"]
    assert "heads.itm.weight" in report.fresh and "body.grid.rows.weight" in report.fresh
    assert "heads.mlm.bias" not in report.fresh
    assert set(report.used.values()) | set(report.fresh) == {name for name, _ in own.named_parameters()}
    assert all(key.startswith("cls.") for key in report.dropped)


def test_a_bert_without_heads_leaves_the_word_head_fresh(tmp_path: Path) -> None:
    BertModel(bert()).save_pretrained(tmp_path)
    own = model()
    before = own.heads["mlm"].dense.weight.clone()
    report = load_bert(own, tmp_path)
    assert "heads.mlm.dense.weight" in report.fresh and torch.equal(own.heads["mlm"].dense.weight, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers 3, the model 2"),
        ({"num_attention_heads": 2}, "num_attention_heads 2, the model 4"),
        ({"vocab_size": 31}, r"word_embeddings.weight is \(31, 16\), not \(30, 16\)"),
        ({"intermediate_size": 48}, "intermediate"),
        ({"hidden_act": "relu"}, "activation is relu"),
    ],
)
def test_another_bert_is_refused_and_changes_nothing(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    BertModel(bert(**changes)).save_pretrained(tmp_path)
    own = model()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_bert(own, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


def test_a_damaged_bert_is_refused(tmp_path: Path) -> None:
    BertModel(bert()).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    gone = "encoder.layer.1.output.dense.weight"
    save_file({key: value for key, value in state.items() if key != gone}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{gone} is missing"):
        load_bert(model(), tmp_path)
    save_file({**state, "encoder.layer.1.extra.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has not: encoder\.layer\.1\.extra"):
        load_bert(model(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_bert(model(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match="not the configuration of a BERT"):
        load_bert(model(), tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_bert(model(), tmp_path / "nowhere" / "else")


def test_the_package_is_a_bert_of_six_layers() -> None:
    folder = package_folder()
    if folder is None:
        pytest.skip(f"{PACKAGE} is not installed (extra [offline])")
    words = WordPiece.load(PACKAGE)
    settings = {"hidden": 384, "heads": 12, "layers": 6, "feed_forward": 1536, "dropout": 0.0}
    own = build(settings, words=len(words), channels=CHANNELS, answers=3)
    load_bert(own, PACKAGE)
    theirs = BertModel.from_pretrained(folder).eval()
    tokens, mask = words.encode_batch(["a red ball on the left", "what is it?"])
    with torch.no_grad():
        expected = theirs(input_ids=tokens, attention_mask=mask.long())
        sequence, pooled = text_alone(own, tokens, mask)
    assert torch.allclose(sequence[mask], expected.last_hidden_state[mask], atol=1e-4)
    assert torch.allclose(pooled, expected.pooler_output, atol=1e-4)
