"""Comparisons of fluxes in physical units: the guard in conftest.py."""

import numpy as np
import pytest


@pytest.mark.parametrize("expected", [1e-18, -3e-20, [2e-20, 0.0], np.full(3, 1e-18), {"Halpha": 1e-18}])
def test_a_flux_in_physical_units_needs_an_absolute_tolerance(expected):
    with pytest.raises(ValueError, match="give abs=0 or divide by the unit"):
        pytest.approx(expected, rel=0.01)


def test_other_comparisons_are_left_alone():
    assert pytest.approx(1e-18, rel=0.01, abs=0) == 1.009e-18
    assert pytest.approx(1e-18, rel=0.01, abs=0) != 1.011e-18
    assert pytest.approx([0.0, 1.0]) == [0.0, 1.0] and pytest.approx(0.0, abs=1e-3) == 1e-4
    assert np.nan == pytest.approx(np.nan, nan_ok=True) and pytest.approx({"z": 2.0}) == {"z": 2.0}
