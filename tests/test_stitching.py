"""Stitching: scales, steps, hand-overs, gaps, errors."""

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS
from data_pipeline.lines import load_lines
from data_pipeline.pairs.stitching import StitchConfig, boundary_step, stitch
from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.spectrum import SpectrumError
from pair_sample import FLUX, REDSHIFT, UNIT, continuum, integrated, observe


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
