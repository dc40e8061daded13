"""Resampling against identities, specutils and direct computation."""

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import StdDevUncertainty
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from specutils import Spectrum
from specutils.manipulation import FluxConservingResampler

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pixel_grid import UnifiedGrid, pixel_bounds
from data_pipeline.resampling import Resampler, resampler, to_pixels, upsample

seeds = st.integers(0, 2**32 - 1)


def random_grid(rng, n, low=1.0, high=2.0):
    return low + (high - low) * np.cumsum(rng.uniform(0.7, 1.0, n)) / n


def width(bounds):
    return np.diff(bounds, axis=0)[0]


@given(seeds)
def test_flux_is_conserved_wherever_the_output_covers_the_input(seed):
    rng = np.random.default_rng(seed)
    bounds_in = pixel_bounds(random_grid(rng, 80))
    bounds_out = pixel_bounds(np.linspace(0.9, 2.1, rng.integers(60, 400)))
    flux = rng.normal(size=80)
    out = Resampler.between(bounds_in, bounds_out, 1e-6).resample(flux, np.ones(80), np.zeros(80, bool))[0]
    # an edge pixel seen in part holds the mean over that part
    seen = np.minimum(bounds_out[1], bounds_in[1, -1]) - np.maximum(bounds_out[0], bounds_in[0, 0])
    total = np.nansum(out * np.clip(seen, 0, None))
    assert total == pytest.approx(np.sum(flux * width(bounds_in)), rel=1e-4, abs=1e-9)


@given(seeds)
def test_flat_stays_flat_and_masked_values_never_leak(seed):
    rng = np.random.default_rng(seed)
    wavelength, mask = random_grid(rng, 120), rng.random(120) < 0.2
    flux = np.where(mask, 1e6 * rng.normal(size=120), 3.0)
    target = random_grid(rng, int(rng.integers(40, 300)))
    out, error, bad = Resampler.between(pixel_bounds(wavelength), pixel_bounds(target)).resample(
        flux, np.full(120, 0.1), mask
    )
    np.testing.assert_allclose(out[~bad], 3.0, atol=1e-6)
    assert (
        np.all(np.isnan(out[bad])) and np.all(np.isfinite(error[~bad])) and np.all(error[~bad] <= 0.1 + 1e-12)
    )


@pytest.mark.parametrize("n_out", [40, 173])
def test_agrees_with_specutils(n_out):
    rng = np.random.default_rng(3)
    wavelength, target = np.linspace(1.0, 2.0, 200), np.linspace(1.05, 1.95, n_out)
    flux, error = rng.normal(5.0, 1.0, 200), rng.uniform(0.1, 0.5, 200)
    theirs = FluxConservingResampler()(
        Spectrum(
            spectral_axis=wavelength * u.um,
            flux=flux * u.Jy,
            uncertainty=StdDevUncertainty(error * u.Jy),
        ),
        target * u.um,
    )
    ours = resampler(pixel_bounds(wavelength), pixel_bounds(target)).resample(
        flux, error, np.zeros(200, bool)
    )
    np.testing.assert_allclose(ours[0], theirs.flux.value, rtol=1e-9)
    np.testing.assert_allclose(ours[1], theirs.uncertainty.represent_as(StdDevUncertainty).array, rtol=1e-6)


def test_agrees_with_a_direct_computation():
    rng = np.random.default_rng(5)
    bounds_in, bounds_out = pixel_bounds(random_grid(rng, 50)), pixel_bounds(random_grid(rng, 37, 0.95, 2.05))
    flux, error, mask = rng.normal(size=50), rng.uniform(0.1, 1, 50), rng.random(50) < 0.1
    got = Resampler.between(bounds_in, bounds_out).resample(flux, error, mask)
    for i in range(37):
        share = [
            max(0.0, min(bounds_in[1, j], bounds_out[1, i]) - max(bounds_in[0, j], bounds_out[0, i]))
            * (not mask[j])
            for j in range(50)
        ]
        seen = sum(share)
        assert got[2][i] == (seen < 0.5 * (bounds_out[1, i] - bounds_out[0, i]))
        if not got[2][i]:
            assert got[0][i] == pytest.approx(np.dot(share, flux) / seen)
            assert got[1][i] == pytest.approx(np.sqrt(np.dot(np.square(share), error**2)) / seen)


