"""Stitching: scales, steps, hand-overs, gaps, errors."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from benchmarks.stitching_check import boundary_step
from data_pipeline.instrument import GRATINGS, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pairs.stitching import StitchConfig, stitch
from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.spectrum import SpectrumError
from pair_sample import FLUX, REDSHIFT, UNIT, continuum, integrated, line, observe


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
        for _ in range(120)
    ]
    ratio = np.std([r.scale for r in runs]) / np.median([r.scale_error for r in runs])
    assert ratio == pytest.approx(1.0, abs=0.2)


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


def constant_arms(levels, errors):
    """Gratings that disagree by levels too small to be scaled away, each with its own constant error."""
    arms = []
    for name, level, error in zip(GRATINGS, levels, errors, strict=True):
        arm = observe(name)
        arms.append(
            arm.replace(flux=np.full(arm.flux.shape, 5e-20 + level), error=np.full(arm.flux.shape, error))
        )
    return arms


def shares_at(wavelength):
    """Shares of the redder arm in the two hand-overs: ramps over the overlaps of the nominal ranges."""
    return np.interp(wavelength, (1.66, 1.89), (0, 1)), np.interp(wavelength, (2.87, 3.17), (0, 1))


def test_a_hand_over_weighs_by_share_over_variance_and_its_error_is_that_of_the_mean():
    s = stitch(constant_arms((1e-21, 0.0, -2e-21), (2e-20, 1e-20, 3e-20)))
    first, second = shares_at(s.wavelength)
    share = {"G140M": 1 - first, "G235M": first * (1 - second), "G395M": second}
    for blue, red, (low, high) in (("G140M", "G235M", (1.67, 1.88)), ("G235M", "G395M", (2.88, 3.16))):
        at = (s.wavelength > low) & (s.wavelength < high)
        (f1, e1, _), (f2, e2, _) = (tuple(a[at] for a in s.segments[name]) for name in (blue, red))
        w1, w2 = share[blue][at] / e1**2, share[red][at] / e2**2
        np.testing.assert_allclose(s.flux[at], (w1 * f1 + w2 * f2) / (w1 + w2), rtol=1e-9)
        expected = np.sqrt(w1**2 * e1**2 + w2**2 * e2**2) / (w1 + w2)
        np.testing.assert_allclose(s.error[at], expected, rtol=1e-9)
        # a mean of independent values is never better than their inverse-variance mean
        assert np.all(s.error[at] >= (e1**-2 + e2**-2) ** -0.5 * (1 - 1e-9))


def test_quoted_errors_are_the_scatter_in_a_hand_over_as_outside():
    rng = np.random.default_rng(21)
    runs = [stitch([observe(name, 1.0, 1e-20, rng) for name in GRATINGS]) for _ in range(40)]
    pull = np.array([(s.flux - np.mean([r.flux for r in runs], axis=0)) / s.error for s in runs])
    w = runs[0].wavelength

    def scatter(low, high):
        return np.std(pull[:, (w > low) & (w < high)]) * np.sqrt(40 / 39)

    # the cubic through native pixels scatters by 1.16 of what is quoted for white noise, everywhere alike
    for within, beside in (((1.70, 1.85), (1.95, 2.10)), ((2.92, 3.12), (2.60, 2.80))):
        assert scatter(*within) == pytest.approx(scatter(*beside), rel=0.07)
        assert 0.9 < scatter(*within) < 1.25


def test_only_the_arm_in_charge_counts_outside_a_hand_over_and_the_other_stands_in_for_it():
    arms = constant_arms((0.0, 1e-21, 0.0), (1e-20, 2e-20, 1e-21))
    s = stitch(arms)
    reach = {"G140M": (0.71, 1.655), "G235M": (1.895, 2.865), "G395M": (3.175, 5.29)}
    for name, (low, high) in reach.items():
        at = (s.wavelength > low) & (s.wavelength < high)
        np.testing.assert_allclose(s.flux[at], s.segments[name][0][at], rtol=1e-12)
        np.testing.assert_allclose(s.error[at], s.segments[name][1][at], rtol=1e-12)
    # G140M goes on to 2.2 um and G235M to 4.0 um: nobody is in charge where the charged arm is masked
    arms[1] = arms[1].replace(mask=(arms[1].wavelength > 1.98) & (arms[1].wavelength < 2.05))
    arms[2] = arms[2].replace(mask=(arms[2].wavelength > 3.4) & (arms[2].wavelength < 3.6))
    s = stitch(arms)
    for other, (low, high) in (("G140M", (1.985, 2.045)), ("G235M", (3.41, 3.59))):
        at = (s.wavelength > low) & (s.wavelength < high)
        assert not s.mask[at].any()
        np.testing.assert_allclose(s.flux[at], s.segments[other][0][at], rtol=1e-12)


def test_the_error_of_a_scaled_arm_is_scaled():
    plain = stitch([observe("nirspec-g395m", 0.8)])
    s = stitch([observe("nirspec-g235m"), observe("nirspec-g395m", 0.8)])
    at = s.wavelength > 4.2
    assert s.scales["G395M"] == pytest.approx(1.25, rel=0.005)
    np.testing.assert_allclose(s.error[at], s.scales["G395M"] * plain.error[at], rtol=1e-9)
    np.testing.assert_allclose(s.flux[at], s.scales["G395M"] * plain.flux[at], rtol=1e-9)


@pytest.mark.parametrize(
    ("near", "far", "direction"),
    [("nirspec-g235m", "nirspec-g395m", 1), ("nirspec-g235m", "nirspec-g140m", -1)],
)
def test_the_correction_of_a_step_fades_out(near, far, direction):
    blue, red = observe(near), observe(far)
    red = red.replace(flux=red.flux + 4e-21, error=red.error * 0.1)
    blue = blue.replace(error=blue.error * 0.1)
    name = red.meta.disperser
    plain, s = stitch([red]), stitch([blue, red], config=StitchConfig(scale_prior=1e-4))
    (overlap,) = s.overlaps.values()
    # with the scale held at 1 the whole difference is a step
    assert overlap.offset == pytest.approx(-4e-21, rel=0.05, abs=0)
    added = (s.segments[name][0] - s.scales[name] * plain.segments[name][0]) / overlap.offset
    edge = overlap.high if direction > 0 else overlap.low
    for distance, expected in ((-0.1, 1.0), (0.05, 0.75), (0.1, 0.5), (0.15, 0.25), (0.25, 0.0), (0.6, 0.0)):
        at = np.argmin(abs(s.wavelength - (edge + direction * distance)))
        assert added[at] == pytest.approx(expected, abs=0.01), distance


def seen_line(centre):
    """A noise-free unresolved line through the gratings and `stitch`, and as the reference would show it."""
    arms, reference = [], reference_instrument()
    for name in GRATINGS:
        arm, instrument = observe(name), load_instrument(name)
        arms.append(arm.replace(flux=continuum(arm.wavelength) + UNIT * line(instrument, centre, 0.0)))
    s = stitch(arms)
    near = abs(s.wavelength - centre) < 5 * reference.sigma(centre)
    x = (s.wavelength[near] - centre) / reference.sigma(centre)
    width = np.diff(UNIFIED_GRID.bounds, axis=0)[0][near]
    return x, width, (s.flux - continuum(s.wavelength))[near] / UNIT, line(reference, centre, 0.0)[near]


@pytest.mark.parametrize("centre", [1.2, 1.6, 1.92, 1.98, 2.06, 2.5, 2.8, 3.19, 3.23, 3.27, 3.3, 4.2])
def test_a_stitched_line_has_the_reference_s_line_spread_function(centre):
    ratio = []
    for shift in (0.0, 1e-4, 2e-4):  # within a pixel
        x, _, seen, expected = seen_line(centre * (1 + shift))
        fitted = curve_fit(lambda t, a, mu, sd: a * np.exp(-0.5 * ((t - mu) / sd) ** 2), x, seen,
                           (expected.max(), 0, 1))[0]  # fmt: skip
        # resampling adds next to nothing; the fit is to the sampled, not the pixel-averaged profile
        assert abs(fitted[2]) == pytest.approx(1.0, abs=0.02) and abs(fitted[1]) < 0.1
        ratio.append(seen.max() / expected.max())
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("centre", [1.7, 1.775, 1.85, 2.92, 3.02, 3.1])
def test_in_a_hand_over_a_line_s_flux_and_variance_are_those_of_the_mean_of_two_arms(centre):
    x, width, seen, expected = seen_line(centre)
    assert np.sum(seen * width) == pytest.approx(np.sum(expected * width), rel=0.03, abs=0)
    spread = np.sum(seen * width * x**2) / np.sum(seen * width)
    assert spread == pytest.approx(np.sum(expected * width * x**2) / np.sum(expected * width), rel=0.08)
