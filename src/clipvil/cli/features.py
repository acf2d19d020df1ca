"""`clipvil features`: look into a feature store, fill it from other people's files, write it as such."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from clipvil.features.foreign.base import Options


def info(
    store: Path = typer.Argument(..., help="The folder of the store."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """What a store holds: encoder, policy, counts, failures, cost; exit code 1 if a data file is gone."""
    import json

    from clipvil.features.info import describe

    about = describe(store)
    typer.echo(json.dumps(about.to_json(), indent=1) if as_json else "\n".join(about.lines()))
    if about.missing:
        raise typer.Exit(1)


def verify(
    store: Path = typer.Argument(..., help="The folder of the store."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Read the whole store and check every record; exit code 1 if it is damaged or incomplete."""
    import json

    from clipvil.features.verify import verify as check

    report = check(store)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        for problem in report.problems:
            typer.echo(f"PROBLEM  {problem}")
        held = f"{report.pictures} pictures, {report.failed} failed, {report.shards} shards, {report.bytes} bytes"
        typer.echo(f"{store}: {'sound' if report.ok else f'{len(report.problems)} problem(s)'}; {held}")
    if not report.ok:
        raise typer.Exit(1)


def import_(
    source: Path = typer.Argument(..., help="A folder of feature files, a TSV, an LMDB or an HDF5 file."),
    format: str = typer.Option(
        ...,
        "--format",
        help="mmf-npy, mmf-pth, clipvil-caption (SOURCE is what stands before _att), openai-clip-npz, bottom-up-tsv, "
        "lmdb, hdf5, vln-tsv or vln-hdf5 (36 views a viewpoint).",
    ),
    encoder_name: str = typer.Option(..., "--encoder-name", help="What results are to call the encoder."),
    out: Path = typer.Option(..., "--out", help="The folder of the store; an unfinished one is gone on with."),
    layout: str | None = typer.Option(None, "--layout", help="Order of the axes: hwc or chw (mmf-pth must say)."),
    grid: str | None = typer.Option(None, "--grid", help="HxW of grids stored flat (openai-clip-npz; square if left)."),
    channels: int | None = typer.Option(None, "--channels", min=1, help="Refuse records of another number."),
    ids: str = typer.Option(
        "stem", "--ids", help="Picture ids: stem (the file's name), or coco (the number in COCO_val2014_000000123456)."
    ),
    ids_file: Path | None = typer.Option(None, "--ids-file", help="Ids of a bottom-up HDF5: JSON {id: row} or lines."),
    pooled: bool = typer.Option(True, "--pooled/--no-pooled", help="Take pooled vectors where there are any."),
    dtype: str | None = typer.Option(
        None, "--dtype", help="float16, bfloat16 or float32; as the files have it, unrounded, when left out."
    ),
    shard: str = typer.Option("1/1", "--shard", help="i/n: do the i-th of n parts; n processes may share one OUT."),
    shard_size: int | None = typer.Option(
        None, "--shard-size", min=1, max=1 << 20, help="Pictures a shard file (256)."
    ),
    workers: int | None = typer.Option(None, "--workers", min=0, help="Reading threads (0: none)."),
    max_bad: str | None = typer.Option(
        None, "--max-bad", help="Exit with 3 if more fail: a count (10), a fraction (0.01) or 1%."
    ),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="Try pictures again that failed before."),
) -> None:
    """Bring features that others computed into a store; nothing is unpickled, what cannot be used is listed."""
    from typing import cast

    from clipvil.features.foreign.importing import import_features
    from clipvil.features.manifest import DType

    report = import_features(
        source,
        format=format,
        encoder_name=encoder_name,
        out=out,
        options=_options(layout, grid, channels, ids, ids_file, pooled),
        dtype=cast("DType | None", dtype),
        shard=shard,
        shard_size=shard_size,
        workers=workers,
        max_bad=max_bad,
        retry_failed=retry_failed,
    )
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _options(
    layout: str | None, grid: str | None, channels: int | None, ids: str, ids_file: Path | None, pooled: bool
) -> Options:
    from typing import cast

    from clipvil.errors import UsageError
    from clipvil.features.foreign.base import IdRule, Layout, Options

    for name, value, known in (("layout", layout, ("hwc", "chw")), ("ids", ids, ("stem", "coco"))):
        if value is not None and value not in known:
            raise UsageError(f"--{name} must be {' or '.join(known)}, not '{value}'")
    return Options(
        layout=cast("Layout | None", layout),
        grid=_grid(grid),
        channels=channels,
        ids=cast(IdRule, ids),
        ids_file=ids_file,
        pooled=pooled,
    )


def _grid(text: str | None) -> tuple[int, int] | None:
    import re

    from clipvil.errors import UsageError

    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UsageError(f"--grid must read ROWSxCOLUMNS, as 18x31, not '{text}'")
    return int(match[1]), int(match[2])


def export(
    store: Path = typer.Argument(..., help="The folder of the store."),
    format: str = typer.Option(..., "--format", help="As for `clipvil features import`."),
    out: Path = typer.Option(..., "--out", help="A new folder for the files; a begun export is gone on with."),
) -> None:
    """Write a store as the files that MMF, captioning code and others read, exactly."""
    from clipvil.features.foreign.exporting import export_features

    export_features(store, format=format, out=out)


def register(app: typer.Typer) -> None:
    """Add the commands to the table."""
    features = typer.Typer(
        help="Look into a feature store; import and export feature files.", no_args_is_help=True, rich_markup_mode=None
    )
    features.command("info")(info)
    features.command("verify")(verify)
    features.command("import")(import_)
    features.command("export")(export)
    app.add_typer(features, name="features")
