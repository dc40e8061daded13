"""Broad components as columns beside the narrow lines."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.profile import render_lines
from kspecsr import losses
from kspecsr.configuration import PRESETS, STAGES, FeedConfig, SR2Config
from kspecsr.configuration.calibration import Calibration, ErrorScale
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import simulated_examples
from kspecsr.layers.broad_lines import BroadLineInformation, broad_fluxes
from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.line_posterior import free_fluxes
from kspecsr.layers.lines import LinePositions
from kspecsr.layers.prism_channels import PrismNormalisation
from kspecsr.models import compose
from kspecsr.training.stage_model import StageModel
from model_sample import FULL, TINY, UNIT, numpy_dict, spectra

LINES = load_lines()
REDSHIFT, VELOCITY = 4.0, 1700.0  # km/s, FWHM 4,000


def test_broad_lines_are_those_of_permitted_transitions():
    tie = broad_fluxes(67)
    broad = {LINES.names[k] for k in np.flatnonzero(tie.any(axis=1))}
    assert {"Halpha", "Hbeta", "Paalpha", "HeI_10833", "MgII_2796", "MgII_2803", "CIV_1551"} <= broad
    assert not any(name.startswith("[") or "]" in name for name in broad)
    mg = tie[:, tie[LINES.index("MgII_2796")] > 0][:, 0]
    assert mg[LINES.index("MgII_2803")] == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_broad_and_narrow_flux_of_one_line_are_told_apart(share):
    """The most likely fluxes of a noise-free spectrum, from precision and score."""
    instrument = load_instrument(PRISM)
    names, flux = ["Hbeta", "Halpha"], np.array([400.0, 1200.0])
    centre = np.tile(LINES.wavelength[[LINES.index(name) for name in names]] * (1.0 + REDSHIFT), 2)
    parts = np.concatenate([(1.0 - share) * flux, share * flux])
    width = np.array([0.0, 0.0, VELOCITY, VELOCITY])
    spectrum = 1.0 + render_lines(instrument, centre, parts, width, rows=1)
    error = np.full(spectrum.shape, 0.05, "float32")
    prism = PrismNormalisation()(spectrum.astype("float32"), error, np.zeros(spectrum.shape, bool))
    arrays = [prism[name] for name in ("flux", "error", "good", "amplitude")]
    z = np.array([REDSHIFT], "float32")
    at = LinePositions(FULL)(z)
    places = [at[name] for name in ("wavelength", "prism_sigma")]
    fit = DirectLineFit(30)(*arrays, *places, at["in_range"], z)
    information = BroadLineInformation(30)(
        *arrays,
        fit["flux"],
        fit["model"],
        *places,
        at["in_range"],
        z,
        0.0 * z,
        np.array([VELOCITY], "float32"),
        np.zeros(1, "float32"),
    )
    found = {name: value[0].astype(float) for name, value in numpy_dict(information).items()}
    size = found["score"].size
    assert size == free_fluxes(67)[0].shape[1] + broad_fluxes(67).shape[1]
    # a weak prior of 100 isolated errors: lines that are not there cannot be told from each other
    change = np.linalg.solve(found["precision"] + 1e-4 * np.eye(size), found["score"] - 1e-4 * found["start"])
    free = (found["start"] + change) * found["unit"] * float(np.asarray(prism["scale"])[0, 0])
    _, leader = free_fluxes(67)
    for name, total in zip(names, flux, strict=True):
        narrow = free[np.flatnonzero(leader == LINES.index(name))[0]]
        broad = free[leader.size + broad_fluxes(67)[LINES.index(name)].argmax()]
        assert narrow == pytest.approx((1.0 - share) * total, abs=0.08 * total), name
        assert broad == pytest.approx(share * total, abs=0.08 * total), name


MODEL = replace(TINY, sr2=replace(TINY.sr2, line_errors="joint", broad_lines=True))
PRESET = replace(PRESETS["small"], model=MODEL, feed=FeedConfig(population="wide-open"))


@pytest.fixture(scope="module")
def trained():
    """The third stage after some steps on six broad-line galaxies and two others; its losses and outputs."""
    keras.utils.set_random_seed(3)
    examples = simulated_examples(np.arange(256), 5, PRESET.feed, MODEL.grid)
    broad = np.flatnonzero((examples["broad_velocity"] > 0) & (examples["true_redshift"] < 8))[:6]
    plain = np.flatnonzero((examples["broad_velocity"] == 0) & np.isfinite(examples["true_redshift"]))[:2]
    rows = np.concatenate([broad, plain])
    x, y = split_batch({name: values[rows] for name, values in examples.items()})
    x["redshift"] = y["true_redshift"].copy()
    networks = {}
    for stage in STAGES:
        model = StageModel(stage, PRESET, networks)
        networks[stage] = model.stage_network
    model.compile(optimizer=keras.optimizers.AdamW(3e-3, clipnorm=1.0), run_eagerly=True)
    history = model.fit(x, y, batch_size=8, epochs=5, verbose=0).history
    return y, history, numpy_dict(model(x)), networks


def test_broad_lines_are_trained(trained):
    y, history, _, _ = trained
    assert (y["broad_velocity"][:6] > 0).all() and (y["line_broad_flux"][:6].max(axis=1) > 0).all()
    assert np.isfinite(history["loss"]).all()
    assert history["broad_lines"][-1] < history["broad_lines"][0]
    assert history["line_flux"][-1] < history["line_flux"][0]


def test_both_components_are_drawn_and_make_the_total(trained):
    _, _, outputs, _ = trained
    total, narrow, broad = (outputs[f"line_{name}flux"] for name in ("", "narrow_", "broad_"))
    assert np.allclose(total, np.maximum(total, narrow + broad)) and (broad >= 0).all()
    assert not broad[:, [LINES.index("[OIII]_5008"), LINES.index("[SII]_6718")]].any()
    # what is drawn holds the flux of both, of lines that lie on the grid with their wings
    bounds = MODEL.grid.bounds
    drawn = ((outputs["flux"] - outputs["continuum"]) * np.diff(bounds, axis=0)[0] * 1e4).sum(axis=1)
    expected = (narrow + broad).sum(axis=1)
    np.testing.assert_allclose(drawn, expected, rtol=0.08)


def test_correlations_are_those_of_the_totals(trained):
    _, _, outputs, _ = trained
    correlation = outputs["line_correlation"]
    assert np.allclose(np.einsum("bkk->bk", correlation), 1.0, atol=1e-4)
    fixed = [LINES.index(name) for name in ("[OIII]_4960", "[OIII]_5008")]
    assert np.allclose(correlation[:, fixed[0], fixed[1]], 1.0, atol=1e-3)


def test_a_composed_model_states_chance_and_width(trained):
    _, _, _, networks = trained
    calibration = Calibration(line_flux=ErrorScale(factor=(2.0,)))
    x = {name: values[:2] for name, values in spectra(2)[0].items()}
    x = {**x, **{name: x[name] * UNIT for name in ("prism_flux", "prism_error")}}
    parts = [networks[stage] for stage in STAGES]
    plain, doubled = (numpy_dict(compose(*parts, given)(x)) for given in (None, calibration))
    assert ((plain["broad_probability"] > 0) & (plain["broad_probability"] < 1)).all()
    assert ((plain["broad_fwhm"] > 490) & (plain["broad_fwhm"] < 8200)).all()
    seen = plain["line_broad_flux_error"] > 0
    np.testing.assert_allclose(
        doubled["line_broad_flux_error"][seen], 2.0 * plain["line_broad_flux_error"][seen], rtol=1e-4
    )


def test_unknown_components_count_as_narrow_alone():
    """A record states totals: their likelihood must not say that there is no broad part."""
    velocity = np.array([np.nan, 0.0, 800.0], "float32")
    arguments = (np.zeros(3, "float32"), np.full(3, 6.7, "float32"), np.zeros(3, "float32"))
    known = losses.broad_line_loss(*(x[1:] for x in arguments), velocity[1:], np.ones(2, "float32"))
    every = losses.broad_line_loss(*arguments, velocity, np.ones(3, "float32"))
    assert float(every) == pytest.approx(float(known)) and np.isfinite(float(every))


def test_broad_lines_need_joint_errors():
    with pytest.raises(ValueError, match=r"broad_lines: needs sr2\.line_errors = 'joint', got 'independent'"):
        SR2Config(broad_lines=True)
