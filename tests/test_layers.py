"""Identities of the fixed operators: each against a slower, direct computation."""

import numpy as np
import pytest
import scipy.signal
from scipy.special import ndtr

from data_pipeline.instrument import (
    PRISM,
    SPEED_OF_LIGHT,
    degrading_operator,
    load_instrument,
    reference_instrument,
)
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import cubic_interpolation
from kspecsr.layers.geometry import prism_wavelength
from kspecsr.layers.line_tokens import LineDecoder
from kspecsr.layers.lines import LineMask, LinePositions, LineRendering, LineWindows, MultiScalePooling
from kspecsr.layers.operators import PrismDegradation, Upsampling, matrix_blocks
from kspecsr.layers.prism_channels import PrismNormalisation
from kspecsr.layers.redshift import LogCorrelation, RedshiftEstimate
from model_sample import FULL, numpy_dict, spectra

GRID = UnifiedGrid(*FULL)


def render(wavelength, flux=1.0, sigma=None, in_range=1.0, spread=0.0, place_error=0.0):
    wavelength = np.atleast_1d(wavelength).astype("float32")[None]
    if sigma is None:
        width = wavelength / GRID.sampling
        sigma = np.sqrt(reference_instrument().sigma(wavelength) ** 2 - width**2 / 12)
    full = np.ones_like(wavelength)
    layer = LineRendering(FULL)
    numbers = (flux, spread, place_error, wavelength, sigma, in_range)
    drawn = layer(*(full * number for number in numbers))
    return [np.asarray(part)[0].astype(float) for part in drawn]


@pytest.mark.parametrize("scale", [1.22, 1.0])
def test_degradation_equals_the_sparse_operator(scale):
    rng = np.random.default_rng(1)
    flux = 1.0 + rng.random((3, GRID.size))
    operator = degrading_operator(GRID, scale)
    matrix, interior = operator.matrix, operator.interior
    layer = PrismDegradation(FULL, scale)
    out = np.asarray(layer(flux.astype("float32")))
    assert np.allclose(out[:, interior], (matrix @ flux.T).T[:, interior], rtol=1e-5)
    assert interior.mean() > 0.8
    assert np.array_equal(layer.operator().interior, interior)


def test_degradation_of_a_flat_spectrum_is_flat_up_to_its_ends():
    out = np.asarray(PrismDegradation(FULL)(np.ones((1, GRID.size), "float32")))[0]
    seen = (prism_wavelength() > 0.72) & (prism_wavelength() < 5.25)
    assert np.allclose(out[seen], 1.0, atol=1e-4)


def test_upsampling_equals_its_matrix_and_keeps_a_cubic_in_pixels():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 706, 3)).astype("float32")
    out = np.asarray(Upsampling(FULL)(x))
    matrix = cubic_interpolation(load_instrument(PRISM).position(GRID.wavelength), 706)
    assert out.shape == (2, GRID.size, 3)
    for channel in range(3):
        assert np.allclose(out[..., channel], (matrix @ x[..., channel].T).T, atol=1e-5)
    pixel = np.interp(GRID.wavelength, prism_wavelength(), np.arange(706.0))
    line = np.broadcast_to(np.arange(706, dtype="float32")[None, :, None], (1, 706, 1))
    assert np.allclose(np.asarray(Upsampling(FULL)(line))[0, 50:-50, 0], pixel[50:-50], atol=1e-2)


def test_blocks_hold_the_whole_matrix():
    matrix = degrading_operator(GRID, 1.22).matrix
    first, weights = matrix_blocks(matrix, 50)
    dense = np.zeros((first.size * 50, matrix.shape[1]))
    for b, start in enumerate(first):
        dense[b * 50 : (b + 1) * 50, start : start + weights.shape[2]] = weights[b]
    assert np.array_equal(dense[: matrix.shape[0]], matrix.toarray())


def test_a_rendered_line_carries_its_flux_whatever_its_place_within_a_pixel():
    width = np.diff(GRID.bounds, axis=0)[0] * 1e4
    for base in (0.9, 1.75, 3.0, 5.0):
        for phase in np.linspace(-0.5, 0.5, 7):
            centre = base * np.exp(phase / GRID.sampling)
            flux, _ = render(centre, 7.0)
            assert np.sum(flux * width) == pytest.approx(7.0, rel=1e-3)
            at = np.sum(flux * width * GRID.wavelength) / 7.0
            assert abs(at - centre) < 0.02 * base / GRID.sampling


def test_a_rendered_line_agrees_with_a_gaussian_integrated_over_the_pixels():
    centre, sigma = 2.5, 0.0015
    flux = render(centre, 1.0, sigma)[0]
    low, high = GRID.bounds
    exact = (ndtr((high - centre) / sigma) - ndtr((low - centre) / sigma)) / ((high - low) * 1e4)
    assert np.allclose(flux, exact, atol=2e-3 * exact.max())