def test_a_two_to_one_rebin_halves_the_variance():
    bounds, coarse = pixel_bounds(np.arange(1.0, 2.0, 0.001)), pixel_bounds(np.arange(1.0005, 2.0, 0.002))
    error = Resampler.between(bounds, coarse).resample(np.ones(1000), np.ones(1000), np.zeros(1000, bool))[1]
    np.testing.assert_allclose(error, np.sqrt(0.5), rtol=1e-6)


def test_gaps_stay_gaps():
    wavelength = np.concatenate([np.arange(1.0, 1.4, 0.001), np.arange(1.6, 2.0, 0.001)])
    target = np.arange(1.0, 2.0, 0.0007)
    _, _, bad = resampler(pixel_bounds(wavelength), pixel_bounds(target)).resample(
        np.ones(wavelength.size), np.ones(wavelength.size), np.zeros(wavelength.size, bool)
    )
    gap = (target > 1.4) & (target < 1.599)
    assert bad[gap].all() and not bad[~gap & (target < 1.999) & (target < 1.3985)].any()


def test_minimum_coverage_out_of_range_is_refused():
    bounds = pixel_bounds(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"minimum_coverage in \(0, 1\], got 0"):
        Resampler.between(bounds, bounds, 0)


def prism_like(rng, coarser=1.5):
    own = load_instrument(PRISM)
    pixel = np.arange(0, 705, coarser)
    wavelength = np.interp(pixel, np.arange(706), own.wavelength)
    flux = 3 + np.sin(3 * wavelength) + 8 * np.exp(-0.5 * ((wavelength - 3.1) / own.sigma(3.1)) ** 2)
    return wavelength, flux, rng.uniform(0.1, 0.2, wavelength.size)


def test_bringing_a_prism_to_its_own_pixels_conserves_flux_and_width():
    own, rng = load_instrument(PRISM), np.random.default_rng(0)
    wavelength, flux, error = prism_like(rng)
    out, sigma, bad = to_pixels(wavelength, flux, error, np.zeros(flux.size, bool), own.wavelength)
    near = (own.wavelength > 2.9) & (own.wavelength < 3.3) & ~bad
    line = out[near] - 3 - np.sin(3 * own.wavelength[near])
    w = line * width(own.bounds)[near]
    centre = np.sum(w * own.wavelength[near]) / w.sum()
    spread = np.sqrt(np.sum(w * (own.wavelength[near] - centre) ** 2) / w.sum())
    expected = np.sum((flux - 3 - np.sin(3 * wavelength)) * width(pixel_bounds(wavelength)))
    assert w.sum() == pytest.approx(expected, rel=2e-3)
    assert centre == pytest.approx(3.1, abs=2e-4)
    # a mean over 1.5 pixels becomes one over 1; stairs would add 1.5^2 / 12 pixel^2 and broaden by 6 %
    pixel = np.interp(3.1, own.wavelength, width(own.bounds))
    assert spread == pytest.approx(np.sqrt(own.sigma(3.1) ** 2 - (1.5**2 - 1) / 12 * pixel**2), rel=0.01)
    assert np.all(sigma[~bad] > 0)


def test_on_its_own_pixels_a_spectrum_is_returned_as_it_is():
    own, rng = load_instrument(PRISM).wavelength, np.random.default_rng(1)
    flux, error, mask = rng.normal(size=674), rng.uniform(1, 2, 674), rng.random(674) < 0.1
    out = to_pixels(own[:674], flux, error, mask, own)
    np.testing.assert_array_equal(out[0][:674][~mask], flux[~mask])
    np.testing.assert_array_equal(out[1][:674][~mask], error[~mask])
    np.testing.assert_array_equal(out[2], np.concatenate([mask, np.ones(32, bool)]))


