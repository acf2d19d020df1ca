"""What `accelerate launch --use_fsdp` starts in the tests: the run of a plan, and a note of what each process held."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clipvil.training.sharding import ShardedLosses
from tests.training import distributed_pictures


def main(plan: Path) -> None:
    """The run of a plan, as in `distributed_pictures`. PLAN.held<rank>: numbers of the model, held here, blocks."""
    plain = ShardedLosses.__init__

    def noting(self: ShardedLosses, *arguments: object) -> None:
        plain(self, *arguments)  # type: ignore[arg-type]
        parameters = list(self.parameters())
        here = sum(p.to_local().numel() for p in parameters)  # type: ignore[operator]
        with plan.with_suffix(f".held{os.environ['RANK']}").open("a") as stream:
            stream.write(f"{sum(p.numel() for p in parameters)} {here} {len(self.units)}\n")

    ShardedLosses.__init__ = noting  # type: ignore[method-assign,assignment]
    distributed_pictures.main(plan)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
