"""`clipvil navigation`: corpora, vocabularies and agents without learning of the navigation task."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the group to the table."""
    group = typer.Typer(help="Prepare navigation corpora, and walk agents that learn nothing.", no_args_is_help=True)
    group.callback()(_group)
    for command in (r4r, vocabulary, walk, houses):
        group.command(command.__name__)(command)
    app.add_typer(group, name="navigation")


def _group() -> None:
    """Prepare navigation corpora, and walk agents that learn nothing."""


_EPISODES = typer.Option(..., "--episodes", help="R2R or R4R JSON, or an RxR guide file.")
_GRAPHS = typer.Option(..., "--graphs", help="The folder of the files <scan>_connectivity.json.")


def r4r(
    episodes: Path = typer.Option(..., "--episodes", help="R2R JSON."),
    graphs: Path = _GRAPHS,
    out: Path = typer.Option(..., "--out", help="The R4R JSON to write."),
    threshold: float = typer.Option(3.0, "--threshold", min=0.0, help="Largest gap between two paths, in metres."),
) -> None:
    """Build R4R: join the paths of R2R that begin near where others end."""
    from clipvil.datasets.connectivity import Graphs
    from clipvil.datasets.r4r import build, write_r4r

    built = build(episodes, Graphs(graphs), threshold=threshold)
    write_r4r(built, out)
    typer.echo(
        f"{len(built.rows)} paths, {built.instructions} instructions in {out}; {built.too_far} pairs too far apart"
    )
    typer.echo(f"mean length {built.mean('distance'):.4f} m, {built.mean('path'):.4f} viewpoints")
    typer.echo(
        f"mean shortest {built.mean('shortest_path_distance'):.4f} m, {built.mean('shortest_path'):.4f} viewpoints"
    )


def vocabulary(
    episodes: Path = _EPISODES,
    out: Path = typer.Option(..., "--out", help="The vocabulary to write, one word a line."),
    min_count: int = typer.Option(5, "--min-count", min=1, help="Keep words this frequent."),
    language: str | None = typer.Option(None, "--language", help="Of RxR: en, hi or te [default: all]."),
) -> None:
    """Write the word vocabulary of a training file by the published rule."""
    from clipvil.datasets.any_episodes import read_any
    from clipvil.errors import DataError
    from clipvil.tasks.navigation_text import words_of
    from clipvil.text.instructions import InstructionVocabulary

    records = [r for r in read_any(episodes) if language is None or r.language.split("-")[0] == language]
    if not records:
        raise DataError(f"holds no instructions in the language {language!r}", file=episodes)
    words = InstructionVocabulary.build(map(words_of, records), min_count=min_count)
    words.save(out)
    typer.echo(f"{len(words) - 1} lines ({len(words.words)} words) of {len(records)} instructions in {out}")


def walk(
    episodes: Path = _EPISODES,
    graphs: Path = _GRAPHS,
    out: Path = typer.Option(..., "--out", help="The submission to write (R2R: .json, RxR: .jsonl)."),
    agent: str = typer.Option("shortest", "--agent", help="shortest, reference, random or stop."),
    seed: int = typer.Option(0, "--seed", help="Of the random agent."),
    turns: bool = typer.Option(
        True, "--turns/--moves", help="Write camera turns as steps of their own, or moves alone."
    ),
) -> None:
    """Walk an agent that learns nothing through all episodes and write its submission."""
    from clipvil.datasets.any_episodes import read_any
    from clipvil.datasets.connectivity import Graphs
    from clipvil.datasets.trajectories import write_r2r, write_rxr
    from clipvil.simulator.agents import named_agent
    from clipvil.simulator.agents import walk as walk_all
    from clipvil.simulator.world import World

    houses = Graphs(graphs)
    records = read_any(episodes, graphs=houses)
    world = World(houses, (record.scan for record in records))
    walks = walk_all(world, records, named_agent(agent, world, records, seed), turns=turns)
    (write_rxr if out.suffix == ".jsonl" else write_r2r)(walks, out)
    typer.echo(f"{len(walks)} trajectories in {out}")


def houses(
    directory: Path = typer.Argument(..., metavar="DIR", help="Folder that receives the houses."),
    seed: int = typer.Option(0, "--seed", help="Another seed gives other houses."),
    sizes: str = typer.Option("", "--sizes", help="Houses a group, as in train=36,val_unseen=6,test=12."),
    force: bool = typer.Option(False, "--force", help="Replace other houses in this folder."),
) -> None:
    """Write miniature houses: R2R JSON, connectivity files, and 36 rendered views a viewpoint."""
    from clipvil.cli.mini import parse_sizes
    from clipvil.mini.house_corpus import write_houses

    corpus = write_houses(directory, parse_sizes(sizes) if sizes else None, seed, force=force)
    typer.echo(f"{corpus.root}: {corpus.houses} houses, {corpus.viewpoints} viewpoints, {corpus.views} views")
    for split, count in corpus.instructions.items():
        typer.echo(f"  {split:<12} {count:>6} instructions")