def test_to_pixels_masks_what_a_bad_pixel_reaches():
    own, rng = load_instrument(PRISM).wavelength, np.random.default_rng(1)
    wavelength, flux, error = prism_like(rng)
    mask = np.zeros(flux.size, bool)
    mask[200] = True
    clean = to_pixels(wavelength, flux, error, mask, own)
    flux[200] = 1e9
    dirty = to_pixels(wavelength, flux, error, mask, own)
    np.testing.assert_array_equal(clean[2], dirty[2])
    np.testing.assert_array_equal(clean[0], dirty[0])
    assert clean[2][np.argmin(abs(own - wavelength[200]))]


def test_upsampling_is_scipy_s_cubic_and_its_error_never_negative():
    own, rng = load_instrument(PRISM).wavelength, np.random.default_rng(2)
    flux, error = rng.normal(size=706), np.where(np.arange(706) % 50 < 2, 100.0, 0.01)
    fine = UnifiedGrid().wavelength
    out, sigma, bad = upsample(own, flux, error, np.zeros(706, bool), fine)
    assert not bad.any()
    np.testing.assert_allclose(out, CubicSpline(own, flux)(fine))
    assert sigma.min() >= 0.01 - 1e-12 and CubicSpline(own, error)(fine).min() < 0


def test_upsampling_masks_beside_bad_pixels_and_outside():
    own = load_instrument(PRISM).wavelength[100:600]
    mask = np.zeros(500, bool)
    mask[250] = True
    fine = UnifiedGrid().wavelength
    out, _, bad = upsample(own, np.ones(500), np.ones(500), mask, fine)
    between = (fine > own[249]) & (fine < own[251])
    assert bad[between].all() and bad[fine < own[0] - 0.01].all() and np.isnan(out[bad]).all()
    assert not bad[(fine > own[251] + 1e-6) & (fine < own[-1])].any()
    with pytest.raises(ValueError, match="four or more good pixels for a cubic, got 0 of 500"):
        upsample(own, np.ones(500), np.ones(500), np.ones(500, bool), fine)


def test_upsampling_does_not_bridge_a_gap_in_the_wavelengths():
    own = load_instrument(PRISM).wavelength
    wavelength = np.delete(own, slice(300, 340))  # not there, instead of masked
    fine = UnifiedGrid().wavelength
    clear = np.zeros(wavelength.size, bool)
    out, sigma, bad = upsample(wavelength, np.sin(wavelength), np.ones(wavelength.size), clear, fine)
    step = own[301] - own[300]
    gap = (fine > own[299] + step) & (fine < own[340] - step)
    assert gap.sum() > 100 and bad[gap].all() and np.isnan(out[gap]).all() and np.isnan(sigma[gap]).all()
    beside = (fine > own[0]) & (fine < own[-1]) & ((fine < own[299]) | (fine > own[340]))
    assert not bad[beside].any()
    np.testing.assert_allclose(out[beside], np.sin(fine[beside]), atol=1e-3)


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
@pytest.mark.parametrize("wild", [1e9, -1e4, np.nan])
def test_a_wild_value_under_a_mask_beside_a_line_changes_no_other_pixel(offset, wild):
    own, rng = load_instrument(PRISM).wavelength, np.random.default_rng(4)
    wavelength, flux, error = prism_like(rng)
    whole = to_pixels(wavelength, flux, error, np.zeros(flux.size, bool), own)
    mask = np.zeros(flux.size, bool)
    mask[np.argmin(abs(wavelength - 3.1)) + offset] = True
    masked = to_pixels(wavelength, flux, error, mask, own)
    dirty = to_pixels(wavelength, np.where(mask, wild, flux), error, mask, own)
    for clean, other in zip(masked, dirty, strict=True):
        np.testing.assert_array_equal(clean, other)
    # nor does the bridge under the mask ring into pixels that it does not touch
    near = ~masked[2] & ~whole[2] & (abs(np.arange(706) - np.argmin(abs(own - wavelength[mask]))) > 8)
    np.testing.assert_allclose(masked[0][near], whole[0][near], rtol=0, atol=0.01)
