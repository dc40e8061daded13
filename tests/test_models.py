"""Physics of the whole networks, on small ones: shifts, masks, scales, saving."""

import json

import keras
import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from kspecsr.configuration import PRESETS, ModelConfig
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.operators import PrismDegradation
from kspecsr.models import build_sr1, build_sr2, build_zhead, compose, redshift_bins
from kspecsr.results.prism_input import degraded_to_prism, prism_chi_square
from model_sample import TINY, UNIT, numpy_dict, spectra


@pytest.fixture(scope="module")
def stages():
    keras.utils.set_random_seed(1)
    return build_sr1(TINY), build_zhead(TINY), build_sr2(TINY)


@pytest.fixture(scope="module")
def composed(stages):
    return compose(*stages)


def physical(inputs):
    return {
        name: (value * UNIT).astype("float32") if name in ("prism_flux", "prism_error") else value
        for name, value in inputs.items()
    }


def test_shifting_the_spectrum_shifts_the_redshift_distribution_by_as_many_bins(stages):
    """In log wavelength a redshift is a translation: away from the edges P(z) moves by exactly n bins."""
    zhead = stages[1]
    inner = keras.Model(
        [*zhead.get_layer("channels").output, zhead.input["redshift"]],
        zhead.output["redshift_log_probability"],
    )
    rng = np.random.default_rng(2)
    length = TINY.grid.size // TINY.zhead.pooling
    channels, coverage = np.zeros((1, length, 5), "float32"), np.zeros((1, length, 1), "float32")
    channels[:, 300:600] = rng.normal(size=(1, 300, 5))
    coverage[:, 300:600] = 1.0
    z = np.full(1, np.nan, "float32")
    plain = np.asarray(inner([channels, coverage, z]))[0].astype(float)
    for n in (1, 7, 60):
        moved = np.asarray(inner([np.roll(channels, n, 1), np.roll(coverage, n, 1), z]))[0].astype(float)
        bins = n * TINY.zhead.finer
        difference = moved[bins:] - plain[:-bins]
        # log probabilities: the normalisation is the only thing that may change
        assert np.ptp(difference) < 2e-3
        assert np.ptp(plain) > 0.5


def test_masked_pixels_do_not_influence_any_output(composed):
    inputs, _ = spectra(4)
    inputs["prism_mask"] = inputs["prism_mask"].copy()
    inputs["prism_mask"][:, 300:340] = True
    wild = {name: value.copy() for name, value in inputs.items()}
    wild["prism_flux"][inputs["prism_mask"]] = np.nan
    wild["prism_error"][inputs["prism_mask"]] = -5.0
    first, second = (numpy_dict(composed(physical(given))) for given in (inputs, wild))
    for name, value in first.items():
        assert np.array_equal(value, second[name], equal_nan=True), name


def test_outputs_scale_with_the_flux(composed):
    inputs, batch = spectra(4)
    # a known redshift: an untrained P(z) is flat, and its highest bin a matter of rounding
    inputs["redshift"] = np.nan_to_num(batch.redshift, nan=3.0).astype("float32")
    given = physical(inputs)
    brighter = {**given, "prism_flux": 37.0 * given["prism_flux"], "prism_error": 37.0 * given["prism_error"]}
    first, second = numpy_dict(composed(given)), numpy_dict(composed(brighter))
    for name in ("sr1_flux", "sr1_error", "flux", "flux_error", "continuum", "prism_model", "line_flux"):
        scale = np.abs(first[name]).max(axis=1, keepdims=True)
        assert (np.abs(second[name] / 37.0 - first[name]) / scale).max() < 1e-4, name
    for name in ("redshift_probability", "line_presence", "line_fwhm"):
        assert np.allclose(first[name], second[name], rtol=1e-3, atol=1e-4), name


def test_the_composed_model_has_named_inputs_and_outputs_in_physical_units(composed):
    inputs, batch = spectra(5)
    inputs["redshift"][1] = 2.5
    out = numpy_dict(composed(physical(inputs)))
    n, k, z = TINY.grid.size, len(batch.line_names), redshift_bins(TINY).size
    for name in ("sr1_flux", "sr1_error", "flux", "flux_error", "continuum"):
        assert out[name].shape == (5, n)
    for name in ("line_flux", "line_flux_error", "line_wavelength", "line_fwhm", "line_presence"):
        assert out[name].shape == (5, k)
    assert out["redshift_probability"].shape == (5, z)
    assert out["redshift_probability"].sum(axis=1) == pytest.approx(np.ones(5), abs=1e-4)
    assert out["redshift"][1] == np.float32(2.5)
    assert out["redshift_error"][1] == 0 < out["redshift_error"][0]
    # SR1 starts as the up-sampled prism: its flux has the prism's level
    prism = np.where(batch.prism_mask, np.nan, batch.prism_flux)
    ratio = np.median(out["sr1_flux"], axis=1) / np.nanmedian(prism, axis=1)
    assert np.all((ratio > 0.2) & (ratio < 5))
    inside = out["line_in_range"] > 0
    rest = out["line_wavelength"] / (1 + out["redshift"][:, None])
    assert np.all(inside == (out["line_in_range"] == 1))
    assert np.all(out["line_flux"][~inside] == 0)
    assert np.all(np.isnan(out["line_equivalent_width"][~inside]))
    assert rest.max() < 4.2
    assert np.all((out["line_prior_weight"] >= 0) & (out["line_prior_weight"] <= 1))


