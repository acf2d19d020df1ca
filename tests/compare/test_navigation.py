"""A comparison of navigation: rows without a model, and walks drawn on the plan of the house."""

from __future__ import annotations

from pathlib import Path

import yaml

from clipvil.compare.house_plan import Walk, draw_plan, plan_of, walls_of
from clipvil.compare.matrix import compare
from clipvil.compare.navigation_baselines import navigation_baselines
from clipvil.datasets.connectivity import Graphs
from clipvil.datasets.r2r import read_r2r
from tests.tasks.navigation_corpus import recipe, write_corpus


def test_agents_without_a_model_stand_between_nothing_and_everything(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    graphs = Graphs(tmp_path / "connectivity")
    rows = navigation_baselines("t", "test", read_r2r(tmp_path / "test.json"), graphs)
    found = {row.name: row for row in rows}
    assert found["shortest-path oracle"].mean.value == 100.0
    assert found["stops at once"].mean.value == 0.0
    # An odd number of moves never ends where an even one does: in this house the walker is near and never there.
    assert 0.0 < found["random walker"].breakdowns["metric"]["nDTW"].value < 100.0
    assert found["shortest-path oracle"].breakdowns["metric"]["SPL"].value == 100.0


def test_a_plan_shows_the_right_way_and_every_walk(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    graph = Graphs(tmp_path / "connectivity")["grid"]
    plan = plan_of(graph, [[0.0, 0.0, 8.0, 0.0]], ["r00", "r01", "r02"])
    assert len(plan.places) == 9
    assert len(plan.edges) == 12
    walks = [Walk(["r00", "r10"], "s1", "the walk with a"), Walk(["r00", "gone"], "s2", "not drawn")]
    drawn = draw_plan(plan, walks)
    assert drawn.count("<polyline") == 2
    assert "the walk with a" in drawn and "not drawn" not in drawn
    assert drawn.count('class="wall"') == 1
    assert "NaN" not in drawn.replace("nan", "NaN")


def test_walls_come_from_miniature_houses_alone(tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text('{"a": {"walls": [[0, 0, 1, 0]]}, "b": 3}')
    data = {"format": "mini_r2r", "root": str(tmp_path)}
    assert walls_of(data, "a") == [[0.0, 0.0, 1.0, 0.0]]
    assert walls_of(data, "b") == walls_of(data, "c") == walls_of({**data, "format": "r2r"}, "a") == []


def test_a_comparison_of_navigation_is_reported(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "corpus")
    store = tmp_path / "store"
    written = recipe(data).to_values()
    (tmp_path / "walk.yaml").write_text(yaml.safe_dump(written))
    write_views(store, tmp_path / "corpus" / "connectivity")
    results = compare(
        encoders=[f"store:{store}"], tasks=[str(tmp_path / "walk.yaml")], out=tmp_path / "out", quiet=True
    )
    assert not results.failures, results.failures
    row = results.row("walk", "test", "store:store")
    assert row is not None
    assert row.breakdowns["metric"].keys() == {"OSR", "SPL", "nDTW", "sDTW", "CLS"}
    assert {baseline.name for baseline in results.baselines} >= {"random walker", "shortest-path oracle"}
    html = (tmp_path / "out" / "report.html").read_text()
    assert 'class="plan"' in html
    assert "the right way" in html
    assert "success rate, %" in html


def write_views(store: Path, graphs: Path) -> None:
    """Random panoramas of all viewpoints, through the published TSV format."""
    import base64

    import numpy as np

    from clipvil.cli.main import main

    rng, graph = np.random.default_rng(0), Graphs(graphs)["grid"]
    lines = []
    for name in graph.viewpoints:
        values = rng.standard_normal((36, 6)).astype("<f4")
        lines.append(f"grid\t{name}\t640\t480\t60\t{base64.b64encode(values.tobytes()).decode()}\n")
    (store.parent / "views.tsv").write_text("".join(lines))
    command = ["features", "import", str(store.parent / "views.tsv"), "--format", "vln-tsv", "--out", str(store)]
    assert main([*command, "--encoder-name", "random"]) == 0
