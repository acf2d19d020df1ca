from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.compare.axes import Scale, log_padded, padded, spread, tick_label

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


def test_a_scale_maps_its_ends_and_middle() -> None:
    assert [Scale(0, 10, 100, 200)(v) for v in (0, 5, 10)] == [100, 150, 200]
    assert [Scale(1, 100, 0, 2, log=True)(v) for v in (1, 10, 100)] == pytest.approx([0, 1, 2])


@given(values)
def test_any_values_get_a_domain_that_holds_them_and_ticks_inside(numbers: list[float]) -> None:
    low, high = padded(numbers)
    assert low <= min(numbers) and max(numbers) <= high and high > low
    ticks = Scale(low, high, 0, 1).ticks(5)
    span = high - low
    assert 2 <= len(ticks) <= 11 and all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in ticks)


@given(st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=8))
def test_any_positive_values_get_a_log_axis_with_ticks(numbers: list[float]) -> None:
    low, high = log_padded(numbers)
    assert 0 < low < min(numbers) and max(numbers) < high and high / low >= 1.3
    ticks = Scale(low, high, 0, 1, log=True).ticks(5)
    assert ticks and all(low <= tick <= high for tick in ticks)


@given(st.lists(st.floats(0, 300), min_size=1, max_size=10))
def test_labels_keep_their_order_and_distance(wanted: list[float]) -> None:
    places = spread(wanted, 16, 0, 300)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gaps = [places[b] - places[a] for a, b in pairwise(order)]
    assert all(gap >= 16 - 1e-6 for gap in gaps)
    assert min(places) >= 0 and max(places) <= 300


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([10.0, 50.0, 90.0], 16, 0, 100) == [10.0, 50.0, 90.0]


def test_labels_that_collide_move_apart_evenly() -> None:
    assert spread([50.0, 50.0], 16, 0, 100) == [42.0, 58.0]


@pytest.mark.parametrize(
    ("value", "label"), [(0.5, "0.5"), (20, "20"), (-5, "−5"), (1000, "1,000"), (50000, "50 k"), (2e6, "2 M")]
)
def test_tick_labels_are_short(value: float, label: str) -> None:
    assert tick_label(value) == label