@pytest.mark.parametrize("velocity", [-3.0, 0.0, 3.0])
def test_a_line_is_never_narrower_than_the_instrument(velocity):
    k = load_lines().index("Halpha")
    positions = numpy_dict(LinePositions(FULL)(np.array([2.0], "float32")))
    raw = np.zeros((1, 67, 7), "float32")
    raw[..., 3] = velocity
    one = np.ones((1, 67), "float32")
    decoded = numpy_dict(
        LineDecoder()(
            raw,
            np.zeros((1, 1), "float32"),
            one,
            one,
            one,
            positions["wavelength"],
            positions["reference_sigma"],
            positions["in_range"],
            np.zeros(1, "float32"),
        )
    )
    assert np.all(decoded["width"] > positions["reference_sigma"])
    width = np.diff(GRID.bounds, axis=0)[0]
    flux = render(positions["wavelength"][0, k], 1.0, decoded["width"][0, k])[0]
    share = flux * width * 1e4
    mean = np.sum(share * GRID.wavelength)
    sigma = np.sqrt(np.sum(share * (GRID.wavelength - mean) ** 2))
    assert sigma > reference_instrument().sigma(mean) * 0.999
    expected = 55.0 * np.exp(velocity) / SPEED_OF_LIGHT * mean
    own = np.sqrt(sigma**2 - reference_instrument().sigma(mean) ** 2)
    assert own == pytest.approx(expected, rel=0.02, abs=0.15 * reference_instrument().sigma(mean))


def test_lines_outside_the_range_contribute_nothing():
    inside = render([2.0, 9.0, 0.3], 1.0, 0.001, np.array([[1.0, 1.0, 1.0]]))
    alone = render([2.0], 1.0, 0.001)
    for ours, theirs in zip(inside, alone, strict=True):
        assert np.array_equal(ours, theirs)
    assert all(np.all(part == 0) for part in render([2.0, 3.0], 1.0, 0.001, 0.0, spread=2.0))


def test_the_line_mask_peaks_at_lines_in_range_and_widens_with_the_redshifts_error():
    z = np.array([2.0, 2.0], "float32")
    at = numpy_dict(LinePositions(FULL)(z))
    names = ("grid_pixel", "wavelength", "reference_sigma", "in_range")
    mask = np.asarray(LineMask(FULL)(*(at[name] for name in names), z, np.array([0.0, 0.01], "float32")))
    assert mask.min() >= 0
    assert mask.max() <= 1
    pixel = np.round(at["grid_pixel"][0, at["in_range"][0] > 0]).astype(int)
    assert np.all(mask[:, pixel] > 0.85)
    assert mask[1].sum() > 2 * mask[0].sum()
    k = load_lines().index("[OIII]_5008")
    place = at["grid_pixel"][0, k]
    pixel = int(np.round(place)) + 2
    sigma = at["reference_sigma"][0, k] / at["wavelength"][0, k] * 3000
    assert mask[0, pixel] == pytest.approx(np.exp(-0.5 * ((pixel - place) / sigma) ** 2), abs=0.01)
    assert mask[0, pixel + 20] < 0.01
    nothing = np.asarray(LineMask(FULL)(*(at[n] for n in names[:3]), 0 * at["in_range"], z, 0 * z))
    assert np.all(nothing == 0)


def test_presence_zero_removes_a_line_and_leaves_its_flux_in_the_error():
    raw = np.zeros((1, 67, 7), "float32")
    raw[..., 2] = np.where(np.arange(67) % 2, -200.0, 200.0)
    one = np.full((1, 67), 2.0, "float32")
    at = np.linspace(1, 5, 67, dtype="float32")[None]
    decoded = numpy_dict(
        LineDecoder()(
            raw,
            np.zeros((1, 1), "float32"),
            10 * one,
            one,
            one,
            at,
            0.001 * one,
            one / 2,
            np.zeros(1, "float32"),
        )
    )
    absent = np.arange(67) % 2 == 1
    assert np.all(decoded["flux"][0, absent] == 0)
    taken = np.sinh(decoded["mean"]) * 2.0  # in the unit of the fit's own errors
    assert np.all(decoded["flux_error"][0, absent] > taken[0, absent])
    assert np.all(decoded["flux_error"][0, ~absent] < taken[0, ~absent])
    assert np.all(decoded["flux"][0, ~absent] > 10)
    assert np.all(decoded["presence"][0, ~absent] == 1)


