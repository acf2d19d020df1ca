"""A process that trains cells of one comparison, started by `clipvil.compare.parallel`.

It reads JSON lines: first `{"suite": ..., "out": ..., "contents": ..., "left_out": ...}`, then `{"cell": path}` one at
a time, and answers each cell with `{"cell": path, "error": text or null}`. When its input ends, so does it, in the
middle of a cell if need be: whoever started it is gone, and an orphan would hold the run's folder against the next
attempt.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    # Standard output carries the answers alone; whatever libraries print goes to standard error.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Ctrl-C reaches the whole process group; the parent decides, and its end is this input's end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    from clipvil.compare.cells import one_line, run_cell
    from clipvil.compare.plan import make_plan
    from clipvil.compare.stores import stored_features
    from clipvil.compare.suite import Suite

    start = lines.get()
    # What the parent found out of encoders and pictures is taken over: it would cost time to find out again, and could
    # come out differently if a file changed meanwhile.
    plan = make_plan(Suite.from_values(start["suite"]), Path(start["out"]), start["contents"])
    plan = plan.leaving_out(start["left_out"])
    cells = {cell.path: cell for cell in plan.runs()}
    while True:
        path = lines.get()["cell"]
        error = None
        try:
            cell = cells[path]
            features = stored_features(cell, plan)
            run_cell(cell, plan.out, features, keep=plan.keeps_checkpoints(cell), quiet=True)
        except Exception as problem:
            error = one_line(problem)
        answers.write(json.dumps({"cell": path, "error": error}) + "\n")
        answers.flush()


def _listen(lines: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        lines.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
