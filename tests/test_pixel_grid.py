"""The unified grid refuses settings that would give no grid, or one that fills the memory."""

import numpy as np
import pytest

from data_pipeline.pixel_grid import UnifiedGrid


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((np.nan, 5.3, 3000.0), "finite numbers, got nan 5.3 3000"),
        ((0.7, np.inf, 3000.0), "finite numbers, got 0.7 inf 3000"),
        ((0.7, 5.3, np.nan), "finite numbers"),
        ((5.3, 0.7, 3000.0), r"0 < start < stop, got start=5\.3, stop=0\.7 um"),
        ((0.0, 0.7, 3000.0), "0 < start < stop"),
        ((0.7, 5.3, 5.0), "of 10 or more, got 5"),
        ((0.7, 5.3, 1e9), r"at most 200000 pixels .* got 0\.7 5\.3 1e\+09, which gives 2024381"),
    ],
)
def test_impossible_grids_are_refused(settings, message):
    with pytest.raises(ValueError, match=rf"unified grid START STOP SAMPLING: expected .*{message}"):
        UnifiedGrid(*settings)


def test_the_largest_grid_is_allowed():
    assert UnifiedGrid(1.0, np.e, 200_000.0).size == 200_001
    assert UnifiedGrid().size == 6074
