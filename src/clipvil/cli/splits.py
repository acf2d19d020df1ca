"""`clipvil splits`: lists of shots, and splits whose data are shifted, of any corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

_DATA = typer.Option(..., "--data", help="YAML with a data section (a recipe will do), or a table of questions.")
_OUT = typer.Option(..., "--out", help="File to write.")


def prior(
    data: Path = _DATA,
    out: Path = _OUT,
    pool: list[str] = typer.Option(["train", "val"], "--from", help="Splits whose questions are laid out anew."),
    seed: int = typer.Option(0, help="Another seed deals the answers in another way."),
    keep: float = typer.Option(0.15, min=0, max=1, help="Share of the questions that lean to the other side to keep."),
) -> None:
    """Lay a corpus of questions out anew, so that train and test disagree on likely answers (VQA-CP's idea).

    Writes lists for `format: listed`: train, val and test of one prior, and prior_shift of another.
    """
    from clipvil.datasets.listed import write_lists
    from clipvil.protocol.prior_shift import shift_priors

    section, splits = _read(data, pool)
    lists, about = shift_priors({name: one.records for name, one in splits.items()}, seed=seed, keep=keep)
    digest = write_lists(out, lists, keeps=False, about=about)
    for name, count in about["questions"].items():
        gap = about["prior_distance_from_train"].get(name)
        typer.echo(
            f"{name}: {count} questions about {about['pictures'][name]} pictures"
            + ("" if gap is None else f", answers {gap:.2f} from train's (total variation by type of question)")
        )
    typer.echo(f"dropped: {about['dropped']} questions that lean to the other side")
    _tell(out, digest, section)


def hypothesis_hard(
    data: Path = _DATA,
    out: Path = _OUT,
    test: str = typer.Option("test", help="The split whose hard pairs are wanted."),
) -> None:
    """List the pairs of an entailment test split that a model of the hypothesis alone gets wrong.

    The model is trained on train alone. Writes lists for `format: listed`: the corpus's own splits, and hard.
    """
    from clipvil.datasets.listed import write_lists
    from clipvil.protocol.hypothesis_hard import SPLIT, hard_pairs

    section, splits = _read(data, ["train", test])
    hard, about = hard_pairs(splits["train"].records, splits[test].records)
    digest = write_lists(out, {SPLIT: {test: hard}}, keeps=True, about=about)
    typer.echo(
        f"hard: {about['hard']} of {about['pairs']} pairs; the hypothesis alone gives {about['accuracy']} % away, the "
        f"commonest label {about['majority']} %"
    )
    _tell(out, digest, section)


def subset(
    data: Path = _DATA,
    out: Path = typer.Option(..., "--out", help="Folder that receives draw-D-N.json."),
    pictures: list[int] = typer.Option(..., "--pictures", min=1, help="How many training pictures; may be repeated."),
    draw: int = typer.Option(0, min=0, help="Another draw gives other pictures."),
) -> None:
    """Draw nested subsets of the training pictures, stratified by what is asked about them.

    Prints what a recipe's `training.subset` takes.
    """
    from clipvil.protocol.subsets import write_subset

    _, splits = _read(data, ["train"])
    for count in sorted(set(pictures)):
        one = write_subset(out / f"draw-{draw}-{count}.json", splits["train"].records, count, draw)
        strata = ", ".join(f"{name or 'none'} {number}" for name, number in one.strata.items())
        typer.echo(f"{one.pictures} pictures, {one.records} records ({strata})")
        typer.echo(f"  training.subset={{file: {one.file}, sha256: {one.sha256}}}")


def register(app: typer.Typer) -> None:
    """Add the group to the table."""
    group = typer.Typer(help="Lists of shots, and shifted splits, of any corpus.", no_args_is_help=True)
    group.command("prior")(prior)
    group.command("hypothesis-hard")(hypothesis_hard)
    group.command("subset")(subset)
    app.add_typer(group, name="splits")


def _read(data: Path, names: list[str]) -> tuple[dict[str, Any], dict[str, Dataset]]:
    """The data section, and some splits of it."""
    from clipvil.compare.suite import read_data
    from clipvil.training.inputs import load_datasets

    section = read_data(data)
    return section, dict(load_datasets(section, names))


def _tell(out: Path, digest: str, section: dict[str, Any]) -> None:
    import json

    entry = {"format": "listed", "lists": str(out), "sha256": digest, "of": section}
    typer.echo(f"{out}: written; the data section for it:\n  data={json.dumps(entry)}")
