"""Perturbed copies of an aligned pair."""

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.pairs.augmentation import AlignedSpectra, AugmentationConfig, augment
from data_pipeline.pairs.preprocessing import make_pair
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
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
