"""Continua measured on spectra whose breaks, slopes and equivalent widths are known."""

import numpy as np
import pytest

from benchmarks.continuum_check import BREAKS, Continua, measure, table
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.profile import render_lines
from kspecsr.methods.direct_fit import fit_prism_lines

REDSHIFT, SLOPE, WIDTH = 3.0, -1.5, 80.0


@pytest.fixture(scope="module")
def spectra():
    """(8, 706): power laws with a line, the last four with half the light below 0.37 um at rest."""
    prism = load_instrument(PRISM)
    rest = prism.wavelength / (1.0 + REDSHIFT)
    law = (rest / 0.5) ** SLOPE
    line = load_lines().wavelength[load_lines().index("Hbeta")]
    flux = WIDTH * (1.0 + REDSHIFT) * (line / 0.5) ** SLOPE
    law = law + render_lines(prism, [line * (1.0 + REDSHIFT)], [flux], np.array([50.0]))[0]
    spectra = np.tile(law, (8, 1))
    spectra[4:] *= np.where(rest < 0.37, 0.5, 1.0)
    return spectra


def noisy(spectra):
    """Arguments of fits of spectra that are known well."""
    return np.full(spectra.shape, 1e-3), np.zeros(spectra.shape, bool), np.full(len(spectra), REDSHIFT)


@pytest.fixture(scope="module")
def measured(spectra):
    return measure(spectra, *noisy(spectra))


def test_breaks_slopes_and_widths_are_those_put_in(measured):
    smooth = {name: (np.mean(red) / np.mean(blue)) ** (2.0 + SLOPE) for name, (blue, red) in BREAKS.items()}
    np.testing.assert_allclose(measured.values("D_n4000")[:4], smooth["D_n4000"], rtol=0.02)
    jumps = measured.values("Balmer jump")
    np.testing.assert_allclose(jumps[:4], smooth["Balmer jump"], rtol=0.02)
    # the blue band ends 70 Angstrom below the step: what the prism spreads into it is little
    np.testing.assert_allclose(jumps[4:], 2.0 * smooth["Balmer jump"], rtol=0.06)
    np.testing.assert_allclose(measured.values("slope, 0.53-0.62 um"), SLOPE, atol=0.05)
    np.testing.assert_allclose(measured.values("EW Hbeta"), WIDTH, rtol=0.05)


def test_a_break_that_is_no_star_s_adds_a_tenth_to_hbeta(spectra):
    """What the fit believes of stars: absorption under Hbeta, where there is a Balmer break."""
    fluxes = fit_prism_lines(spectra, *noisy(spectra)).line_flux[:, load_lines().index("Hbeta")]
    truth = WIDTH * (1.0 + REDSHIFT) * (load_lines().wavelength[load_lines().index("Hbeta")] / 0.5) ** SLOPE
    np.testing.assert_allclose(fluxes[:4] / truth, 1.0, atol=0.02)
    np.testing.assert_allclose(fluxes[4:] / truth, 1.10, atol=0.03)


def test_what_is_not_covered_or_uncertain_has_no_value(measured):
    assert np.isnan(
        measure(*(np.ones((1, 706)),) * 2, np.zeros((1, 706), bool), np.array([12.0])).values("EW Hbeta")
    )
    noisy = Continua(measured.redshift, measured.above, measured.below, {"D_n4000": np.full(8, 0.2)})
    assert np.isnan(noisy.values("D_n4000")).all()


def test_a_stack_is_the_quotient_of_sums_and_its_error_that_of_resampling():
    rng = np.random.default_rng(1)
    above, below = rng.normal(2.0, 1.0, 400), np.ones(400)
    one = Continua(np.ones(400), {"EW Hbeta": above}, {"EW Hbeta": below}, {})
    value, error, count = one.stack("EW Hbeta", np.ones(400, bool))
    assert (value, count) == (pytest.approx(above.mean()), 400)
    assert error == pytest.approx(1.0 / 20, rel=0.25)
    assert np.isnan(one.stack("EW Hbeta", np.arange(400) < 3)[0])


def test_the_table_has_samples_beside_each_other_and_how_far_real_ones_lie(measured):
    text = table({"sky": measured, "gratings": measured})
    rows = [line for line in text.splitlines() if line.startswith("D_n4000") and "z 2.5-3.5" in line]
    assert len(rows) == 2
    assert rows[0].count("; 8)") == 2
    assert rows[1].endswith("+0.0") or "-" in rows[1]
    assert "gratings - sim. [sigma]" in text
