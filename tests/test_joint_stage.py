"""A third stage with joint line errors: trained, composed, its covariance in results and files."""

from dataclasses import astuple, replace

import keras
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from data_pipeline.lines import load_lines
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.configuration import PRESETS, STAGES, SR2Config
from kspecsr.configuration.calibration import Calibration, ErrorScale
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import simulated_examples
from kspecsr.models import compose, redshift_bins
from kspecsr.results.data import ModelIdentity
from kspecsr.results.prism_input import PrismInput, prism_wavelength
from kspecsr.results.result import Result
from kspecsr.super_resolver import SuperResolver
from kspecsr.training.stage_model import StageModel
from model_sample import TINY

MODEL = replace(TINY, sr2=replace(TINY.sr2, line_errors="joint"))
PRESET = replace(PRESETS["small"], model=MODEL)
UNIT = 1e-20


@pytest.fixture(scope="module")
def examples():
    x, y = split_batch(simulated_examples(np.arange(8), 5, PRESET.feed, TINY.grid))
    x = {name: value.copy() for name, value in x.items()}
    x["redshift"] = y["true_redshift"].copy()
    x["prism_mask"][0] = True  # an empty spectrum
    return x, y


@pytest.fixture(scope="module")
def trained(examples):
    """All stages, the last one after some steps, and its losses."""
    keras.utils.set_random_seed(3)
    networks, history = {}, {}
    for stage in STAGES:
        model = StageModel(stage, PRESET, networks)
        if stage == "sr2":  # a few steps: quicker than compiling them
            model.compile(optimizer=keras.optimizers.AdamW(3e-3, clipnorm=1.0), run_eagerly=True)
            history = model.fit(*examples, batch_size=8, epochs=5, verbose=0).history
        networks[stage] = model.stage_network
    return networks, history


def test_the_joint_likelihood_is_trained(trained):
    losses = trained[1]["line_flux"]
    assert np.isfinite(trained[1]["loss"]).all()
    assert losses[-1] < losses[0]


def test_it_survives_a_file_without_custom_objects(trained, examples, tmp_path):
    network = trained[0]["sr2"]
    network.save(tmp_path / "sr2.keras")
    again = keras.saving.load_model(tmp_path / "sr2.keras", compile=False)
    x = {
        **{name: examples[0][name] for name in ("prism_flux", "prism_error", "prism_mask", "redshift")},
        "sr1_flux": np.ones((8, TINY.grid.size), "float32"),
        "sr1_error": np.ones((8, TINY.grid.size), "float32"),
        "redshift_error": np.full(8, 1e-3, "float32"),
    }
    first, second = network(x), again(x)
    assert np.array_equal(np.asarray(first["line_correlation"]), np.asarray(second["line_correlation"]))


@pytest.fixture(scope="module")
def results(trained, examples):
    """Results of a model whose line errors are twice those of the networks."""
    calibration = Calibration(line_flux=ErrorScale(factor=(2.0,)))
    network = compose(*(trained[0][stage] for stage in STAGES), calibration)
    identity = ModelIdentity("joint", "ab" * 32, TINY.grid, {})
    resolver = SuperResolver(network, identity, redshift_bins(MODEL))
    x, wavelength = examples[0], prism_wavelength()
    inputs = []
    for row in range(1, 5):
        flux, error = (x[f"prism_{name}"][row].astype(float) * UNIT for name in ("flux", "error"))
        mask = x["prism_mask"][row]
        observed = ObservedSpectrum(wavelength, flux, error, mask, SpectrumMeta(path="x.fits"))
        inputs.append(PrismInput(observed, flux, error, mask))
    return resolver.resolve(inputs, [float(z) for z in x["redshift"][1:5]])


def test_results_have_a_covariance_of_the_reported_lines_with_their_errors(results):
    for result in results:
        lines, joint = result.measurements, result.joint_lines
        assert joint.correlated
        seen = np.flatnonzero(lines.reported)
        assert seen.size > 5
        covariance = joint.covariance[np.ix_(seen, seen)]
        error = lines.flux_error[seen]
        assert np.sqrt(np.diag(covariance)) == pytest.approx(error, rel=1e-3, abs=0)
        correlation = covariance / np.outer(error, error)
        assert np.linalg.eigvalsh(correlation).min() > -1e-3
        off = correlation[~np.eye(seen.size, dtype=bool)]
        assert np.abs(off).max() > 0.05  # blends
        assert np.isnan(np.delete(joint.covariance, seen, axis=0)).all()
        assert np.nanmin(lines.flux / lines.flux_error) >= 0.3 / 2.0 - 1e-3
        o3 = [load_lines().index(name) for name in ("[OIII]_4960", "[OIII]_5008")]
        if lines.reported[o3].all():  # tied: one number
            assert correlation[np.searchsorted(seen, o3[0]), np.searchsorted(seen, o3[1])] > 0.999
        assert result.line_samples(10, seed=1).shape == (10, len(load_lines()))


def test_files_hold_the_covariance_and_are_written_again_the_same(results, tmp_path):
    result = results[0]
    result.write(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdus:
        table = hdus["LINECOV"].data
        names = [str(name).strip() for name in table["NAME"]]
        rows = [load_lines().index(name) for name in names]
        assert rows == np.flatnonzero(result.measurements.reported).tolist()
        expected = result.joint_lines.covariance[np.ix_(rows, rows)]
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert np.abs(table["COVARIANCE"] - expected).max(initial=0, where=True) <= 1e-5 * scale.max()
        assert hdus["RATIOS"].data["NAME"][0].strip() == "[OIII]/Hbeta"
    again = Result.read(tmp_path / "a.fits")
    assert again.joint_lines.correlated
    first, second = (r.ratio("[OIII]_5008", "Hbeta") for r in (result, again))
    if np.isfinite(first.value):
        assert second.value == pytest.approx(first.value, rel=1e-3)
    again.write(tmp_path / "b.fits")
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()
    result.write(tmp_path / "a.ecsv")
    text = Result.read(tmp_path / "a.ecsv")
    for few in (names[:2], names[3:6]):
        found, expected = (astuple(one.flux_of(*few)) for one in (text, result))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * max(expected))
    text.write(tmp_path / "b.ecsv")
    for ending in (".ecsv", "_lines.ecsv"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    ratios = QTable.read(tmp_path / "a_lines.ecsv").meta["ratios"]
    assert ratios["NAME"] == list(result.ratios["NAME"])
    np.testing.assert_allclose(ratios["P50"], result.ratios["P50"], rtol=1e-6)


def test_joint_errors_need_the_direct_fit():
    with pytest.raises(ValueError, match="joint needs the direct fit, got sr2"):
        SR2Config(line_errors="joint", direct_fit=False)
    with pytest.raises(ValueError, match="line_errors: expected one of independent, joint, got 'some'"):
        SR2Config(line_errors="some")