def test_a_place_that_is_known_adds_no_variance():
    """Not even what rounding leaves of it: the brightest lines are a thousand times their errors."""
    flux, variance = render(2.5, 3.0, 0.0013, place_error=0.0)
    assert np.sqrt(variance.max()) < 1e-6 * flux.max()
    step = 0.02 * 0.0013
    small = render(2.5, 3.0, 0.0013, place_error=step)[1]
    change = 0.5 * np.abs(render(2.5 + step, 3.0, 0.0013)[0] - render(2.5 - step, 3.0, 0.0013)[0])
    steep = change > 0.3 * change.max()
    assert np.sqrt(small[steep]) == pytest.approx(change[steep], rel=0.05)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_the_variance_of_an_uncertain_place_is_that_of_displaced_lines(share):
    """At the peak, where the slope is none, as on the flanks; also for an error as large as the width."""
    at, sigma = 2.5, 0.0013
    error = share * sigma
    variance = render(at, 3.0, sigma, place_error=error)[1]
    plain = render(at, 3.0, sigma)[0]
    offsets, weights = np.polynomial.hermite_e.hermegauss(31)
    drawn = [render(at + error * offset, 3.0, sigma)[0] for offset in offsets]
    square = np.average((np.array(drawn) - plain) ** 2, axis=0, weights=weights)
    seen = square > 0.01 * square.max()
    assert seen[np.argmax(plain)]
    assert seen.sum() >= 7
    assert np.sqrt(variance[seen]) == pytest.approx(np.sqrt(square[seen]), rel=0.06)


def decode(relative_error, shift=0.0, raw_place=0.0):
    raw = np.zeros((1, 67, 7), "float32")
    raw[..., 6] = raw_place
    one = np.ones((1, 67), "float32")
    at = np.linspace(1, 5, 67, dtype="float32")[None]
    common = np.full((1, 1), shift, "float32")
    given = np.full(1, relative_error, "float32")
    return at, numpy_dict(LineDecoder()(raw, common, 9 * one, one, one, at, 1e-3 * one, one, given))


def test_lines_are_shifted_together_by_no_more_than_the_redshift_is_uncertain():
    at, known = decode(0.0, shift=5.0)
    assert np.array_equal(known["wavelength"], at)
    assert np.all(known["shift"] == 0)
    at, inferred = decode(4e-4, shift=5.0)
    assert inferred["wavelength"] / at - 1 == pytest.approx(np.full(at.shape, 3 * 4e-4), rel=2e-2)
    assert decode(0.1, shift=5.0)[1]["shift"] == pytest.approx(0.003, rel=1e-3)


def test_an_uncertain_redshift_widens_errors_and_not_lines():
    known, inferred = decode(0.0)[1], decode(5e-4)[1]
    for name in ("width", "flux", "flux_error", "presence"):
        assert np.array_equal(known[name], inferred[name])
    assert np.all(inferred["place_error"] > 5 * known["place_error"])
    assert np.all(inferred["spread"] > known["spread"])
    assert np.all(inferred["place_error"] <= inferred["width"])


def test_positions_are_those_of_the_instrument_and_the_grid():
    z = np.array([0.3, 2.0, 7.5], "float32")
    found = numpy_dict(LinePositions(FULL)(z))
    wavelength = load_lines().wavelength * (1 + z[:, None].astype(float))
    seen = found["in_range"] > 0
    assert np.array_equal(seen, (wavelength >= GRID.wavelength[0]) & (wavelength <= GRID.wavelength[-1]))
    pixel = np.interp(wavelength, prism_wavelength(), np.arange(706.0))
    assert np.allclose(found["prism_pixel"][seen], pixel[seen], atol=5e-3)
    place = np.log(wavelength / 0.7) * 3000
    assert np.allclose(found["grid_pixel"][seen], place[seen], atol=5e-3)
    prism = load_instrument(PRISM)
    width = np.interp(wavelength, prism.wavelength, np.diff(prism.bounds, axis=0)[0])
    sigma = np.sqrt(found["prism_sigma"] ** 2 + width**2 / 12)
    assert np.allclose(sigma[seen], prism.sigma(wavelength)[seen], rtol=2e-3)


def test_correlation_equals_the_direct_sum():
    rng = np.random.default_rng(4)
    m, channels, steps, groups = 40, 6, 30, 3
    layer = LogCorrelation(steps, 0.01, 0.9, groups)
    features = rng.normal(size=(2, m, channels)).astype("float32")
    out = np.asarray(layer(features))
    templates = np.asarray(layer.templates)
    for k in range(steps):
        window = templates[:, steps - 1 - k : steps - 1 - k + m]
        direct = np.einsum("bmc,cm->bc", features, window).reshape(2, groups, -1).sum(axis=-1)
        assert np.allclose(out[:, k], direct, atol=1e-4)


