"""Stitching, line fitting, alignment and augmentation of one galaxy."""

import numpy as np
import pytest
from scipy.special import ndtr

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.augmentation import AlignedSpectra, AugmentationConfig, augment
from data_pipeline.pairs.line_fit import FittedArm, fit_lines
from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, check_quality, make_pair
from data_pipeline.pairs.stitching import StitchConfig, boundary_step, stitch
from data_pipeline.pixel_grid import UNIFIED_GRID, UnifiedGrid
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta

REDSHIFT = 2.2
FLUX = {"[OII]_3727": 2.0, "[OII]_3730": 2.698, "Hbeta": 1.0, "[OIII]_4960": 1.0, "[OIII]_5008": 2.984,
        "Halpha": 2.863, "[NII]_6550": 0.1, "[NII]_6585": 0.2942}  # fmt: skip
UNIT = 1e-18


def line(instrument, centre, velocity=80.0):
    """Unit-flux line averaged over the pixels of an instrument [1/A]."""
    pixel = np.interp(centre, instrument.wavelength, np.diff(instrument.bounds, axis=0)[0])
    sigma = np.sqrt(instrument.sigma(centre) ** 2 - pixel**2 / 12 + (centre * velocity / 299792.458) ** 2)
    low, high = instrument.bounds
    return (ndtr((high - centre) / sigma) - ndtr((low - centre) / sigma)) / (high - low) * 1e-4


def continuum(wavelength):
    return 4e-20 * (wavelength / 2.0) ** -1.2


def observe(name, scale=1.0, noise=0.0, rng=None, pixels=None):
    instrument = load_instrument(name) if pixels is None else load_instrument(name).with_pixels(pixels)
    flux = continuum(instrument.wavelength)
    lines = load_lines()
    for key, value in FLUX.items():
        flux = flux + value * UNIT * line(instrument, lines.wavelength[lines.index(key)] * (1 + REDSHIFT))
    flux = flux * scale
    sigma = np.full(flux.shape, noise or 1e-20)
    if noise:
        flux = flux + rng.normal(size=flux.shape) * sigma
    meta = SpectrumMeta(disperser=instrument.disperser, path=f"{name}.fits", extraction="3pix")
    return ObservedSpectrum(instrument.wavelength, flux, sigma, np.zeros(flux.shape, bool), meta)


def integrated(wavelength, bounds, flux, centre, width=0.02):
    """Continuum-free flux of a line [erg/s/cm2]."""
    near = (np.abs(wavelength - centre) < width) & np.isfinite(flux)
    return np.sum((flux - continuum(wavelength))[near] * np.diff(bounds, axis=0)[0][near]) * 1e4


@pytest.fixture(scope="module")
def noise_free():
    return stitch([observe(name) for name in GRATINGS])


def test_stitching_conserves_line_flux(noise_free):
    lines = load_lines()
    for key in ("[OII]_3727", "Hbeta", "Halpha"):
        centre = lines.wavelength[lines.index(key)] * (1 + REDSHIFT)
        near = [k for k in FLUX if abs(lines.wavelength[lines.index(k)] * (1 + REDSHIFT) - centre) < 0.02]
        expected = sum(FLUX[k] for k in near) * UNIT
        got = integrated(noise_free.wavelength, UNIFIED_GRID.bounds, noise_free.flux, centre, 0.01)
        assert got == pytest.approx(expected, rel=0.005, abs=0), key


def test_scales_are_recovered_and_applied_towards_the_middle_arm():
    stitched = stitch([observe(name, scale) for name, scale in zip(GRATINGS, (1.2, 1.1, 0.9), strict=True)])
    assert stitched.scales["G235M"] == 1.0
    assert stitched.scales["G140M"] == pytest.approx(1.1 / 1.2, rel=0.005)
    assert stitched.scales["G395M"] == pytest.approx(1.1 / 0.9, rel=0.005)
    smooth = (stitched.wavelength > 3.3) & (stitched.wavelength < 4.0)
    np.testing.assert_allclose(
        stitched.flux[smooth], 1.1 * continuum(stitched.wavelength[smooth]), rtol=0.005
    )


def test_scales_are_unbiased_under_noise():
    rng = np.random.default_rng(7)
    got = [
        stitch(
            [observe("nirspec-g235m", 1.0, 3e-20, rng), observe("nirspec-g395m", 1.15, 3e-20, rng)]
        ).scales["G395M"]
        for _ in range(40)
    ]
    # a one-sided least-squares scale would shrink by about 1 / (1 + (noise / signal)^2)
    assert np.mean(got) == pytest.approx(1 / 1.15, abs=3 * np.std(got) / np.sqrt(40) + 0.005)


def test_scale_error_is_its_scatter():
    rng = np.random.default_rng(8)
    runs = [
        stitch(
            [observe("nirspec-g235m", 1.0, 2e-20, rng), observe("nirspec-g395m", 1.0, 2e-20, rng)]
        ).overlaps["G235M", "G395M"]
        for _ in range(60)
    ]
    # neighbouring grid pixels share a native pixel, so the error may be low by up to about 1.4
    ratio = np.std([r.scale for r in runs]) / np.median([r.scale_error for r in runs])
    assert 0.7 < ratio < 1.6


