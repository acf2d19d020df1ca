from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

import pytest


@pytest.fixture(scope="session")
def server() -> ForkServerContext:
    """Children fork from a server that has imported everything and computed nothing: they start in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    # The second is what counting floating-point operations loads at the end of a run, two seconds a child otherwise.
    context.set_forkserver_preload(["tests.features.test_kill", "tests.features.test_limits", "torch._dynamo"])
    return context
