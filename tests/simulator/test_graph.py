from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.datasets.connectivity import Graphs, graph_from_rows, read_graph
from clipvil.errors import DataError
from clipvil.simulator.graph import Graph, find_graph
from tests.simulator.build import SIDES, SQUARE, rows, square, write
from tests.simulator.recorded import fixture, fixture_graphs, real_graphs


def test_recorded_distances_and_next_hops() -> None:
    for scan in fixture("graph_distances.json")["scans"]:
        graph = fixture_graphs()[scan["scan"]]
        linked = graph.degree > 0
        assert int(linked.sum()) == scan["nodes"] and int(graph.adjacent.sum()) == 2 * scan["edges"]
        assert [graph.viewpoints[i] for i in np.flatnonzero(graph.included & ~linked)] == scan["isolated"]
        inside = graph.distance[np.ix_(linked, linked)]
        assert inside.mean() == pytest.approx(scan["mean_all_pairs"], rel=1e-9)
        for start, goal, metres, hops, following in scan["pairs"]:
            a, b = graph.index[start], graph.index[goal]
            assert graph.distance[a, b] == pytest.approx(metres, rel=1e-9)
            assert graph.viewpoints[graph.next_hop[a, b]] == following
            assert len(graph.shortest_path(a, b)) == hops + 1


def test_all_real_graphs_have_the_published_counts() -> None:
    graphs = list(real_graphs().values())
    assert len(graphs) == 56 and sum(map(len, graphs)) == 7652
    assert sum(int(graph.included.sum()) for graph in graphs) == 7477
    assert sum(int(graph.degree.sum()) for graph in graphs) == 2 * 15387


def test_ways_of_equal_length_go_as_networkx_goes() -> None:
    networkx = pytest.importorskip("networkx")
    generator = np.random.default_rng(0)
    for _ in range(5):
        # A grid with some edges missing: nearly every pair has several shortest ways.
        names = {f"{x}{y}": (float(x), float(y), 0.0) for x in range(5) for y in range(4)}
        near = [(a, b) for a in names for b in names if a < b and np.hypot(*np.subtract(names[a], names[b])[:2]) < 1.1]
        edges = [edge for edge in near if generator.random() < 0.85]
        graph = graph_from_rows(rows(names, edges), "made", "grid")
        other = networkx.Graph()
        for here in range(len(graph)):
            for there in np.flatnonzero(graph.adjacent[here]):
                other.add_edge(
                    here, int(there), weight=float(np.linalg.norm(graph.position[here] - graph.position[there]))
                )
        for start, ways in networkx.all_pairs_dijkstra_path(other):
            for goal, way in ways.items():
                assert graph.next_hop[start, goal] == (way[1] if len(way) > 1 else goal)


def test_a_place_that_is_not_included_is_out_of_reach(tmp_path: Path) -> None:
    graph = square(tmp_path)["house"]
    off, far = graph.index["off"], graph.index["far"]
    assert np.isinf(graph.distance[far, off]) and graph.next_hop[far, off] == -1
    assert not graph.adjacent[far, off]
    with pytest.raises(DataError, match="viewpoint off is not included"):
        graph.find("off")
    with pytest.raises(DataError, match="no way from"):
        graph.shortest_path(far, off)
    with pytest.raises(DataError, match="has no viewpoint 'attic'"):
        graph.find("attic")


def _broken(change: Any) -> list[dict[str, Any]]:
    content = rows(SQUARE, SIDES)
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[1].pop("pose"), "row 2, field 'pose': is missing"),
        (lambda c: c[1].update(pose=[1.0] * 15), "row 2, field 'pose': must be a list of 16"),
        (lambda c: c[1]["pose"].__setitem__(3, "2"), "row 2, field 'pose': must hold finite numbers"),
        (lambda c: c[1]["pose"].__setitem__(3, 1e300), "row 2, field 'pose': must hold finite numbers"),
        (lambda c: c[2].update(included=1), "row 3, field 'included': must hold nothing but true and false"),
        (lambda c: c[2].update(unobstructed=[True]), "holds 1 values, but the file has 6 viewpoints"),
        (lambda c: c[3].update(image_id="sw"), "viewpoint sw already stands in row 1"),
        (lambda c: c[0]["unobstructed"].__setitem__(4, True), "leads to row 5, which does not lead back"),
        (lambda c: c[0]["unobstructed"].__setitem__(0, True), "leads to itself"),
        (lambda c: c.clear(), "must be a list of viewpoints"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: Any, message: str) -> None:
    path = write(tmp_path, "house", _broken(change))
    with pytest.raises(DataError) as caught:
        read_graph(path)
    assert message in str(caught.value) and "house_connectivity.json" in str(caught.value)


def test_a_folder_reads_what_is_asked_for_and_names_what_it_lacks(tmp_path: Path) -> None:
    graphs = square(tmp_path)
    (tmp_path / "broken_connectivity.json").write_text("[")
    graphs = Graphs(tmp_path)
    assert isinstance(find_graph(graphs, "house"), Graph)
    with pytest.raises(DataError, match="no graph of the scan 'barn'; there are 2: broken, house"):
        find_graph(graphs, "barn")
    with pytest.raises(DataError, match="holds no files"):
        Graphs(tmp_path.parent / tmp_path.name / ".." / tmp_path.name / "..")
    with pytest.raises(DataError, match="no such folder"):
        Graphs(tmp_path / "none")
