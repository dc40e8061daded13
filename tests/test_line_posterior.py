"""The posterior of line fluxes against dense computations in float64 with NumPy and SciPy."""

import keras
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from data_pipeline.instrument import ANGSTROM_PER_UM, PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import CORRELATED_NOISE
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import BREAKS, DENSITY_DOUBLETS, break_steps, continuum_hats
from data_pipeline.lines.profile import line_sigma, pixel_mean_gradient, render_lines
from kspecsr import losses
from kspecsr.layers.direct_line_fit import RIDGE, SYSTEMATIC, DirectLineFit
from kspecsr.layers.line_posterior import (
    _WIDTH,
    _ZERO_POINT,
    HEADS,
    INFORMATION,
    LineInformation,
    LinePosterior,
    free_fluxes,
    of_free_fluxes,
)
from kspecsr.layers.lines import LinePositions
from kspecsr.layers.prism_channels import PrismNormalisation
from model_sample import FULL, numpy_dict, spectra

LINES = load_lines()
INSTRUMENT = load_instrument(PRISM)
ERROR = 1e-3  # of 1 + z


@pytest.fixture(scope="module")
def observed():
    """Four galaxies, normalised, at their redshifts; positions, direct fit and information of the lines."""
    inputs, batch = spectra(4, seed=5)
    redshift = batch.redshift.astype("float32")
    prism = PrismNormalisation()(*(inputs[f"prism_{name}"] for name in ("flux", "error", "mask")))
    arrays = [prism[name] for name in ("flux", "error", "good", "amplitude")]
    at = LinePositions(FULL)(redshift)
    places = [at[name] for name in ("wavelength", "prism_sigma")]
    fit = DirectLineFit(30)(*arrays, *places, at["in_range"], redshift)
    in_range = at["in_range"] * fit["constrained"]
    information = LineInformation(30)(
        *arrays, fit["flux"], fit["model"], *places, in_range, redshift, np.full(4, ERROR, "float32")
    )
    return numpy_dict(prism), numpy_dict(fit), np.asarray(in_range), redshift, numpy_dict(information)


def dense(prism, fit, in_range, redshift, row):
    """Precision, score and free columns of one spectrum through the full covariance of its pixels."""
    tie, _ = free_fluxes(67)
    wavelength = LINES.wavelength * (1.0 + redshift[row])
    seen = np.flatnonzero(in_range[row])
    profile = np.zeros((len(LINES), INSTRUMENT.wavelength.size))
    for k in seen:
        profile[k] = render_lines(INSTRUMENT, wavelength[k : k + 1], np.ones(1), np.zeros(1), rows=1)[0]
    flux = np.maximum(fit["flux"][row].astype(float), 0.0) * in_range[row]
    sigma = line_sigma(INSTRUMENT, wavelength[seen], 0.0)

    slopes = pixel_mean_gradient(*INSTRUMENT.bounds, wavelength[seen, None], sigma[:, None])
    by_centre, by_width = (slope / ANGSTROM_PER_UM for slope in slopes)
    strength = flux[seen]
    moving = [
        _ZERO_POINT * (strength * sigma) @ by_centre,
        ERROR * (strength * wavelength[seen]) @ by_centre,
        _WIDTH * (strength * sigma) @ by_width,
    ]
    at = np.array(BREAKS) * (1.0 + redshift[row])
    smooth = np.concatenate(
        [
            continuum_hats(706, 30),
            break_steps(INSTRUMENT.wavelength, at[None], line_sigma(INSTRUMENT, at, 0.0)[None])[0],
        ]
    )
    good = prism["good"][row] > 0
    variance = CORRELATED_NOISE**2 * (
        prism["error"][row] ** 2.0 + (SYSTEMATIC * prism["amplitude"][row].astype(float)) ** 2
    )
    covariance = np.diag(variance[good])
    for column in smooth[:, good]:
        norm = np.sum(column**2 / variance[good])
        if norm > 1e-8:
            covariance += np.outer(column, column) / (norm * RIDGE)
    for column in moving:
        covariance += np.outer(column[good], column[good])
    columns = (tie.T @ profile)[:, good]
    left = (prism["flux"][row].astype(float) - fit["model"][row])[good]
    solved = np.linalg.solve(covariance, np.column_stack([columns.T, left]))
    return columns @ solved[:, :-1], columns @ solved[:, -1]


