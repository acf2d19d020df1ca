from __future__ import annotations

import numpy as np
import pytest

from clipvil.simulator.tables import ScanTables
from tests.simulator.recorded import fixture, fixture_graphs, real_graphs


def test_recorded_candidates_and_views() -> None:
    compared = 0
    for scan in fixture("simulator_candidates.json")["scans"]:
        tables = ScanTables(fixture_graphs()[scan["scan"]])
        wide, near = tables.panoramic, tables.in_view
        for place in scan["viewpoints"]:
            i, expected = place["ix"], place["candidates"]
            count = int(wide.count[i])
            assert wide.viewpoint[i, :count].tolist() == [c["ix"] for c in expected]
            assert wide.view[i, :count].tolist() == [c["pointId"] for c in expected]
            assert wide.place[i, :count].tolist() == [c["idx"] for c in expected]
            for found, name in (
                (wide.bearing, "bearing"),
                (wide.elevation, "elevation"),
                (wide.distance, "distance"),
                (wide.off, "angular_distance"),
            ):
                assert found[i, :count] == pytest.approx([c[name] for c in expected], abs=1e-7)
            compared += count
            for view, listed in enumerate(place["views"]):
                seen = int(near.count[i, view])
                assert near.viewpoint[i, view, 1:seen].tolist() == [entry[0] for entry in listed]
                assert near.heading[i, view, 1:seen] == pytest.approx([entry[1] for entry in listed], abs=1e-6)
                assert near.elevation[i, view, 1:seen] == pytest.approx([entry[2] for entry in listed], abs=1e-6)
    assert compared == 172


def test_every_neighbour_is_a_candidate_and_looks_where_the_closed_form_says() -> None:
    total = 0
    for graph in real_graphs().values():
        table = ScanTables(graph).panoramic
        assert (table.count == graph.degree).all()
        real = table.viewpoint >= 0
        row = 1 + (table.elevation > np.pi / 12).astype(int) - (table.elevation < -np.pi / 12)
        column = np.round(table.bearing / (np.pi / 6)).astype(int) % 12
        assert (table.view[real] == (12 * row + column)[real]).all()
        total += int(table.count.sum())
    assert total == 2 * 15387
