"""`clipvil encoders [PATTERN]`: which encoders can be named, and what one of them is."""

from __future__ import annotations

import typer

_HINT = (
    "also: hf/OWNER/NAME and hf/FOLDER; :random for untrained weights; a local file or folder in place of a tag, as in "
    "open_clip/RN50:/a/file.safetensors or open_clip/local-dir:/a/folder"
)


def encoders(
    pattern: str = typer.Argument("*", help="Glob over names, as in 'mini/*' or '*RN50*:openai'; or part of a name."),
    about: bool = typer.Option(False, "--about", help="Build the encoder of this exact name and print its facts."),
    layer: str | None = typer.Option(None, help="With --about: last, block:K, stage:K, and +norm or +norm+proj."),
) -> None:
    """List encoders by name. Nothing is downloaded, except by --about for a name that asks for it."""
    if about:
        _about(pattern, layer)
        return
    from clipvil.encoders.registry import list_encoders, nearest
    from clipvil.errors import UsageError

    found = list_encoders(pattern)
    if not found:
        near = nearest(pattern)
        raise UsageError(f"no encoder matches '{pattern}'; {'nearest: ' + ', '.join(near) if near else 'try *'}")
    width = max(len(info.name) for info in found)
    for info in found:
        typer.echo(f"{info.name:<{width}}  {info.weights}")
    typer.echo(f"{len(found)} encoders; {_HINT}", err=True)


def _about(name: str, layer: str | None) -> None:
    from clipvil.encoders.cost import gflops, parameters
    from clipvil.encoders.registry import create_encoder

    encoder = create_encoder(name, layer=layer)
    preprocess = encoder.preprocess
    height, width = preprocess.size
    facts = {
        "name": encoder.name,
        "layer": encoder.layer,
        "grid": f"{encoder.grid_channels} channels, one cell every {encoder.stride} pixels",
        "pooled": f"{encoder.pooled_channels} channels" if encoder.pooled_channels else "none",
        "size": f"{height}x{width}, {preprocess.interpolation}",
        "mean": " ".join(f"{value:.6g}" for value in preprocess.mean),
        "std": " ".join(f"{value:.6g}" for value in preprocess.std),
        "parameters": f"{parameters(encoder) / 1e6:.1f} M",
        "operations": f"{gflops(encoder, (height, width)):.2f} GFLOPs a picture of that size (a multiply-add is two)",
        "fingerprint": encoder.fingerprint(),
    }
    for key, value in facts.items():
        typer.echo(f"{key:<12}{value}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("encoders")(encoders)
