"""State dicts named as MMF names them, small and random: what a released checkpoint looks like from outside."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from clipvil.convert import mmf_movie_mcan, mmf_pythia

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


def released(source: str, channels: int = CHANNELS) -> dict[str, Tensor]:
    """A state dict as of `mmf-pythia` or `mmf-movie-mcan`, with the keys that the original holds beside its weights."""
    kind, settings = (mmf_pythia, PYTHIA) if source == "mmf-pythia" else (mmf_movie_mcan, MOVIE_MCAN)
    torch.manual_seed(0)
    model = kind.build(settings, words=len(WORDS) + 4, answers=len(ANSWERS) + 1, channels=channels)
    state = {kind.source_name(name): tensor.clone() for name, tensor in model.state_dict().items()}
    if source == "mmf-movie-mcan":
        for layer in range(2):
            for leaf in ("weight", "bias"):
                state[f"image_feature_embeddings_list.sga.self_guided_attns.{layer}.ln_mha.2.{leaf}"] = torch.ones(16)
    return state


def text_files(folder: Path) -> tuple[Path, Path]:
    """The two text files that MMF reads beside a checkpoint."""
    words, answers = folder / "vocabulary.txt", folder / "answers.txt"
    words.write_text("\n".join(WORDS) + "\n")
    answers.write_text("\n".join(("<unk>", *ANSWERS)) + "\n")
    return words, answers
