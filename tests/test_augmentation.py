"""Perturbed copies of an aligned pair."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.pairs.augmentation import AlignedSpectra, AugmentationConfig, augment
from data_pipeline.pairs.preprocessing import make_pair
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from data_pipeline.resampling import to_pixels
from pair_sample import FLUX, REDSHIFT, UNIT, continuum, observe


@pytest.fixture(scope="module")
def aligned():
    pair = make_pair(observe(PRISM), [observe(name) for name in GRATINGS], REDSHIFT)
    s = pair.stitched
    return AlignedSpectra(
        tuple(a / (1e-20 if a.dtype != bool else True) if a.dtype != bool else a for a in pair.prism),
        tuple(a / 1e-20 if a.dtype != bool else a for a in pair.prism_unified),
        (s.flux / 1e-20, s.error / 1e-20, s.mask),
        s.flux / 1e-20,
        REDSHIFT,
    )


def test_augmentation_moves_both_members_alike_and_keeps_line_flux(aligned):
    config = AugmentationConfig(noise_fraction=0.0, trim=(0.71, 5.2))
    new = augment(aligned, UNIFIED_GRID, config, np.random.default_rng(5))
    assert new.redshift != aligned.redshift
    stretch = (1 + new.redshift) / (1 + REDSHIFT)
    grid, own = UNIFIED_GRID, load_instrument(PRISM)
    for (flux, _, mask), wavelength, bounds, width in (
        (new.grating, grid.wavelength, grid.bounds, 0.02),
        (new.prism, own.wavelength, own.bounds, 0.11),
    ):
        centre = 0.6564629 * (1 + new.redshift)
        near = (abs(wavelength - centre) < width) & ~mask
        base = continuum(wavelength / stretch) / stretch / 1e-20
        excess = (flux - base)[near] * np.diff(bounds, axis=0)[0][near] * 1e4
        total = FLUX["Halpha"] + FLUX["[NII]_6550"] + FLUX["[NII]_6585"]
        assert excess.sum() == pytest.approx(total * UNIT / 1e-20, rel=0.01)
        assert np.sum(excess * wavelength[near]) / excess.sum() == pytest.approx(centre, rel=5e-4)


def test_augmentation_noise_is_a_tenth_of_the_flux_and_independent(aligned):
    config = AugmentationConfig(redshift_sigma=0.0, noise_fraction=0.1, trim=(1.0, 5.0))
    new = augment(aligned, UNIFIED_GRID, config, np.random.default_rng(6))
    inside = ~new.grating[2]
    drawn = (new.grating[0] - aligned.grating[0])[inside] / (0.1 * np.abs(aligned.grating[0][inside]))
    assert np.std(drawn) == pytest.approx(1.0, abs=0.05)
    good = ~new.prism[2]
    low = (new.prism[0] - aligned.prism[0])[good] / (0.1 * np.abs(aligned.prism[0][good]))
    assert np.std(low) == pytest.approx(1.0, abs=0.1)
    at = np.interp(load_instrument(PRISM).wavelength[good], UNIFIED_GRID.wavelength[inside], drawn)
    assert abs(np.corrcoef(low, at)[0, 1]) < 0.2
    np.testing.assert_allclose(
        new.grating[1][inside] ** 2, aligned.grating[1][inside] ** 2 + (0.1 * aligned.grating[0][inside]) ** 2
    )
    np.testing.assert_allclose(new.noise_free[inside], aligned.noise_free[inside])


def test_augmentation_masks_what_has_no_data_and_what_is_trimmed(aligned):
    new = augment(aligned, UNIFIED_GRID, AugmentationConfig(redshift_sigma=1.5), np.random.default_rng(3))
    stretch = (1 + new.redshift) / (1 + REDSHIFT)
    w = UNIFIED_GRID.wavelength
    beyond = (w < 0.7 * stretch * 0.999) | (w > 5.3 * stretch * 1.001) | (w < 1.0) | (w > 5.0)
    assert new.grating[2][beyond].all() and np.isnan(new.grating[0][beyond]).all()
    assert new.prism_unified[2][(w < 1.0) | (w > 5.0)].all()


def test_augmented_redshifts_follow_the_paper(aligned):
    rng, config = np.random.default_rng(12), AugmentationConfig()
    small = UnifiedGrid(1.0, 1.3, 100.0)
    flat = (np.ones(706), np.ones(706), np.zeros(706, bool))
    fine = tuple(np.ones(small.size, bool) if i == 2 else np.ones(small.size) for i in range(3))
    spectra = AlignedSpectra(flat, fine, fine, np.full(small.size, np.nan), 3.0)
    offsets = [augment(spectra, small, config, rng).redshift - 3.0 for _ in range(300)]
    assert np.std(offsets) == pytest.approx(0.3, rel=0.12) and abs(np.mean(offsets)) < 0.06
    with pytest.raises(ValueError, match="expected realisations >= 0, got -1"):
        AugmentationConfig(realisations=-1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_are_divided_by_the_stretch_as_fluxes_are(aligned, seed):
    config = AugmentationConfig(redshift_sigma=1.0, noise_fraction=0.0, trim=(0.71, 5.2))
    new = augment(aligned, UNIFIED_GRID, config, np.random.default_rng(seed))
    stretch = (1 + new.redshift) / (1 + REDSHIFT)
    assert abs(stretch - 1) > 0.05
    own, good = load_instrument(PRISM).wavelength, ~new.prism[2]
    # the S/N of a pixel does not change when flux density is divided by the stretch
    flux, error, _ = to_pixels(own * stretch, *aligned.prism, own)
    np.testing.assert_allclose(new.prism[0][good], flux[good] / stretch, rtol=1e-9)
    np.testing.assert_allclose(new.prism[1][good], error[good] / stretch, rtol=1e-9)
    w, good = UNIFIED_GRID.wavelength, ~new.grating[2]
    assert good.sum() > 3000
    np.testing.assert_allclose(
        new.grating[1][good], np.interp(w[good] / stretch, w, aligned.grating[1]) / stretch, rtol=1e-4
    )


def test_added_noise_grows_the_quoted_error_of_the_prism(aligned):
    config = AugmentationConfig(redshift_sigma=0.0, noise_fraction=0.1)
    new = augment(aligned, UNIFIED_GRID, config, np.random.default_rng(7))
    good = ~new.prism[2]
    assert good.sum() > 300 and new.redshift == aligned.redshift
    np.testing.assert_allclose(
        new.prism[1][good] ** 2, aligned.prism[1][good] ** 2 + (0.1 * aligned.prism[0][good]) ** 2
    )


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_the_noise_free_spectrum_ends_where_the_trim_does(aligned, sigma):
    config = AugmentationConfig(redshift_sigma=sigma, trim=(1.2, 4.5))
    new = augment(aligned, UNIFIED_GRID, config, np.random.default_rng(8))
    w, stretch = UNIFIED_GRID.wavelength, (1 + new.redshift) / (1 + REDSHIFT)
    inside = (w >= 1.2) & (w <= 4.5)
    known = inside & (w > 0.7001 * stretch) & (w < 5.299 * stretch)
    assert np.isnan(new.noise_free[~inside]).all() and np.isfinite(new.noise_free[known]).all()
    assert new.grating[2][~inside].all() and new.prism_unified[2][~inside].all()


def test_a_spectrum_without_redshift_stays_where_it_is(aligned):
    config = AugmentationConfig(noise_fraction=0.0, trim=(1.0, 5.0))
    new = augment(replace(aligned, redshift=float("nan")), UNIFIED_GRID, config, np.random.default_rng(8))
    assert np.isnan(new.redshift)
    inside = ~new.grating[2]
    assert inside.sum() > 1000
    np.testing.assert_allclose(new.grating[0][inside], aligned.grating[0][inside])