def test_between_whole_steps_the_correlation_is_interpolated_band_limited():
    features = np.random.default_rng(6).normal(size=(2, 60, 4)).astype("float32")
    coarse, fine = LogCorrelation(40, 0.01, 0.9, 2), LogCorrelation(40, 0.01, 0.9, 2, finer=3)
    whole, found = np.asarray(coarse(features)), np.asarray(fine(features))
    assert found.shape == (2, 3 * 39 + 1, 2)
    assert np.allclose(found[:, ::3], whole, atol=1e-5)
    # the correlation at all lags, periodic in the FFT's length, by SciPy's resampling
    length, templates = fine._length, np.asarray(fine.templates)
    spectrum = np.conj(np.fft.rfft(features[0], length, axis=0).T) * np.fft.rfft(templates, length)
    lags = np.fft.irfft(spectrum, length).reshape(2, 2, -1).sum(axis=1)
    finer = scipy.signal.resample(lags, 3 * length, axis=-1)[:, : 3 * 39 + 1]
    assert np.allclose(found[0], finer[:, ::-1].T, atol=1e-4)


def test_templates_start_from_the_lines():
    layer = LogCorrelation(2500, 1e-3, 0.9, 2)
    layer.build((None, 1500, 4))
    rest = 0.9 * np.exp((np.arange(layer.templates.shape[1]) - 2499) * 1e-3)
    power = np.abs(np.asarray(layer.templates)).mean(axis=0)
    near = np.abs(np.log(rest / load_lines().wavelength[load_lines().index("Halpha")])) < 2e-3
    bare = (rest > 0.075) & (rest < 0.115)
    assert power[near].max() > 5 * power[bare].max()


def test_the_estimate_is_a_local_mean_and_a_given_redshift_wins():
    step = 1e-3
    bins = np.arange(2000) * step
    true = np.log1p(np.array([0.5, 2.0, 3.0]))
    log_p = -0.5 * ((bins - true[:, None]) / (2 * step)) ** 2
    given = np.array([np.nan, np.nan, 1.25], "float32")
    z, error = map(np.asarray, RedshiftEstimate(step)(log_p.astype("float32"), given))
    assert np.allclose(z[:2], [0.5, 2.0], atol=2e-4)
    assert z[2] == np.float32(1.25)
    assert error[:2] == pytest.approx(2 * step * (1 + z[:2]), rel=0.1)
    assert error[2] == 0


def test_windows_are_linear_interpolation():
    rng = np.random.default_rng(5)
    channels = rng.normal(size=(2, 100, 2)).astype("float32")
    pixel = np.array([[10.3, 50.0], [99.0, 0.2]], "float32")
    out = np.asarray(LineWindows(3, 0.5)(channels, pixel))
    assert out.shape == (2, 2, 7, 2)
    for b in range(2):
        for k in range(2):
            place = np.clip(pixel[b, k] + 0.5 * np.arange(-3, 4), 0, 99)
            for c in range(2):
                assert np.allclose(
                    out[b, k, :, c], np.interp(place, np.arange(100), channels[b, :, c]), atol=1e-5
                )


def test_pooling_averages_in_1_3_and_11_bins():
    x = np.arange(33, dtype="float32")[None, :, None] * np.ones((1, 1, 2), "float32")
    out = np.asarray(MultiScalePooling()(x)).reshape(15, 2)
    assert out[0, 0] == pytest.approx(16.0)
    assert out[1:4, 1] == pytest.approx([5.0, 16.0, 27.0])
    assert out[4:, 0] == pytest.approx(np.arange(33).reshape(11, 3).mean(axis=1))


def test_normalisation_scales_with_the_flux_and_ignores_what_is_masked():
    inputs, _ = spectra()
    flux, error, mask = (inputs[f"prism_{name}"] for name in ("flux", "error", "mask"))
    out = numpy_dict(PrismNormalisation()(flux, error, mask))
    brighter = numpy_dict(PrismNormalisation()(1000 * flux, 1000 * error, mask))
    assert np.allclose(brighter["scale"], 1000 * out["scale"], rtol=1e-4)
    assert np.allclose(brighter["flux"], out["flux"], rtol=1e-4, atol=1e-6)
    wild = np.where(mask, np.nan, flux)
    assert np.array_equal(numpy_dict(PrismNormalisation()(wild, error, mask))["flux"], out["flux"])
    # what is not finite, or has no positive error, counts as masked
    unflagged = numpy_dict(PrismNormalisation()(wild, np.where(mask, -1.0, error), np.zeros_like(mask)))
    assert np.array_equal(unflagged["good"], out["good"])
    assert np.allclose(unflagged["flux"], out["flux"])


def test_normalisation_of_a_spectrum_without_a_good_pixel_is_finite():
    out = numpy_dict(
        PrismNormalisation()(
            np.zeros((1, 706), "float32"), np.ones((1, 706), "float32"), np.ones((1, 706), bool)
        )
    )
    assert all(np.isfinite(value).all() for value in out.values())
    assert out["good"].sum() == 0
