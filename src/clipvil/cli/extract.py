"""`clipvil extract`: pictures in, a feature store out."""

from __future__ import annotations

from pathlib import Path

import typer

_KINDS = "folder, csv, jsonl, coco, karpathy, tar or zip, where it cannot be told; views or skybox for panoramas."


def extract(
    images: str = typer.Argument(
        ..., help="A folder, a CSV/JSONL list, COCO or Karpathy JSON, tar shards ('a-*.tar') or a zip."
    ),
    encoder: str = typer.Option(..., "--encoder", help="As in open_clip/RN50:openai; see `clipvil encoders`."),
    out: Path = typer.Option(..., "--out", help="The folder of the store; an unfinished one is gone on with."),
    resize: str = typer.Option("square", "--resize", help="native, square, warp:HxW, clipvil-vqa, …"),
    layer: str | None = typer.Option(None, "--layer", help="Where the grid is taken: last, block:-2, stage:3, …"),
    positions: str = typer.Option("resized", "--positions", help="resized, or zero (a published mistake)."),
    precision: str = typer.Option("auto", "--precision", help="auto, fp32, bf16 or fp16."),
    dtype: str = typer.Option("float16", "--dtype", help="Of the stored grids: float16, bfloat16 or float32."),
    pooled: bool = typer.Option(True, "--pooled/--no-pooled", help="Store the pooled vector as well."),
    shard: str = typer.Option("1/1", "--shard", help="i/n: do the i-th of n parts; n processes may share one OUT."),
    kind: str | None = typer.Option(None, "--kind", help=_KINDS),
    folder: Path | None = typer.Option(None, "--images", help="Where the relative paths of a list or JSON start."),
    graphs: Path | None = typer.Option(
        None, "--graphs", help="Of panoramas: connectivity files, for poses and for which viewpoints count."
    ),
    bgr: bool = typer.Option(False, "--bgr", help="Swap red and blue first, as for CLIP-ViL's released views."),
    batch_size: int | None = typer.Option(None, "--batch-size", min=1, help="Pictures a batch (32)."),
    shard_size: int | None = typer.Option(None, "--shard-size", min=1, help="Pictures a shard file (256)."),
    workers: int | None = typer.Option(None, "--workers", min=0, help="Decoding threads (one a core; 0: none)."),
    max_bad: str | None = typer.Option(
        None, "--max-bad", help="Exit with 3 if more fail: a count (10), a fraction (0.01) or 1%."
    ),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="Try pictures again that failed before."),
    backend: str = typer.Option("torch", "--backend", help="torch, openvino or onnx (the last two on the CPU)."),
    device: str | None = typer.Option(None, "--device", help="cpu or cuda[:i] (CUDA where there is one)."),
    engine: str = typer.Option("local", "--engine", help="local: this process."),
) -> None:
    """Encode every picture once and keep the grids in a feature store, resumable at any moment."""
    _check(engine, positions)
    from clipvil.features.extract import extract as run

    report = run(
        images,
        encoder=encoder,
        out=out,
        resize=f"bgr:{resize}" if bgr else resize,
        layer=layer,
        positions="zero" if positions == "zero" else "resized",
        precision=precision,
        dtype=dtype,
        shard=shard,
        workers=workers,
        batch_size=batch_size,
        shard_size=shard_size,
        max_bad=max_bad,
        retry_failed=retry_failed,
        store_pooled=pooled,
        kind=kind,
        images=folder,
        graphs=graphs,
        backend=backend,
        device=device,
    )
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _check(engine: str, positions: str) -> None:
    """Refuse unknown choices before anything heavy is imported."""
    from clipvil.errors import UsageError

    if engine != "local":
        raise UsageError(f"unknown engine '{engine}'; known: local (for several machines use --shard i/n)")
    if positions not in ("resized", "zero"):
        raise UsageError(f"--positions must be resized or zero, not '{positions}'")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("extract")(extract)
