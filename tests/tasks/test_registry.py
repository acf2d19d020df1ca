from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from clipvil.errors import UsageError
from clipvil.tasks import registry
from clipvil.tasks.vqa import Vqa


def test_known_and_unknown_tasks() -> None:
    assert isinstance(registry.create_task("vqa", {}), Vqa)
    with pytest.raises(UsageError, match="unknown task 'vqas'; did you mean 'vqa'"):
        registry.create_task("vqas", {})
    with pytest.raises(UsageError, match=r"unknown task 'sorting'; known are .*vqa"):
        registry.create_task("sorting", {})


def test_registering_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    registry.register_task("mine", lambda settings: Vqa(settings))
    assert isinstance(registry.create_task("mine", {"max_tokens": 3}), Vqa)
    assert "mine" in registry.list_tasks()
    for name in ("mine", "vqa"):
        with pytest.raises(UsageError, match="already a task"):
            registry.register_task(name, lambda settings: Vqa(settings))


def test_tasks_of_third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("theirs", "clipvil.tasks.vqa:Vqa", registry.GROUP)

    def entry_points(*, group: str) -> list[Any]:
        return [entry] if group == registry.GROUP else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert isinstance(registry.create_task("theirs", {}), Vqa)
    assert "theirs" in registry.list_tasks()
