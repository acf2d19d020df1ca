"""Navigation by word pieces and by a BERT that the test makes, beside words: read, trained, resumed, handed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipvil.errors import CheckpointError, DataError, RecipeError
from clipvil.models.envdrop_bert import BertInstructionEncoder, bert_sizes
from clipvil.models.envdrop_config import EnvDropConfig
from clipvil.records import Episode
from clipvil.tasks.navigation_settings import NavigationSettings
from clipvil.tasks.navigation_text import Words, check_length, encode_words, kept_words, learnt_words
from clipvil.text.instruction_pieces import InstructionPieces
from clipvil.text.wordpiece import SPECIAL, WordPiece
from clipvil.training.run import evaluate, train
from clipvil.training.run_files import read_run
from tests.tasks.navigation_corpus import recipe, write_corpus
from tests.training.stopping import stopped_after

PIECES = [*SPECIAL, "go", "walk", "and", "stop", "then", "north", "south", "east", "we", "##st", ".", "\u0909", "Go"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_corpus(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it: configuration, weights, pieces that tell cases apart."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    BertForMaskedLM(BertConfig(vocab_size=len(PIECES), max_position_embeddings=40, **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return folder


def told(instruction: str, **extra: Any) -> Episode:
    return Episode("1_0", "s", instruction, ("a", "b"), extra=extra)


def settings(**values: Any) -> NavigationSettings:
    return NavigationSettings.read({"min_word_count": 1, **values})


def test_pieces_begin_and_end_as_bert_reads_them() -> None:
    pieces = InstructionPieces(WordPiece(PIECES))
    ids = pieces.encode("Go west then up .", 20)
    assert [PIECES[i] for i in ids] == ["[CLS]", "go", "we", "##st", "then", "[UNK]", ".", "[SEP]"]
    assert pieces.decode([*ids, 5, 0]) == ["go", "west", "then", "[UNK]", "."]
    assert [PIECES[i] for i in pieces.encode("go west then", 4)] == ["[CLS]", "go", "we", "[SEP]"]
    assert (pieces.begin, pieces.end, pieces.unknown, len(pieces)) == (2, 3, 1, len(PIECES))


def test_a_vocabulary_is_built_from_the_corpus_or_read(tmp_path: Path) -> None:
    built = learnt_words(settings(text="wordpiece"), [told("Walk north."), told("walk south.")])
    batch = encode_words(built, settings(text="wordpiece"), [told("walk north"), told("walk")])
    assert batch["word_count"].tolist() == [4, 3]
    assert batch["words"][1].tolist() == [2, batch["words"][0, 1].item(), 3, 0]
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    read = learnt_words(settings(text="wordpiece", words=str(tmp_path)), [])
    assert len(read) == len(PIECES)
    again = kept_words(json.loads(json.dumps(read.to_assets())))
    assert again.to_assets() == read.to_assets() and again.kind == "wordpiece"


def test_a_bert_folder_says_whether_case_counts(bert: Path) -> None:
    words = learnt_words(settings(text="bert", bert=str(bert), max_words=40), [])
    assert words.kind == "bert"
    batch = encode_words(words, settings(max_words=40), [told("Go \u0909", words="other words")])
    # The raw instruction counts, not the words that a corpus parted for another vocabulary.
    assert [PIECES[i] for i in batch["words"][0]] == ["[CLS]", "Go", "\u0909", "[SEP]"]


@pytest.mark.parametrize("text", ["words", "wordpiece", "bert"])
def test_an_instruction_without_words_is_refused(text: str, bert: Path) -> None:
    chosen = settings(text=text, max_words=40, **({"bert": str(bert)} if text == "bert" else {}))
    words = learnt_words(chosen, [told("go")])
    with pytest.raises(DataError, match=r"^episode 1_0: an instruction with no words$"):
        encode_words(words, chosen, [told(" ... ")])


def test_a_bert_reads_as_transformers_does_and_padding_changes_nothing(bert: Path) -> None:
    from transformers import BertModel

    ours = BertInstructionEncoder(bert_sizes(bert), EnvDropConfig(hidden=16), trained=True)
    assert ours.load(bert) == len(ours.bert.state_dict())
    theirs = BertModel.from_pretrained(bert, add_pooling_layer=False).eval()
    ours.eval()
    ids = torch.tensor([[2, 5, 8, 9, 3], [2, 7, 3, 0, 0]])
    found = ours(ids, torch.tensor([5, 3]))
    alone = theirs(ids[1:, :3]).last_hidden_state
    assert torch.allclose(found.context[1, :3], ours.fit(alone)[0], atol=1e-5)
    assert torch.allclose(found.h[1], torch.tanh(ours.start(alone[0, 0])), atol=1e-5)
    assert found.mask.tolist() == [[False] * 5, [False] * 3 + [True] * 2]
    assert found.context.shape == (2, 5, 16) and torch.equal(found.h, found.c)


def test_a_bert_that_does_not_fit_changes_nothing(bert: Path, tmp_path: Path) -> None:
    ours = BertInstructionEncoder(bert_sizes(bert), EnvDropConfig(hidden=16), trained=False)
    before = {name: tensor.clone() for name, tensor in ours.bert.state_dict().items()}
    state = load_file(bert / "model.safetensors")
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    odd = {**state, "bert.embeddings.position_embeddings.weight": torch.zeros(41, 12)}
    lacking = {name: tensor for name, tensor in state.items() if "layer.1.output.dense.bias" not in name}
    more = {**state, "bert.encoder.layer.2.output.dense.bias": torch.zeros(12)}
    for kind, message in ((odd, r"is \(41, 12\), not \(40, 12\)"), (lacking, "is missing"), (more, "has not")):
        save_file(kind, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            ours.load(tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.bert.state_dict().items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": "letters"}, "'task_settings.text' must be words, wordpiece or bert"),
        ({"bert": "x"}, "'task_settings.bert' needs task_settings.text=bert"),
        ({"text": "wordpiece", "train_bert": True}, "'task_settings.train_bert' needs"),
        ({"text": "bert", "bert": "x", "words": "y"}, "is the BERT's own"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(**values)


def test_a_bert_must_be_named_had_and_long_enough(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"needs task_settings\.bert"):
        learnt_words(settings(text="bert"), [])
    words = learnt_words(settings(text="bert", bert=str(bert)), [])
    with pytest.raises(RecipeError, match="is 80, the BERT reads at most 40"):
        check_length(settings(), words)
    with pytest.raises(CheckpointError, match="no such folder"):
        learnt_words(settings(text="bert", bert=str(tmp_path / "gone")), [])


def asked(kind: str, bert: Path, **more: Any) -> dict[str, Any]:
    own = {"wordpiece": {}, "frozen": {"bert": str(bert)}, "trained": {"bert": str(bert), "train_bert": True}}[kind]
    return {"text": "wordpiece" if kind == "wordpiece" else "bert", "max_words": 20, **own, **more}


@pytest.mark.parametrize("kind", ["wordpiece", "frozen", "trained"])
def test_followers_train_and_ten_steps_twice_are_twenty(
    kind: str, bert: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(data, "schedule.steps=20", "training.evaluate_every=10", **asked(kind, bert))
    train(chosen, tmp_path / "once", quiet=True)
    with stopped_after(monkeypatch, 10):
        train(chosen, tmp_path / "twice", quiet=True)
    train(chosen, tmp_path / "twice", resume=True, quiet=True)
    once, twice = (load_file(tmp_path / name / "best.safetensors") for name in ("once", "twice"))
    assert all(torch.equal(once[name], tensor) for name, tensor in twice.items())
    if kind != "wordpiece":
        first = load_file(bert / "model.safetensors")
        name = "encoder.layer.0.output.dense.weight"
        kept = torch.equal(once[f"follower.encoder.bert.{name}"], first[f"bert.{name}"])
        assert kept == (kind == "frozen")
    # Judged again from the run alone.
    again = evaluate(tmp_path / "once", "test", quiet=True)
    assert again is not None
    assert again.overall == read_run(tmp_path / "once").scores["test"].overall


def test_a_trained_bert_has_its_own_rate(bert: Path, data: dict[str, Any], tmp_path: Path) -> None:
    still = ("trunk.optimiser.name=sgd", "trunk.optimiser.lr=1e-30", "schedule.steps=4")
    chosen = recipe(data, *still, **asked("trained", bert))
    assert chosen.hash() != recipe(data, "schedule.steps=4", **asked("trained", bert)).hash()
    train(chosen, tmp_path, quiet=True)
    now, first = load_file(tmp_path / "best.safetensors"), load_file(bert / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(now[f"follower.encoder.bert.{name}"], first[f"bert.{name}"])


@pytest.mark.parametrize("kind", ["wordpiece", "frozen"])
def test_speaker_and_back_translation_go_on_by_pieces(
    kind: str, bert: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    train(recipe(data, **asked(kind, bert)), tmp_path / "follower", quiet=True)
    start = f"init.run={tmp_path / 'follower'}"
    train(recipe(data, start, task="navigation_speaker", longest=9), tmp_path / "speaker", quiet=True)
    both = recipe(data, f"init.run={tmp_path / 'speaker'}", back_translation=True, min_hops=2, max_hops=3, max_words=20)
    train(both, tmp_path / "both", quiet=True)
    assert read_run(tmp_path / "both").result["init"]["taken"] == "speaker and follower"
    first, then = (load_file(tmp_path / name / "best.safetensors") for name in ("follower", "speaker"))
    assert all(torch.equal(then[name], tensor) for name, tensor in first.items())
    other = recipe(data, start, task="navigation_speaker", text="bert" if kind == "wordpiece" else "wordpiece")
    with pytest.raises(RecipeError, match="the run to start from reads by"):
        train(other, tmp_path / "other", quiet=True)


def test_damaged_pieces_are_said_so() -> None:
    with pytest.raises(CheckpointError, match="no list of words"):
        kept_words({})
    with pytest.raises(CheckpointError, match="the run's word pieces: the vocabulary lacks"):
        kept_words({"pieces": {"pieces": ["[PAD]"]}})
    assert isinstance(kept_words({"words": ["go"]}), Words)