def test_an_overlap_without_signal_keeps_its_scale_near_one():
    rng = np.random.default_rng(9)
    blank = [observe(name, 0.0, 1e-19, rng) for name in GRATINGS]
    assert all(0.55 < scale < 1.8 for scale in stitch(blank).scales.values())


def test_wild_pixels_at_the_end_of_an_arm_do_not_choose_the_scale():
    rng = np.random.default_rng(2)
    blue, red = observe("nirspec-g235m", 1.0, 1e-20, rng), observe("nirspec-g395m", 1.2, 1e-20, rng)
    calm = stitch([blue, red]).scales["G395M"]
    wild = red.flux.copy()
    wild[3:6] += 3e-18
    got = stitch([blue, red.replace(flux=wild)]).scales["G395M"]
    assert got == pytest.approx(calm, rel=0.01) and got == pytest.approx(1 / 1.2, rel=0.05)


def test_residual_steps_are_removed():
    rng = np.random.default_rng(4)
    steps, before = [], []
    for _ in range(12):
        blue, red = observe("nirspec-g235m", 1.0, 1e-20, rng), observe("nirspec-g395m", 1.0, 1e-20, rng)
        red = red.replace(flux=red.flux + 2e-20)
        s = stitch([blue, red])
        steps += [boundary_step(s.wavelength, s.flux, s.error, s.mask, seam) for seam in s.seams]
        raw = np.where(s.wavelength < s.seams[0], s.segments["G235M"][0], s.segments["G395M"][0] + 2e-20)
        good = ~s.segments["G395M"][2] | ~s.segments["G235M"][2]
        before.append(boundary_step(s.wavelength, np.where(good, raw, 0), s.error, s.mask, s.seams[0]))
    assert np.median(np.abs(steps)) < 0.5
    assert np.median(np.abs(before)) > 1.0


def test_a_missing_grating_and_a_detector_gap_stay_gaps():
    g140m, g395m = observe("nirspec-g140m"), observe("nirspec-g395m")
    gap = (g395m.wavelength > 3.8) & (g395m.wavelength < 4.06)
    s = stitch([g140m, g395m.replace(mask=gap)])
    assert s.mask[(s.wavelength > 2.21) & (s.wavelength < 2.86)].all()
    inside = (s.wavelength > 3.803) & (s.wavelength < 4.057)
    assert s.mask[inside].all() and np.isnan(s.flux[inside]).all()
    assert s.overlaps["G140M", "G395M"].scale_error == np.inf and s.scales == {"G395M": 1.0, "G140M": 1.0}


def test_stitching_refuses_two_of_a_kind_and_none():
    with pytest.raises(SpectrumError, match=r"one spectrum per disperser, got \['G235M', 'G235M'\]"):
        stitch([observe("nirspec-g235m")] * 2)
    with pytest.raises(SpectrumError, match="got none"):
        stitch([])
    with pytest.raises(ValueError, match="expected bin_pixels > 0, got 0"):
        StitchConfig(bin_pixels=0)


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


def test_a_pair_is_aligned_and_measured():
    config = PreprocessingConfig()
    pair = make_pair(observe(PRISM), [observe(name) for name in GRATINGS], REDSHIFT, config)
    assert pair.prism[0].shape == (706,) and pair.prism_unified[0].shape == (UNIFIED_GRID.size,)
    check_quality(pair, config)
    smooth = (UNIFIED_GRID.wavelength > 3.3) & (UNIFIED_GRID.wavelength < 4.0)
    np.testing.assert_allclose(pair.prism_unified[0][smooth], pair.stitched.flux[smooth], rtol=0.01)


def test_line_flux_survives_align_for_another_prism_sampling():
    own = load_instrument(PRISM).wavelength
    coarse = np.interp(np.arange(0, 705, 1.49), np.arange(706), own)
    pair = make_pair(observe(PRISM, pixels=coarse), [observe("nirspec-g235m")], REDSHIFT)
    centre = 0.6564629 * (1 + REDSHIFT)
    expected = (FLUX["Halpha"] + FLUX["[NII]_6550"] + FLUX["[NII]_6585"]) * UNIT
    got = integrated(own, load_instrument(PRISM).bounds, pair.prism[0], centre, 0.12)
    assert got == pytest.approx(expected, rel=0.005, abs=0)


def test_the_quality_cut_names_every_line():
    rng = np.random.default_rng(0)
    pair = make_pair(observe(PRISM), [observe("nirspec-g235m", 0.0, 1e-19, rng)], REDSHIFT)
    with pytest.raises(
        QualityError, match=r"S/N Halpha .*\[OII\]_3727\+\[OII\]_3730 nan.*\(nan: not covered\)"
    ) as info:
        check_quality(pair, PreprocessingConfig())
    assert info.value.step == "line at S/N > 5"


def test_extraction_is_checked():
    with pytest.raises(ValueError, match="expected extraction 3pix or 5pix, got '4pix'"):
        PreprocessingConfig(extraction="4pix")


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
