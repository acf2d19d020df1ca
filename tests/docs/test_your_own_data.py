"""The table of docs/your-own-data.md is split as the page says."""

from __future__ import annotations

import re
from pathlib import Path

from clipvil.datasets.registry import load, split_names

PAGE = Path(__file__).parents[2] / "docs" / "your-own-data.md"


def test_the_example_table_has_a_picture_for_every_split(tmp_path: Path) -> None:
    found = re.search(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "my.csv").write_text(found[1], encoding="utf-8")
    data = {"format": "custom", "root": str(tmp_path), "questions": "my.csv"}
    parts = {split: load(data, split) for split in split_names(data)}
    assert {name: len(part.pictures) for name, part in parts.items()} == {"train": 1, "val": 1, "test": 1}
    assert {record.answer_type for part in parts.values() for record in part.records} == {"yes/no", "number", "other"}
