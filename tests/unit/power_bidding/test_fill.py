"""Missing hours: between known hours, after the last known hour, and in gaps that are too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_feeds.fill import CARRIED, INTERPOLATED, LONGEST_GAP_HOURS, filled


def test_hour_between_two_known_ones_is_interpolated():
    assert filled({9: 10.0, 11: 20.0}, 10) == (15.0, INTERPOLATED)
    assert filled({9: 10.0, 12: 40.0}, 10) == (20.0, INTERPOLATED)


def test_hour_after_the_last_known_one_is_carried():
    assert filled({7: 10.0}, 10) == (10.0, CARRIED)
    assert filled({9: 10.0, 20: 50.0}, 10) == (10.0, CARRIED)


@pytest.mark.parametrize("known", [{}, {6: 10.0}, {11: 10.0}, {9: None, 6: 1.0}])
def test_gap_that_is_too_long_stays_empty(known):
    assert filled(known, 10) is None


@given(
    st.dictionaries(st.integers(0, 20), st.floats(-100, 100), max_size=12),
    st.integers(0, 20),
)
def test_filled_value_lies_between_its_neighbours(known, hour):
    known.pop(hour, None)
    found = filled(known, hour)
    near = [known[other] for other in known if abs(other - hour) <= LONGEST_GAP_HOURS]
    if found:
        assert min(near) - 1e-9 <= found[0] <= max(near) + 1e-9
    else:
        assert not any(hour - other in range(1, LONGEST_GAP_HOURS + 1) for other in known)
