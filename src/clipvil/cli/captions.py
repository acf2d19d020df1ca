"""`clipvil captions`: what self-critical training needs of a corpus beside its captions."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the group to the table."""
    group = typer.Typer(help="Prepare captions for training.", no_args_is_help=True)
    group.callback()(_group)
    group.command("document-frequencies")(document_frequencies)
    app.add_typer(group, name="captions")


def _group() -> None:
    """Prepare captions for training."""


def document_frequencies(
    captions: Path = typer.Argument(..., help="COCO or Karpathy JSON, {id: [captions]}, CSV, JSONL or a token file."),
    out: Path = typer.Option(..., "--out", help="The safetensors file to write."),
    vocabulary: Path | None = typer.Option(
        None, "--vocabulary", help="Vocabulary JSON of the captioner [default: built here, written beside --out]."
    ),
    min_count: int = typer.Option(6, "--min-count", min=1, help="Without --vocabulary: keep words this frequent."),
    split: str | None = typer.Option(None, "--split", help="Which split of a Karpathy file [default: train]."),
) -> None:
    """Count in how many pictures each n-gram occurs: the cached frequencies of the CIDEr-D reward.

    A Karpathy file's vocabulary is made from all its splits, as published, and its train holds restval.
    """
    from clipvil.datasets.caption_files import read_training_captions
    from clipvil.metrics.captions.reward import count_frequencies
    from clipvil.text.caption_vocabulary import CaptionVocabulary, caption_words

    chosen, everything = read_training_captions(captions, split=split or "train")
    if vocabulary is not None:
        words = CaptionVocabulary.load(vocabulary)
    else:
        words = CaptionVocabulary.build(caption_words(everything), min_count=min_count)
        path = out.with_suffix(".vocabulary.json")
        words.save(path)
        typer.echo(f"{len(words) - 1} words (unknown included) in {path}")
    frequencies = count_frequencies(chosen, words)
    frequencies.save(out)
    total = sum(map(len, frequencies.keys))
    typer.echo(f"{total} n-grams of {frequencies.documents} pictures in {out}")
