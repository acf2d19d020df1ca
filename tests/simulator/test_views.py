from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from clipvil.simulator.tables import ScanTables
from clipvil.simulator.views import TURN, VIEW_HEADING, angle_features, snap, turns_to, view_angle_table
from tests.shared import shared
from tests.simulator.recorded import fixture, fixture_graphs


def test_recorded_angles_snap() -> None:
    table = np.array(fixture("simulator_rollouts.json")["snap_table"])
    assert snap(table[:, 0], table[:, 1]).tolist() == table[:, 2].astype(int).tolist()


def test_halves_turn_away_from_zero_and_the_rows_are_cut_strictly() -> None:
    assert snap(np.pi / 12, np.pi / 12) == 13 and snap(-np.pi / 12 - 1e-9, -np.pi / 12) == 23
    assert snap(0, np.pi / 12 + 1e-9) == 24 and snap(0, -np.pi / 12 - 1e-9) == 0
    with pytest.raises(ValueError, match="finite"):
        snap(float("inf"), 0)


def test_turns_keep_to_the_three_rows() -> None:
    assert TURN[35, 2, 2] == 24 and TURN[0, 0, 0] == 11 and TURN[17, 1, 1] == 17


def test_turning_to_a_view_arrives() -> None:
    for view in range(36):
        for target in range(36):
            here = view
            for right, up in turns_to(view, target):
                assert right >= 0
                here = int(TURN[here, right + 1, up + 1])
            assert here == target


def test_recorded_angle_features() -> None:
    kept = load_file(shared("fixtures", "navigation", "angle_features.safetensors"))
    size = kept["angle_features"].shape[1]
    assert np.abs(view_angle_table(size) - kept["view_angle_table"]).max() < 1e-6
    assert np.abs(angle_features(*kept["angles"].T, size) - kept["angle_features"]).max() < 1e-6
    with pytest.raises(ValueError, match="multiple of 4"):
        angle_features(0.0, 0.0, 6)


def test_recorded_candidate_features() -> None:
    kept = load_file(shared("fixtures", "navigation", "angle_features.safetensors"))
    graph = fixture_graphs()["YmJkqBEsHnH"]
    table, place = ScanTables(graph).panoramic, graph.index["82ea5baa30f945fe98f6cad3064af847"]
    for base, expected in zip(kept["candidate_base_views"], kept["candidate_features"], strict=True):
        count = int(table.count[place])
        heading = table.bearing[place, :count] - VIEW_HEADING[base]
        angles = angle_features(heading, table.elevation[place, :count], expected.shape[1] - 5)
        found = np.concatenate([kept["candidate_views"][table.view[place, :count]], angles], axis=1)
        assert np.abs(found - expected[:count]).max() < 1e-6
        assert not expected[count:].any()
