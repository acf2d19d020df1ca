"""What `accelerate launch --use_fsdp` starts in the tests: runs of a plan, and that their parameters were sharded."""

from __future__ import annotations

import sys
from pathlib import Path

from clipvil.training.sharding import ShardedLosses
from tests.training import distributed_pictures


def main(plan: Path) -> None:
    """Every run of a plan, as in `distributed_pictures`; beside it, what each process held and how it was cut."""
    made: list[ShardedLosses] = []
    plain = ShardedLosses.__init__

    def remembered(self: ShardedLosses, *arguments: object) -> None:
        plain(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    ShardedLosses.__init__ = remembered  # type: ignore[method-assign,assignment]
    distributed_pictures.main(plan)
    import torch

    lines = []
    for found in made:
        parameters = list(found.parameters())
        here = sum(p.to_local().numel() for p in parameters)  # type: ignore[operator]
        lines.append(f"{sum(p.numel() for p in parameters)} {here} {len(found.units)}\n")
    plan.with_suffix(f".held{torch.distributed.get_rank()}").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
