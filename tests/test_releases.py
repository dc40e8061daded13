"""Releases of the prism: pixels, noise, quoted errors, and a chi-square of one on all of them."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import (
    JADES_SAMPLING,
    RELEASED,
    SHARED_NOISE,
    released_pixels,
    sampling_of,
    sampling_of_step,
)
from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.readers import read_spectrum
from data_pipeline.resampling import to_prism_pixels
from data_pipeline.simulation import POPULATIONS, Nuisances, SimulationConfig, simulate_batch
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import released_noise
from data_pipeline.simulation.releases import RELEASES
from kspecsr.methods.direct_fit import fit_prism_lines
from kspecsr.results.prism_input import degraded_to_prism, prism_chi_square

REAL = Path(
    os.environ.get("KSPECSR_REAL_SPECTRA", Path(__file__).resolve().parents[2] / "shared" / "real_spectra")
)
EXACT = Nuisances(
    quoted_error_scatter=0.0, outlier_fraction=0.0, zero_point_shift=0.0, prism_resolution_scatter=0.0
)
PIXELS = {"jades": 706, "gto-674": 674, "gto-706": 706, "stsci": 429}
PIXELS |= {"dja-v1": 435, "dja-v2": 414, "dja-v3": 414, "dja-v4": 473}


def simulated(release, n=40, **changes):
    population = replace(POPULATIONS["survey"], releases={release: 1.0}, noise_fraction=0.0)
    config = SimulationConfig(population, replace(EXACT, **changes))
    return simulate_batch(np.arange(n), 11, config, gratings=False)


def test_releases_have_as_many_pixels_as_their_files():
    assert {name: released_pixels(name).size for name in RELEASED} == PIXELS
    steps = {name: round(sampling_of(released_pixels(name)).step, 2) for name in RELEASED}
    assert steps == {
        **dict.fromkeys(("jades", "gto-674", "gto-706"), 0.6),
        **{"dja-v1": 0.95, "dja-v2": 1.0, "dja-v3": 1.0, "dja-v4": 0.95, "stsci": 0.99},
    }


@pytest.mark.skipif(not REAL.is_dir(), reason="no real spectra; set KSPECSR_REAL_SPECTRA to their folder")
@pytest.mark.parametrize("release, pattern", [("dja-v4", "pairs_dja/*_prism-*"), ("gto-674", "gto_1d/*v3*")])
def test_pixels_are_those_of_real_files(release, pattern):
    for path in sorted(REAL.glob(pattern)):
        np.testing.assert_allclose(read_spectrum(path).wavelength, released_pixels(release), rtol=1e-7)


@pytest.mark.parametrize("release", ["jades", "dja-v4", "stsci"])
def test_noise_has_the_covariance_that_its_sampling_states(release):
    sampling = RELEASES[release].sampling
    noise = released_noise(Draws(5, np.arange(3000)), "noise", sampling, 60)
    for lag in range(5):
        stated = sampling.covariance[lag] if lag < len(sampling.covariance) else 0.0
        assert np.mean(noise[:, lag:] * noise[:, : 60 - lag]) == pytest.approx(stated, abs=0.01)
    row = np.exp(-0.5 * ((np.arange(60) - 30.3) / 1.7) ** 2)
    assert np.var(noise @ row) == pytest.approx(float(sampling.quadratic_form(row)), rel=0.1)


@pytest.mark.parametrize("release", RELEASED)
def test_the_truth_has_a_chi_square_of_one_however_it_was_released(release):
    batch = simulated(release)
    model = degraded_to_prism(batch.noise_free, UNIFIED_GRID)
    found = prism_chi_square(batch.prism_flux, batch.prism_error, batch.prism_mask, model)
    # where a pixel has S/N 60, the shape that linear interpolation gives lines shows: up to 3 at S/N 135
    faint = np.nanmax(batch.prism_flux / batch.prism_error, axis=1) < 60
    assert faint.sum() > 25 and np.mean(found[faint]) == pytest.approx(1.0, abs=0.1)
    assert np.median(found) == pytest.approx(1.0, abs=0.1)
    assert (~batch.prism_mask).mean() > 0.85


@pytest.mark.parametrize("release", RELEASED)
def test_the_direct_fit_on_a_release_s_own_pixels_has_a_chi_square_of_one_and_right_errors(release):
    batch = simulated(release)
    wavelength = batch.released[0][0]
    flux, error, mask = (np.stack([one[k] for one in batch.released]) for k in (1, 2, 3))
    fit = fit_prism_lines(flux, error, mask, batch.redshift, wavelength=wavelength)
    # some 60 parameters take 10-20 % of the chi-square of 400-470 detector pixels
    assert np.median(fit.chi_square) == pytest.approx(0.87, abs=0.1)
    bright = fit.line_in_range & (batch.line_flux > 20 * fit.line_flux_error)
    ratio = np.log(fit.line_flux[bright] / batch.line_flux[bright])
    assert bright.sum() > 20 and abs(np.median(ratio)) < 0.04
    # the continuum goes with the pixels of the release onto the grid
    on_grid = fit.on_grid(UNIFIED_GRID)[2]
    inside = np.isfinite(on_grid)
    level = np.median(batch.continuum[inside] / on_grid[inside])
    assert inside.mean() > 0.8 and level == pytest.approx(1.0, abs=0.03)


def test_pixels_as_large_as_the_detector_s_come_out_as_jades_would_release_them():
    wavelength, target = released_pixels("dja-v4"), load_instrument(PRISM).wavelength
    n = wavelength.size
    flux, error, clean = np.linspace(1.0, 5.0, n), np.full(n, 0.3), np.zeros(n, bool)
    out, sigma, bad = to_prism_pixels(wavelength, flux, error, clean)
    np.testing.assert_allclose(out, np.interp(target, wavelength, flux), rtol=1e-12)
    np.testing.assert_allclose(sigma, 0.3 * SHARED_NOISE)
    assert not bad.any()
    mask = clean.copy()
    mask[200] = True
    lost = to_prism_pixels(wavelength, np.where(mask, np.nan, flux), error, mask)
    both = to_prism_pixels(wavelength, np.stack([flux, flux]), np.stack([error] * 2), np.stack([clean, mask]))
    for one, two in zip(zip(*both, strict=True), ((out, sigma, bad), lost), strict=True):
        for mine, other in zip(one, two, strict=True):
            np.testing.assert_array_equal(mine, other)
    half = 0.5 * np.diff(wavelength)[198:202].mean()
    assert np.array_equal(np.flatnonzero(lost[2]), np.flatnonzero(abs(target - wavelength[200]) < half))
    gap = np.delete(np.arange(n), slice(200, 230))  # rows left out instead of masked
    there = to_prism_pixels(wavelength[gap], flux[gap], error[gap], clean[gap])
    inside = (target > wavelength[200]) & (target < wavelength[229])
    assert there[2][inside].all() and not there[2][target > wavelength[230]].any()


def test_jades_pixels_are_taken_as_they_are_and_finer_ones_averaged():
    own, rng = load_instrument(PRISM), np.random.default_rng(1)
    flux, error, mask = rng.normal(size=674), rng.uniform(1, 2, 674), rng.random(674) < 0.1
    out = to_prism_pixels(released_pixels("gto-674"), flux, error, mask)
    for given, found in ((flux, out[0]), (error, out[1])):
        np.testing.assert_array_equal(found, np.append(np.where(mask, np.nan, given), np.full(32, np.nan)))
    for start in (0.0, 0.1):  # with the networks' pixels among them, and without
        fine = np.interp(np.arange(start, 705.01, 0.2), np.arange(706), own.wavelength)
        averaged = to_prism_pixels(fine, fine**2, np.ones(fine.size), np.zeros(fine.size, bool))
        np.testing.assert_allclose(averaged[0][5:-5], own.wavelength[5:-5] ** 2, rtol=1e-4)
        np.testing.assert_allclose(averaged[1][5:-5], np.sqrt(0.2), rtol=0.1)


@pytest.mark.parametrize("population", ["wide-sky", "wide-open"])
def test_a_mixed_population_draws_each_observation_by_itself(population):
    index, config = np.append(np.arange(29), 133), SimulationConfig(population)
    whole = simulate_batch(index, 3, config)
    assert len(set(whole.release)) > 3
    assert np.isfinite(whole.second_redshift[29]) == (population == "wide-open")  # two sources in a slit
    for row in (0, 7, 29):
        alone = simulate_batch(index[[row]], 3, config)
        assert len(alone.released[0][0]) == PIXELS[alone.release[0]]
        assert alone.release == whole.release[row : row + 1] and alone.kind == whole.kind[row : row + 1]
        for name in ("prism_flux", "prism_error", "noise_free", "redshift", "error_scale"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(whole, name)[row], rtol=1e-10)
        for arm, spectra in alone.gratings.items():
            np.testing.assert_allclose(spectra.flux[0], whole.gratings[arm].flux[row], rtol=1e-10)
        for mine, other in zip(alone.released[0], whole.released[row], strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-10)


def test_quoted_errors_of_several_releases_are_wrong_by_what_is_stated():
    batch = simulate_batch(np.arange(300), 3, SimulationConfig("wide-sky"), gratings=False)
    assert 0.69 < batch.error_scale.min() < 0.75 and 1.4 < batch.error_scale.max() < 1.51
    quiet = simulated("dja-v4", n=4, quoted_error=1.2)
    np.testing.assert_array_equal(quiet.error_scale, 1.2)


def test_the_sampling_of_other_pixels():
    own = load_instrument(PRISM).wavelength
    assert sampling_of(own[:100]) is JADES_SAMPLING and sampling_of(own + 0.001).step == pytest.approx(0.6)
    assert sampling_of(own[::3]).covariance == (1.0,)
    fine = sampling_of_step(0.3)
    assert fine.variance == pytest.approx(2.0 / 3.0) and fine.low_frequency == pytest.approx(
        1 / 0.3, rel=1e-2
    )


def test_impossible_releases_are_refused():
    for shares, text in (
        ({"dja": 1.0}, "unknown dja; expected some of jades, "),
        ({"jades": 0.0}, "one positive share"),
    ):
        with pytest.raises(ValueError, match=text):
            replace(POPULATIONS["survey"], releases=shares)
