"""State dicts named as their originals name them, small and random: what a released checkpoint looks like."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from clipvil.convert import clip_vil_captioner, mmf_movie_mcan, mmf_pythia
from clipvil.models.captioner_layers import sinusoids

WORDS = ("what", "color", "is", "the", "circle", "how", "many", "are", "there")
ANSWERS = ("yes", "no", "red", "blue", "2")
CHANNELS = 512  # of the grids of mini/contrastive

PYTHIA = {
    "word_size": 6,
    "lstm_size": 8,
    "question_hidden": 5,
    "attention_size": 24,
    "fusion_size": 10,
    "narrow_size": 4,
    "wide_size": 7,
}
MOVIE_MCAN = {
    "word_size": 6,
    "hidden": 16,
    "heads": 4,
    "text_layers": 1,
    "image_layers": 2,
    "movie_layers": 2,
    "movie_size": 16,
}

CAPTIONER = {"hidden": 16, "feed_size": 24, "heads": 4, "encoder_layers": 1, "decoder_layers": 2}


def released(source: str, channels: int = CHANNELS) -> dict[str, Tensor]:
    """A state dict as of a source's release, with the keys that the original holds beside its weights."""
    if source == "clip-vil-captioner":
        return _captioner(channels)
    kind, settings = (mmf_pythia, PYTHIA) if source == "mmf-pythia" else (mmf_movie_mcan, MOVIE_MCAN)
    torch.manual_seed(0)
    model = kind.build(settings, words=len(WORDS) + 4, answers=len(ANSWERS) + 1, channels=channels)
    state = {kind.source_name(name): tensor.clone() for name, tensor in model.state_dict().items()}
    if source == "mmf-movie-mcan":
        for layer in range(2):
            for leaf in ("weight", "bias"):
                state[f"image_feature_embeddings_list.sga.self_guided_attns.{layer}.ln_mha.2.{leaf}"] = torch.ones(16)
    return state


def _captioner(channels: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = clip_vil_captioner.build(CAPTIONER, words=len(WORDS) + 2, channels=channels)
    state = {clip_vil_captioner.source_name(name): tensor.clone() for name, tensor in model.state_dict().items()}
    return {**state, "model.tgt_embed.1.pe": sinusoids(5000, 16).unsqueeze(0)}


def word_file(folder: Path) -> Path:
    """The JSON that the captioning code reads beside a checkpoint: words from row 1 on, the unknown word last."""
    path = folder / "cocotalk.json"
    rows = {str(row): word for row, word in enumerate((*WORDS, "UNK"), start=1)}
    path.write_text(json.dumps({"ix_to_word": rows, "images": []}), encoding="utf-8")
    return path


def text_files(folder: Path) -> tuple[Path, Path]:
    """The two text files that MMF reads beside a checkpoint."""
    words, answers = folder / "vocabulary.txt", folder / "answers.txt"
    words.write_text("\n".join(WORDS) + "\n")
    answers.write_text("\n".join(("<unk>", *ANSWERS)) + "\n")
    return words, answers
