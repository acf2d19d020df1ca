"""Random numbers of a run as a pure function of (seed, purpose, step): nothing to save, nothing to restore."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_everything(*parts: int | str) -> None:
    """Seed Python, NumPy and torch from the parts, as (seed, "step", 17, rank).

    Called before the model is built, before every training step and before every batch is put together. So dropout
    at step 17 is the same whether the run came there in one go or was killed and resumed at step 15, whether an
    evaluation lay between, and however many loader workers there were.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    random.seed(digest)
    # The loop owns the process: a task may use the global generators of any of the three libraries.
    np.random.seed(int.from_bytes(digest[:4], "little"))  # noqa: NPY002
    seed = int.from_bytes(digest[4:11], "little")
    # Not torch.manual_seed: where CUDA was never used it keeps a call with a formatted traceback for later, every time;
    # a millisecond a step, and memory that grows for as long as the run lasts.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def deterministic(most_threads: int | None = None) -> Iterator[None]:
    """Inside, torch uses deterministic algorithms and the cores this process may use; afterwards what it used before.

    At most `most_threads` of them (None: all), and no more than an explicit OMP_NUM_THREADS. The number of threads
    decides the order of sums, so bit-identical weights need the same number of threads.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    threads = torch.get_num_threads()
    # cuBLAS is deterministic only with a fixed workspace; it reads the variable when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # On a GPU a few operators have no deterministic form: there we warn, on a CPU the promise is kept or broken loudly.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Filling fresh memory would cost time in every operator and changes nothing that is ever read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    wanted = threads
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        wanted = len(os.sched_getaffinity(0))
    torch.set_num_threads(min(wanted, most_threads or wanted))
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.set_num_threads(threads)