def test_information_is_that_of_all_pixels_with_their_covariance(observed):
    prism, fit, in_range, redshift, found = observed
    for row in range(4):
        precision, score = dense(prism, fit, in_range, redshift, row)
        unit, seen = found["unit"][row].astype(float), found["in_range"][row] > 0
        assert seen.sum() > 20
        scaled = precision * unit[:, None] * unit
        # on the scale of an isolated line, whose precision is 1
        assert found["precision"][row] == pytest.approx(scaled * np.outer(seen, seen), abs=2e-3)
        assert found["score"][row] == pytest.approx(
            score * unit * seen, abs=5e-3 * (1 + np.abs(score * unit).max())
        )
        assert np.linalg.eigvalsh(found["precision"][row].astype(float)).min() > -1e-4


def test_free_fluxes_are_all_lines_but_partners_that_atomic_physics_fixes():
    tie, leader = free_fluxes(67)
    fixed = sum(
        bool(p) for name, p in zip(LINES.names, LINES.partner, strict=True) if name not in DENSITY_DOUBLETS
    )
    assert tie.shape == (len(LINES), len(LINES) - fixed)
    assert np.all(tie[leader, np.arange(leader.size)] == 1.0)
    flux = np.abs(np.random.default_rng(0).normal(size=(3, leader.size))).astype("float32")
    lines = flux @ tie.T
    known = np.ones_like(lines)
    assert np.asarray(of_free_fluxes(lines, known)) == pytest.approx(flux, rel=1e-5)
    known[:, LINES.index("[OIII]_5008")] = 0.0  # in a gap: its partner tells
    assert np.asarray(of_free_fluxes(lines, known)) == pytest.approx(flux, rel=1e-5)


def posterior(raw, information):
    return LinePosterior()(raw, *(keras.ops.convert_to_tensor(information[name]) for name in INFORMATION))


def test_errors_that_are_stated_too_small_are_found_out():
    """Chi-square per degree of freedom of the most likely fluxes, by which the likelihood is divided."""
    inputs, batch = spectra(4, seed=5)
    redshift = batch.redshift.astype("float32")
    found = []
    for factor in (1.0, 0.1):
        error = inputs["prism_error"] * np.float32(factor)
        prism = PrismNormalisation()(inputs["prism_flux"], error, inputs["prism_mask"])
        arrays = [prism[name] for name in ("flux", "error", "good", "amplitude")]
        at = LinePositions(FULL)(redshift)
        places = [at[name] for name in ("wavelength", "prism_sigma")]
        fit = DirectLineFit(30)(*arrays, *places, at["in_range"], redshift)
        seen = at["in_range"] * fit["constrained"]
        more = (seen, redshift, np.full(4, ERROR, "float32"))
        found.append(LineInformation(30)(*arrays, fit["flux"], fit["model"], *places, *more))
    right, wrong = (numpy_dict(one)["misfit"] for one in found)
    assert (right >= 1.0).all() and (right < 1.6).all()
    assert (wrong > 5.0).all()


