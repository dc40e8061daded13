"""Line fluxes fitted on the native pixels of the gratings."""

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, load_instrument
from data_pipeline.pairs.line_fit import FittedArm, fit_lines
from pair_sample import FLUX, REDSHIFT, UNIT, observe


def fit(spectra, redshift=REDSHIFT):
    arms = []
    for s in spectra:
        instrument = load_instrument(f"nirspec-{s.meta.disperser.lower()}").with_pixels(s.wavelength)
        arms.append(FittedArm(instrument, s.flux, s.error, s.mask))
    return fit_lines(arms, redshift)


@pytest.fixture(scope="module")
def fitted():
    return fit([observe(name) for name in GRATINGS])


def test_fitted_lines_are_the_injected_ones(fitted):
    result = fitted
    for key in ("Hbeta", "[OIII]_5008", "Halpha", "[NII]_6585"):
        assert result.flux[result.names.index(key)] == pytest.approx(FLUX[key] * UNIT, rel=0.03, abs=0), key
    doublet = sum(result.flux[result.names.index(k)] for k in ("[OII]_3727", "[OII]_3730"))
    assert doublet == pytest.approx(4.698 * UNIT, rel=0.03, abs=0)
    absent = result.flux[result.names.index("[OI]_6302")]
    assert abs(absent) < 0.02 * UNIT
    assert not result.covered[result.names.index("Lya")] and np.isnan(result.flux[result.names.index("Lya")])


def test_fitted_errors_are_the_scatter():
    rng = np.random.default_rng(11)
    got, quoted = [], []
    for _ in range(60):
        r = fit([observe("nirspec-g235m", 1.0, 5e-21, rng)])
        got.append(r.flux[r.names.index("Halpha")])
        quoted.append(r.error[r.names.index("Halpha")])
    assert np.mean(got) == pytest.approx(FLUX["Halpha"] * UNIT, rel=0.03, abs=0)
    assert 0.75 < np.std(got) / np.median(quoted) < 1.3


def test_ratios_fixed_by_atomic_physics_are_kept(fitted):
    r = fitted
    value = dict(zip(r.names, r.flux, strict=True))
    assert value["[OIII]_5008"] / value["[OIII]_4960"] == pytest.approx(2.9842)
    assert value["[NII]_6585"] / value["[NII]_6550"] == pytest.approx(2.942)


def test_signal_to_noise_of_tied_lines_counts_them_once(fitted):
    r = fitted
    index = [r.names.index(n) for n in ("[OII]_3727", "[OII]_3730")]
    single = r.flux[index[0]] / r.error[index[0]]
    assert r.signal_to_noise("[OII]_3727", "[OII]_3730") == pytest.approx(single)
    assert np.isnan(r.signal_to_noise("Lya"))


def test_a_fit_needs_a_redshift():
    with pytest.raises(ValueError, match="finite redshift above -1, got nan"):
        fit([observe("nirspec-g235m")], np.nan)
