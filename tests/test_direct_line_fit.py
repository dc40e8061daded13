"""The linear fit inside the graph against NumPy's least squares and against the truth."""

import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import STAR_STEP, continuum_hats, stellar_absorption, tied_lines
from data_pipeline.lines.profile import render_lines
from data_pipeline.simulation import SimulationConfig, simulate_batch
from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.lines import LinePositions
from kspecsr.layers.prism_channels import PrismNormalisation
from kspecsr.methods.direct_fit import DirectFitConfig, fit_prism_lines
from model_sample import FULL, numpy_dict

LINES = load_lines()
PIXELS = load_instrument(PRISM).wavelength


def fit(flux, error, z, mask=None, knots=30):
    mask = np.zeros(flux.shape, bool) if mask is None else mask
    prism = PrismNormalisation()(flux.astype("float32"), error.astype("float32"), mask)
    z = np.asarray(z, "float32")
    at = LinePositions(FULL)(z)
    out = DirectLineFit(knots)(
        prism["flux"],
        prism["error"],
        prism["good"],
        prism["amplitude"],
        at["wavelength"],
        at["prism_sigma"],
        at["in_range"],
        z,
    )
    out, scale = numpy_dict(out), np.asarray(prism["scale"])
    return {name: value * (1.0 if name == "line_mask" else scale) for name, value in out.items()}


def galaxy(z, fluxes):
    """Noise-free prism spectrum with these lines on a sloping continuum [1e-20 erg/s/cm2/A]."""
    names = list(fluxes)
    centre = np.array([LINES.wavelength[LINES.index(name)] for name in names]) * (1 + z)
    flux = np.array(list(fluxes.values()))
    lines = render_lines(load_instrument(PRISM), centre, flux, np.zeros(flux.size), rows=1)
    return lines[0] + 1.0 + 0.3 * (PIXELS - 3.0)


def test_fluxes_of_separate_lines_are_recovered():
    z = 6.0
    true = {"Hbeta": 300.0, "[OIII]_5008": 900.0, "[OIII]_4960": 900.0 / 2.9842, "Halpha": 800.0}
    flux = galaxy(z, true)[None]
    out = fit(flux, np.full(flux.shape, 0.02), [z])
    for name, value in true.items():
        assert out["flux"][0, LINES.index(name)] == pytest.approx(value, rel=0.02), name
    assert np.abs(out["model"] - flux).max() < 0.03 * flux.max()


def test_errors_are_those_of_repeated_noise():
    rng = np.random.default_rng(1)
    z, true = 5.5, {"Hbeta": 200.0, "[OIII]_5008": 500.0, "[OIII]_4960": 167.5, "Halpha": 500.0}
    clean = galaxy(z, true)
    noisy = clean + rng.normal(size=(80, clean.size))
    out = fit(noisy, np.ones(noisy.shape), np.full(80, z))
    k = [LINES.index(name) for name in ("Hbeta", "[OIII]_5008")]
    # white noise here: the layer's errors allow for the correlation of released pixels, a factor of 1.2
    scatter = out["flux"][:, k].std(axis=0)
    assert np.median(out["error"][:, k], axis=0) / 1.2 == pytest.approx(scatter, rel=0.25)
    assert np.all(out["isolated_error"][:, k] <= out["error"][:, k] * 1.001)


def test_it_is_weighted_least_squares():
    rng = np.random.default_rng(2)
    z = 3.0
    flux = galaxy(z, {"Halpha": 300.0, "[OIII]_5008": 200.0})[None] + 0.1 * rng.normal(size=(1, 706))
    error = np.full(flux.shape, 0.1)
    mask = rng.random(flux.shape) < 0.05
    out = fit(flux, error, [z], mask)
    good = ~mask[0]
    residual = (flux - out["model"])[0]
    # at the minimum the weighted residual is orthogonal to every column, up to the ridge
    amplitude = np.asarray(
        PrismNormalisation()(flux.astype("float32"), error.astype("float32"), mask)["amplitude"]
    )[0]
    scale = float(
        np.asarray(PrismNormalisation()(flux.astype("float32"), error.astype("float32"), mask)["scale"])[0, 0]
    )
    weight = good / (error[0] ** 2 + (0.02 * amplitude * scale) ** 2)
    for column in continuum_hats(706, 30):
        norm = np.sqrt(np.sum(weight * column**2))
        if norm > 0:
            assert abs(np.sum(weight * column * residual)) / norm < 0.05 * np.sqrt(good.sum())


def test_masked_pixels_do_not_matter():
    z = 4.0
    flux = galaxy(z, {"Halpha": 300.0})[None]
    mask = np.zeros(flux.shape, bool)
    mask[0, 200:210] = True
    wild = flux.copy()
    wild[mask] = 1e4
    first, second = (fit(f, np.full(f.shape, 0.1), [z], mask) for f in (flux, wild))
    assert np.array_equal(first["flux"], second["flux"])


def test_ties_follow_the_line_list():
    tie = tied_lines(LINES).matrix(len(LINES))
    strong, weak = LINES.index("[OIII]_5008"), LINES.index("[OIII]_4960")
    column = np.flatnonzero(tie[strong])
    assert column.size == 1
    assert tie[strong, column[0]] / tie[weak, column[0]] == pytest.approx(LINES.ratio[strong])
    assert np.all((tie > 0).sum(axis=1) == 1)


def test_hats_add_up_to_one():
    assert continuum_hats(706, 30).sum(axis=0) == pytest.approx(np.ones(706))


def test_stars_do_not_take_light_from_lines():
    """Galaxies with stellar continua, noise-free: [O II] at the Balmer break, Hbeta in absorption."""
    batch = simulate_batch(np.arange(200), 991, SimulationConfig("sky"), gratings=False)
    z = np.where(batch.has_redshift, batch.redshift, np.nan)
    arrays = (batch.noise_free_prism, batch.prism_error, batch.prism_mask, z)
    plain, stars = (fit_prism_lines(*arrays, DirectFitConfig(stellar_absorption=on)) for on in (False, True))
    for names in (("[OII]_3727", "[OII]_3730"), ("Hbeta",)):
        rows = [LINES.index(name) for name in names]
        true = batch.line_flux[:, rows].sum(axis=1)
        strong = true > 5 * plain.line_flux_error[:, rows].max(axis=1)
        assert strong.sum() > 30
        median = [
            np.median(one.line_flux[strong][:, rows].sum(axis=1) / true[strong]) for one in (plain, stars)
        ]
        assert median[0] < 0.98 and median[1] == pytest.approx(1.0, abs=0.02), (names, median)


def test_the_graph_s_stars_are_those_of_numpy():
    layer = DirectLineFit(30, True)
    layer.build()
    z = np.array([0.5, 2.0, 6.0, 14.0])
    mine = np.asarray(layer._star_column(z.astype("float32")))
    start, table = stellar_absorption(load_instrument(PRISM))
    place = (np.log(PIXELS) - np.log1p(z)[:, None] - start) / STAR_STEP
    for row, places in zip(mine, place, strict=True):
        expected = [
            np.interp(at, np.arange(table.shape[1]), one) for at, one in zip(places, table, strict=True)
        ]
        np.testing.assert_allclose(row, expected, atol=2e-3)
    assert np.abs(mine[1]).max() > 0.1 and not mine[1:, 0].any()
    again = DirectLineFit.from_config(layer.get_config())
    assert again.stars and not DirectLineFit.from_config({"knots": 30}).stars
