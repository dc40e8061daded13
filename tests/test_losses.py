"""Losses: they are likelihoods, they see what they should see, and their gradients are finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kspecsr.losses import (
    consistency_loss,
    continuum_loss,
    gaussian_nll,
    high_pass,
    line_flux_nll,
    line_shape_loss,
    outside_losses,
    pixels_between,
    position_loss,
    presence_loss,
    redshift_is,
    redshift_nll,
    residual_l1,
    shifted,
    spectrum_nll,
)
from kspecsr.models import redshift_step
from kspecsr.results.redshift import RedshiftDistribution
from model_sample import TINY

RNG = np.random.default_rng(7)


def number(value):
    return float(np.asarray(value))


def f32(*shape):
    return RNG.normal(size=shape).astype("float32")


def test_the_spectrum_loss_is_minus_the_log_probability_of_the_predicted_normals():
    flux, error, target = f32(3, 50), np.exp(0.5 * f32(3, 50)), f32(3, 50)
    mask = RNG.random((3, 50)) < 0.3
    expected = -stats.norm(flux, error).logpdf(target)[~mask].mean()
    zero = np.zeros_like(target)
    assert number(spectrum_nll(target, zero, mask, flux, error)) == pytest.approx(expected, rel=1e-5)


def test_far_deviations_count_by_their_logarithm():
    """As a normal distribution up to ten sigma, without a step or a kink there; finite far beyond."""
    off = np.array([9.9, 10.0, 10.1, 1e3, 1e6], "float32")
    found = np.asarray(gaussian_nll(off, 0.0 * off, 1.0 + 0.0 * off)) - 0.5 * np.log(2 * np.pi)
    expected = [
        0.5 * 9.9**2,
        50.0,
        50.0 * (1.0 + np.log(1.0201)),
        50.0 * (1.0 + np.log(1e4)),
        50.0 * (1.0 + np.log(1e10)),
    ]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=0.02)


def test_the_targets_own_noise_adds_to_the_predicted_variance():
    flux, error, target, noise = f32(2, 40), np.exp(f32(2, 40)), f32(2, 40), np.exp(f32(2, 40))
    expected = -stats.norm(flux, np.hypot(error, noise)).logpdf(target).mean()
    nothing = np.zeros((2, 40), bool)
    assert number(spectrum_nll(target, noise, nothing, flux, error)) == pytest.approx(expected, rel=1e-5)


def test_the_redshift_loss_is_minus_the_log_probability_of_the_tfp_mixture():
    step = redshift_step(TINY)
    bins = np.arange(400) * step
    logits = 3 * f32(4, 400)
    log_p = logits - np.log(np.exp(logits.astype(float)).sum(axis=1, keepdims=True)).astype("float32")
    z = np.expm1(np.array([0.05, 0.21, 0.3, 0.44])).astype("float32")
    distribution = RedshiftDistribution(np.exp(log_p.astype(float)), bins)
    in_log = -np.asarray(distribution.log_tfd.log_prob(np.log1p(z.astype(float)))).mean()
    assert number(redshift_nll(log_p, z, step)) == pytest.approx(in_log, rel=1e-4)
    # of z itself: the Jacobian of the Expm1 bijector
    in_z = -distribution.log_prob(z).mean()
    assert in_z == pytest.approx(in_log + np.log1p(z.astype(float)).mean(), rel=1e-6)


def test_unknown_redshifts_do_not_count():
    step = redshift_step(TINY)
    log_p = np.log(np.full((2, 100), 0.01, "float32"))
    one = number(redshift_nll(log_p[:1], np.array([0.05], "float32"), step))
    both = number(redshift_nll(log_p, np.array([0.05, np.nan], "float32"), step))
    assert one == pytest.approx(both, rel=1e-6)
    assert number(redshift_nll(log_p, np.full(2, np.nan, "float32"), step)) == 0


def test_redshift_distribution_quantiles_invert_its_cdf_and_samples_follow():
    bins = np.arange(3000) * 7e-4
    p = np.exp(-0.5 * ((bins - 1.1) / 2e-3) ** 2) + 0.5 * np.exp(-0.5 * ((bins - 1.5) / 4e-3) ** 2)
    distribution = RedshiftDistribution(p / p.sum(), bins)
    q = np.array([0.05, 0.3, 0.5, 0.9])
    assert distribution.cdf(distribution.quantile(q)) == pytest.approx(q, abs=2e-3)
    z = np.array([1.9, 2.0, 2.5, 3.5])
    np.testing.assert_allclose(distribution.cdf(z), distribution.tfd.cdf(z), atol=1e-12)
    sample = distribution.sample(4000, seed=1)
    assert np.mean(sample < distribution.quantile([0.3])[0]) == pytest.approx(0.3, abs=0.03)
    with pytest.raises(ValueError, match="expected numbers between 0 and 1"):
        distribution.quantile([0.0])
    with pytest.raises(ValueError, match="one probability per redshift bin"):
        RedshiftDistribution(np.ones(5), bins)


def test_line_flux_likelihood_is_a_normal_in_arcsinh():
    flux, unit = np.abs(f32(2, 9)) * 100, np.exp(f32(2, 9))
    mean, sigma = np.arcsinh(flux / unit) + f32(2, 9), np.exp(0.5 * f32(2, 9))
    use = np.ones((2, 9), "float32")
    expected = -stats.norm(mean, sigma).logpdf(np.arcsinh(flux / unit)).mean()
    assert number(line_flux_nll(flux, 0 * flux, use, mean, sigma, unit)) == pytest.approx(expected, rel=1e-4)
    use[:, 4:] = 0
    expected = -stats.norm(mean, sigma).logpdf(np.arcsinh(flux / unit))[:, :4].mean()
    assert number(line_flux_nll(flux, 0 * flux, use, mean, sigma, unit)) == pytest.approx(expected, rel=1e-4)


def test_presence_is_a_cross_entropy():
    logit, present = f32(3, 5), (RNG.random((3, 5)) < 0.5).astype("float32")
    expected = keras.ops.mean(
        keras.losses.binary_crossentropy(present[..., None], logit[..., None], from_logits=True)
    )
    got = number(presence_loss(present, logit, np.ones((3, 5), "float32")))
    assert got == pytest.approx(number(expected), rel=1e-5)


def test_right_wrong_and_neither():
    true = np.array([2.0, 2.0, 2.0, np.nan], "float32")
    used = np.array([2.003, 2.02, 2.5, 1.0], "float32")
    right, wrong = (np.asarray(part) for part in redshift_is(used, true))
    assert right.tolist() == [1, 0, 0, 0]
    assert wrong.tolist() == [0, 0, 1, 1]


def test_high_pass_is_a_running_mean_of_the_pixels_there_are():
    x = np.random.default_rng(3).normal(1e3, 1.0, (2, 200)).astype("float32")
    window = np.ones(61)
    mean = [np.convolve(row, window, "same") / np.convolve(np.ones(200), window, "same") for row in x]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(high_pass(x)), x - mean, atol=2e-4)


def test_line_shape_loss_sees_a_lost_line_and_no_offset():
    n = 600
    x = np.arange(n)
    line = np.exp(-0.5 * ((x - 300) / 2.0) ** 2).astype("float32")[None] * 10
    mask = (np.abs(x - 300) < 12).astype("float32")[None]
    good, amplitude = np.ones((1, n), "float32"), np.ones((1, n), "float32")
    same = number(line_shape_loss(line + 3, line, good, mask, amplitude))
    lost = number(line_shape_loss(0 * line, line, good, mask, amplitude))
    half = number(line_shape_loss(0.5 * line, line, good, mask, amplitude))
    assert same == pytest.approx(0, abs=1e-4)
    assert 0.4 * lost < half < 0.6 * lost
    assert lost > 0.5


def test_outside_losses_and_l1_are_zero_without_a_correction_and_blind_inside_the_mask():
    n = 200
    amplitude = np.ones((1, n), "float32")
    mask = np.zeros((1, n), "float32")
    mask[:, 90:110] = 1
    spike = np.zeros((1, n), "float32")
    spike[:, 100] = 5
    assert [number(part) for part in outside_losses(0 * spike, amplitude, mask)] == [0, 0]
    assert [number(part) for part in outside_losses(spike, amplitude, mask)] == [0, 0]
    elsewhere = np.roll(spike, 50, axis=1)
    assert all(number(part) > 0 for part in outside_losses(elsewhere, amplitude, mask))
    assert number(residual_l1(spike, amplitude)) == pytest.approx(5 / n)


def test_continuum_loss_counts_most_under_lines_and_only_where_known():
    n = 100
    one = np.ones((2, n), "float32")
    mask = np.zeros((2, n), "float32")
    mask[:, :10] = 1
    inside, outside = np.zeros((2, n), "float32"), np.zeros((2, n), "float32")
    inside[:, :10], outside[:, 10:20] = 1, 1
    known = np.ones(2, "float32")
    assert number(continuum_loss(inside, 0 * one, known, mask, one)) > 5 * number(
        continuum_loss(outside, 0 * one, known, mask, one)
    )
    assert number(continuum_loss(inside, 0 * one, 0 * known, mask, one)) == 0


def test_consistency_loss_ignores_bad_pixels_and_saturates():
    flux, error = np.zeros((1, 50), "float32"), np.ones((1, 50), "float32")
    model = np.zeros((1, 50), "float32")
    good = np.ones((1, 50), "float32")
    assert number(consistency_loss(flux, error, good, model)) == 0
    model[:, 3] = 100
    far = number(consistency_loss(flux, error, good, model))
    model[:, 3] = 1e4
    farther = number(consistency_loss(flux, error, good, model))
    assert far < farther < 3 * far
    good[:, 3] = 0
    assert number(consistency_loss(flux, error, good, model)) == 0


def test_gradients_are_finite_where_nothing_is_known():
    log_p = tf.Variable(np.log(np.full((2, 100), 0.01, "float32")))
    mean = tf.Variable(np.zeros((2, 9), "float32"))
    zero = np.zeros((2, 9), "float32")
    with tf.GradientTape() as tape:
        loss = redshift_nll(log_p, np.full(2, np.nan, "float32"), 1e-3) + line_flux_nll(
            zero, zero, zero, mean, zero + 1, zero
        )
    for gradient in tape.gradient(loss, [log_p, mean]):
        assert np.isfinite(gradient.numpy()).all()


def test_a_shift_moves_a_line_by_whole_and_broken_pixels_and_keeps_its_width():
    x = np.arange(200.0)
    line = np.exp(-0.5 * ((x - 90.0) / 1.6) ** 2)[None].astype("float32")
    moves = np.array([0.0, 3.0, -2.0, 0.5, -1.3, 12.25], "float32")
    found = np.asarray(shifted(np.repeat(line, moves.size, axis=0), moves))
    np.testing.assert_allclose(found[1], np.roll(line[0], 3), atol=1e-6)
    for row, move in zip(found, moves, strict=True):
        centre = (row * x).sum() / row.sum()
        assert centre == pytest.approx(90.0 + move, abs=0.01)
        width = np.sqrt((row * (x - centre) ** 2).sum() / row.sum())
        assert width == pytest.approx(1.6, rel=0.01)
        assert row.sum() == pytest.approx(line.sum(), rel=1e-3)


def test_pixels_between_redshifts_are_nothing_where_the_lines_are_others_or_unknown():
    true = np.array([2.0, 2.0, np.nan], "float32")
    found = np.asarray(
        pixels_between(np.array([2.003, 5.0, 1.0], "float32"), true, np.array([1.0, 0, 0]), 3000.0)
    )
    np.testing.assert_allclose(found, [3000 * np.log(3.003 / 3.0), 0.0, 0.0], rtol=1e-3)


def test_position_loss_pulls_lines_to_their_true_places_and_ignores_what_is_not_judged():
    true = np.array([2.0, np.nan, 4.0], "float32")
    judged = np.array([1.0, 0.0, 0.0], "float32")

    def loss(first):
        return number(position_loss(np.array([first, 1.0, 9.0], "float32"), true, judged))

    assert loss(2.0) == pytest.approx(0.0, abs=1e-6)
    assert loss(2.003) == pytest.approx(loss(1.997), rel=0.01)
    far = 3.0 * np.expm1(100 * 3e-4)
    assert loss(2.0 + far) == pytest.approx(99.0, rel=0.01)  # linear
    assert number(position_loss(np.array([2.5], "float32"), true[:1], judged[1:2])) == 0.0