def test_posterior_is_that_of_prior_and_likelihood_together(observed):
    """Flux and the likelihood's own error as one normal problem of 2 F numbers, in float64."""
    information = observed[-1]
    F = information["score"].shape[1]
    raw = np.random.default_rng(1).normal(0.0, 0.5, (4, F, HEADS)).astype("float32")
    found = numpy_dict(posterior(raw, information))
    x = raw.astype(float)
    for row in range(4):
        one = {name: information[name][row].astype(float) for name in information}
        seen = np.flatnonzero(one["in_range"])
        start, precision = one["start"][seen], one["precision"][np.ix_(seen, seen)]
        r = x[row, seen]
        level = np.log1p(np.exp(3.0 * (np.arcsinh(np.maximum(start, 0.0)) + r[:, 0]))) / 3.0
        mean = np.sinh(level)
        sigma = np.minimum(np.cosh(level) * np.exp(r[:, 1] - 0.7), 300.0)
        own = np.cosh(level) * np.exp(r[:, 4] - 3.0)
        trust = np.exp(1.5 * np.tanh(r[:, 2].mean()))
        offset = 0.3 * np.cosh(level) * r[:, 3]
        shared = sigma[:, None] * 5.0 * np.tanh(r[:, 5:] / 5.0)
        prior = np.diag(sigma**2) + shared @ shared.T
        data = trust * precision
        total = np.block([[np.linalg.inv(prior) + data, data], [data, np.diag(own**-2) + data]])
        gradient = trust * (one["score"][seen] + precision @ (start - mean - offset))
        covariance = np.linalg.inv(total)
        change = covariance @ np.concatenate([gradient, gradient])
        n = seen.size
        covariance, expected = covariance[:n, :n], mean + change[:n]
        spread = np.sqrt(np.diag(covariance))
        assert (found["mean"][row, seen] - expected) / spread == pytest.approx(np.zeros(n), abs=0.02)
        relative = found["covariance"][row][np.ix_(seen, seen)] / np.outer(spread, spread)
        assert relative == pytest.approx(covariance / np.outer(spread, spread), abs=2e-3)
        assert found["prior_weight"][row, seen] == pytest.approx(spread**2 / np.diag(prior), abs=2e-3)
        rest = np.setdiff1d(np.arange(F), seen)
        assert np.all(found["mean"][row, rest] == 0.0) and np.all(found["prior_weight"][row, rest] == 0.0)


def test_a_prior_without_width_is_recited_and_one_without_limit_is_not_asked(observed):
    information = observed[-1]
    raw = np.zeros((4, information["score"].shape[1], HEADS), "float32")
    raw[..., 4] = -4.0  # the likelihood is trusted
    raw[..., 1] = -20.0
    sure = numpy_dict(posterior(raw, information))
    raw[..., 1] = 20.0
    open_ = numpy_dict(posterior(raw, information))
    seen = information["in_range"] > 0
    assert sure["prior_weight"][seen].min() > 0.9
    measured = seen & (np.einsum("bii->bi", information["precision"]) > 0.5)
    assert np.median(open_["prior_weight"][measured]) < 0.3


def test_joint_likelihood_is_that_of_scipy():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(2, 5, 5))
    covariance = a @ a.transpose(0, 2, 1) + 0.1 * np.eye(5)
    target, mean, error = rng.normal(size=(3, 2, 5))
    error = np.abs(error)
    use = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]])
    expected = 0.0
    for b in range(2):
        k = np.flatnonzero(use[b])
        total = covariance[b][np.ix_(k, k)] + np.diag(error[b, k] ** 2)
        expected -= multivariate_normal.logpdf(target[b, k], mean[b, k], total)
    arrays = [value.astype("float32") for value in (target, error, use, mean, covariance)]
    assert float(losses.joint_nll(*arrays)) == pytest.approx(expected / use.sum(), rel=1e-4)


def test_gradients_are_finite_and_not_zero(observed):
    """Also where a redshift puts all lines out of range."""
    information = {name: value.copy() for name, value in observed[-1].items()}
    for name in INFORMATION[:-1]:
        information[name][0] = 0.0
    F = information["score"].shape[1]
    raw = keras.Input((F, HEADS))
    rest = [keras.Input(information[name].shape[1:]) for name in INFORMATION]
    out = LinePosterior()(keras.layers.Dense(HEADS, kernel_initializer="identity")(raw), *rest)
    model = keras.Model([raw, *rest], [out["mean"], out["covariance"]])

    class Fit(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model

        def call(self, x):
            return self.inner(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return losses.joint_nll(y, 0.0 * y, x[1 + INFORMATION.index("in_range")], *y_pred)

    fit = Fit()
    fit.compile(optimizer=keras.optimizers.SGD(1e-3))
    x = [
        np.full((4, F, HEADS), 0.1, "float32"),
        *(information[n] for n in INFORMATION),
    ]
    before = model.get_weights()
    loss = fit.train_on_batch(x, information["start"])
    after = model.get_weights()
    assert np.isfinite(loss)
    assert all(np.isfinite(w).all() for w in after)
    assert np.abs(after[1] - before[1]).min() > 0  # each of the heads is learned
