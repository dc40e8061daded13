"""Stars, gas and dust fitted to prism spectra: the simulator's galaxies, and redshifts of passive ones."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from benchmarks import continuum_fits
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import PIXEL_NOISE_VARIANCE
from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.simulation import Nuisances, SimulationConfig, simulate_batch
from data_pipeline.simulation.config import POPULATIONS
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.stellar_library import AGE_EDGES
from kspecsr.evaluation.figures.panels import COLOURS
from kspecsr.evaluation.methods import TEMPLATES, TITLES, EvaluationConfig, reconstructions
from kspecsr.evaluation.sources import SimulatedHeldOut
from kspecsr.methods import template_fit
from kspecsr.methods.template_fit import cosmic_age, fit_templates, templates_at

STEADY = Nuisances(prism_resolution_scatter=0.0, zero_point_shift=0.0, quoted_error_scatter=0.0)


def observed(batch, row):
    return batch.prism_flux[row], batch.prism_error[row], batch.prism_mask[row]


@pytest.fixture(autouse=True)
def few_resolutions(monkeypatch):
    monkeypatch.setattr(continuum_fits, "_RESOLUTION", (1.22,))


@pytest.fixture(scope="module")
def passive():
    shares = {
        "quiescent_fraction": 0.5,
        "post_starburst_fraction": 0.5,
        "noise_fraction": 0.0,
        "quasar_fraction": 0.0,
    }
    shares |= {"broad_line_fraction": 0.0, "outflow_fraction": 0.0, "continuum_sn_scatter": 0.0}
    return simulate_batch(
        np.arange(8), 3, SimulationConfig(replace(POPULATIONS["sky"], **shares), STEADY), gratings=False
    )


def test_the_fit_describes_the_simulators_galaxies_to_the_noise():
    config = SimulationConfig(
        replace(POPULATIONS["sky"], broad_line_fraction=0.0, noise_fraction=0.0), STEADY
    )
    batch = simulate_batch(np.arange(12), 8, config, gratings=False)
    found = [
        fit_templates(*observed(batch, row), templates_at(z), z, PIXEL_NOISE_VARIANCE)
        for row, z in enumerate(batch.redshift)
    ]
    assert np.median([fit.chi_square for fit in found]) == pytest.approx(1.0, abs=0.15)


def test_lines_and_continuum_are_told_apart(passive):
    z = float(passive.redshift[0])
    templates = templates_at(z)
    fit = fit_templates(*observed(passive, 0), templates, z)
    assert (fit.model >= fit.continuum - 1e-30).all()
    stars = [fit.light((templates.kind == "stars") & (templates.age == age)) for age in range(8)]
    assert sum(stars) <= 1.0 + 1e-9
    assert sum(stars[4:]) > 0.7  # older than 100 Myr: nothing young shines in a passive galaxy


@pytest.fixture(scope="module")
def coarse():
    """Fewer redshifts than the oracle tries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template_fit, "SCANNED", np.arange(np.log1p(0.3), np.log1p(6.0), 0.006))
        template_fit._scanned.cache_clear()
        yield template_fit.SCANNED
    template_fit._scanned.cache_clear()


def test_the_smallest_chi_square_is_at_the_redshift_of_absorption_lines(passive, coarse):
    """What the template oracle is for: galaxies of S/N 15 without emission lines."""
    some = slice(0, 4)
    arrays = (passive.prism_flux[some], passive.prism_error[some], passive.prism_mask[some])
    redshift, bins, probability = template_fit.scan_redshifts(*arrays)
    right = np.abs(redshift - passive.redshift[some]) < 0.01 * (1.0 + passive.redshift[some])
    assert right.sum() >= 3
    assert bins is coarse
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)


def test_it_is_a_method_of_the_evaluation_where_it_is_asked_for(coarse):
    held_out = SimulatedHeldOut(UNIFIED_GRID, seed=4, chunk_size=4).chunk(0)
    found = reconstructions(held_out, [TEMPLATES], None, {})[TEMPLATES]
    assert TEMPLATES not in EvaluationConfig().methods
    assert EvaluationConfig(methods=("cubic", "direct_fit", TEMPLATES)).methods[-1] == TEMPLATES
    assert found.redshift_probability.shape == (len(held_out), coarse.size)
    assert ((found.confidence > 0) & (found.confidence <= 1.0)).all()
    direct = reconstructions(replace(held_out, redshift=found.redshift), ["direct_fit"], None, {})[
        "direct_fit"
    ]
    np.testing.assert_array_equal(found.line_flux, direct.line_flux)


def test_no_star_is_older_than_the_universe():
    age = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0).age([0.0, 2.0, 9.0]).to("Myr").value
    np.testing.assert_allclose([cosmic_age(z) for z in (0.0, 2.0, 9.0)], age, rtol=1e-3)
    templates = templates_at(9.0)
    oldest = np.array(AGE_EDGES)[templates.age[templates.kind == "stars"]].max()
    assert oldest < cosmic_age(9.0)


def test_nothing_good_is_refused(passive):
    with pytest.raises(ValueError, match="expected good pixels, got none"):
        fit_templates(np.ones(706), np.ones(706), np.ones(706, bool), templates_at(2.0), 2.0)


def test_the_command_finds_the_redshift_and_says_what_is_described(passive, tmp_path):
    flux, error, mask = observed(passive, 1)
    meta = SpectrumMeta(disperser="PRISM", path=str(tmp_path / "001927_prism_clear_v5.0_1D.fits"))
    spectrum = ObservedSpectrum(load_instrument(PRISM).wavelength, flux, error, mask, meta)
    assert continuum_fits.redshift_of(spectrum, {}) == 3.66
    assert continuum_fits.redshift_of(spectrum, {"001927_prism_clear_v5.0_1D.fits": 1.0}) == 1.0
    one = continuum_fits.describe(spectrum, float(passive.redshift[1]))
    assert one.row[0] == "001927_prism_clear"
    assert one.row[-1] == "yes"
    assert "CHI2NU" in continuum_fits.draw([one]).axes[0].get_title()


def test_every_method_has_a_colour():
    assert set(TITLES) == set(COLOURS)