def test_the_prism_model_is_the_degraded_output(composed):
    inputs, _ = spectra(3)
    out = numpy_dict(composed(physical(inputs)))
    prism = load_instrument(PRISM)
    wavelength = prism.wavelength
    flux = out["flux"].astype(float)
    direct = np.stack([np.interp(wavelength, TINY.grid.wavelength, row) for row in flux])
    middle = (wavelength > 3.0) & (wavelength < 4.8)
    # smooth parts agree with plain interpolation to a few per cent of the brightest flux
    off = np.median(np.abs(out["prism_model"] - direct)[:, middle], axis=1) / np.abs(flux).max(axis=1)
    assert np.all(off < 0.05)
    chi = (inputs["prism_flux"] - out["prism_model"] / UNIT) / inputs["prism_error"]
    # only pixels whose whole line-spread function lies on the output's grid
    interior = PrismDegradation(plain_grid(TINY.grid)).operator().interior
    assert 0.5 < interior.mean() < 0.95
    good = ~inputs["prism_mask"] & interior
    expected = [np.mean(row[ok] ** 2) * 1.5 for row, ok in zip(chi, good, strict=True)]
    assert out["chi_square"] == pytest.approx(expected, rel=2e-3)
    # the same number as what is computed without Keras, for a flagged result
    given = physical(inputs)
    for row in range(3):
        model = degraded_to_prism(flux[row], TINY.grid)
        again = prism_chi_square(*(given[f"prism_{name}"][row] for name in ("flux", "error", "mask")), model)
        assert out["chi_square"][row] == pytest.approx(again, rel=5e-3)


def test_an_unusable_spectrum_does_not_spoil_its_batch(composed):
    inputs, _ = spectra(3)
    given = physical(inputs)
    alone = numpy_dict(composed({name: value[:1] for name, value in given.items()}))
    given["prism_mask"] = given["prism_mask"].copy()
    given["prism_mask"][1] = True
    given["prism_flux"][2] = np.nan
    out = numpy_dict(composed(given))
    assert np.allclose(out["flux"][0], alone["flux"][0], rtol=1e-4, atol=1e-25)
    assert np.isfinite(out["flux"]).all()


def test_a_line_in_a_gap_is_not_in_range_and_leaves_nothing(composed):
    inputs, _ = spectra(2)
    z, k = 3.0, load_lines().index("Halpha")
    wavelength = load_instrument(PRISM).wavelength
    inputs["redshift"][:] = z
    inputs["prism_mask"] = inputs["prism_mask"].copy()
    centre = load_lines().wavelength[k] * (1 + z)
    inputs["prism_mask"][0, np.abs(wavelength - centre) < 0.08] = True
    out = numpy_dict(composed(physical(inputs)))
    assert out["line_in_range"][0, k] == 0 < out["line_in_range"][1, k]
    assert out["line_flux"][0, k] == 0
    assert out["line_flux_error"][0, k] == 0
    assert all(np.isfinite(out[name]).all() for name in ("flux", "flux_error", "line_flux"))


def test_an_unknown_redshift_and_a_given_one_agree_where_they_are_the_same(composed):
    inputs, _ = spectra(3)
    given = physical(inputs)
    inferred = numpy_dict(composed(given))
    told = numpy_dict(composed({**given, "redshift": inferred["redshift"]}))
    assert np.allclose(told["redshift_probability"], inferred["redshift_probability"])
    assert np.all(told["redshift_error"] == 0)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stage_survives_json_and_file_without_custom_objects(stages, number, tmp_path):
    network = stages[number]
    text = network.to_json()
    assert json.loads(text)["class_name"] == "Functional"
    assert len(text) < 200_000  # no pixel grid, no operator
    assert keras.models.model_from_json(text).count_params() == network.count_params()
    network.save(tmp_path / "stage.keras")
    loaded = keras.saving.load_model(tmp_path / "stage.keras")
    rng = np.random.default_rng(number)
    inputs, _ = spectra(2)
    given = {
        name: inputs[name]
        if name in inputs
        else rng.random((2, *tensor.shape[1:]), dtype="float32") + (1.0 if "error" in name else 0.0)
        for name, tensor in network.input.items()
    }
    given["redshift"] = np.array([2.0, 5.0], "float32")
    given = {name: given[name] for name in network.input}
    first, second = numpy_dict(network(given)), numpy_dict(loaded(given))
    for name, value in first.items():
        assert np.array_equal(value, second[name], equal_nan=True), name


def test_the_paper_preset_builds_with_its_own_trunk_and_grid():
    config = PRESETS["paper"].model
    small = ModelConfig(
        grid=config.grid,
        sr1=type(config.sr1)(trunk="grid", channels=4, blocks=1, kernel=3, head_channels=4),
    )
    network = build_sr1(small)
    assert network.output["sr1_flux"].shape == (None, config.grid.size)
    assert network.get_layer("projection").output.shape[1] == config.grid.size


def test_the_default_has_about_three_million_parameters():
    config = PRESETS["default"].model
    count = sum(build(config).count_params() for build in (build_sr1, build_zhead, build_sr2))
    assert 2.5e6 < count < 3.5e6
