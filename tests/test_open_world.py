"""A second stage that knows more than galaxies: its losses, its probabilities in results and files."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr import losses
from kspecsr.configuration import OBJECT_CLASSES, PRESETS, STAGES
from kspecsr.evaluation.methods import reconstructions
from kspecsr.evaluation.sources import held_out_of
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import simulated_examples
from kspecsr.models import compose, redshift_bins
from kspecsr.results.data import ModelIdentity
from kspecsr.results.result import Result
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver
from kspecsr.training.stage_model import StageModel
from model_sample import TINY

MODEL = replace(TINY, zhead=replace(TINY.zhead, open_world=True))
PRESET = replace(PRESETS["small"], model=MODEL, feed=replace(PRESETS["small"].feed, population="wide-open"))


@pytest.fixture(scope="module")
def examples():
    """16 spectra, of which four have no redshift, one has two, and one is empty."""
    batch = simulated_examples(np.arange(80), 5, PRESET.feed, TINY.grid)
    known = np.isfinite(batch["true_redshift"])
    rows = np.concatenate([np.flatnonzero(known)[:12], np.flatnonzero(~known)[:4]])
    x, y = split_batch({name: values[rows] for name, values in batch.items()})
    x["prism_mask"][0] = True
    y["second_redshift"][np.flatnonzero(np.isfinite(y["true_redshift"]))[0]] = 2.0
    return x, y


@pytest.fixture(scope="module")
def trained(examples):
    """All stages after some steps on the open world, and the losses of each."""
    keras.utils.set_random_seed(3)
    networks, history = {}, {}
    for stage in STAGES:
        model = StageModel(stage, PRESET, networks)
        model.compile(optimizer=keras.optimizers.AdamW(3e-3, clipnorm=1.0), run_eagerly=True)
        epochs = 15 if stage == "zhead" else 2
        history[stage] = model.fit(*examples, batch_size=16, epochs=epochs, verbose=0).history
        networks[stage] = model.stage_network
    return networks, history


def test_all_stages_train_on_spectra_without_a_redshift(trained, examples):
    assert np.isnan(examples[1]["true_redshift"]).any()
    for stage, history in trained[1].items():
        assert all(np.isfinite(values).all() for values in history.values()), stage
    for term in ("no_redshift", "object_class"):
        assert trained[1]["zhead"][term][-1] < trained[1]["zhead"][term][0], term


def test_classes_follow_the_kinds_of_the_simulator(examples):
    given = examples[1]["object_class"].astype(int)
    assert (given >= 0).all()
    batch = simulated_examples(np.arange(160), 6, PRESET.feed, TINY.grid)
    known, named = np.isfinite(batch["true_redshift"]), np.array(OBJECT_CLASSES)
    classes = named[batch["object_class"].astype(int)]
    assert not known[np.isin(classes, ("no galaxy", "nothing"))].any()
    assert known[np.isin(classes, ("galaxy with lines", "broad lines"))].all()


def test_the_loss_of_no_redshift_is_the_cross_entropy():
    logit = np.array([2.0, -1.0, 5.0], "float32")
    redshift, kind = np.array([1.0, np.nan, np.nan], "float32"), np.array([0.0, 3.0, -1.0], "float32")
    none = 1.0 / (1.0 + np.exp(-logit))
    expected = -0.5 * (np.log(1.0 - none[0]) + np.log(none[1]))  # the third is unknown
    np.testing.assert_allclose(losses.no_redshift_loss(logit, redshift, kind), expected, rtol=1e-5)
    chance = np.log(np.full((3, 5), 0.2, "float32"))
    np.testing.assert_allclose(losses.class_loss(chance, kind), np.log(5.0), rtol=1e-5)


def test_two_sources_share_the_probability():
    """P(z) with half its mass at each is better than with all of it at either."""
    step, bins = 0.01, 60
    first, second = (np.array([np.expm1(k * step)], "float32") for k in (10, 40))
    nothing = np.array([np.nan], "float32")

    def loss(masses, first_one, other):
        probability = np.full((1, bins), 1e-9)
        probability[0, list(masses)] = list(masses.values())
        return float(losses.redshift_nll(np.log(probability).astype("float32"), first_one, step, other))

    half = {10: 0.5, 40: 0.5}
    assert loss(half, first, second) < min(loss({10: 1.0}, first, second), loss({40: 1.0}, first, second))
    assert loss({10: 1.0}, first, nothing) < loss(half, first, nothing)


@pytest.fixture(scope="module")
def resolver(trained):
    identity = ModelIdentity("open", "0" * 64, TINY.grid, {"numpy": np.__version__})
    return SuperResolver(compose(**trained[0]), identity, redshift_bins(MODEL))


@pytest.fixture(scope="module")
def result(resolver, examples):
    flux, error, mask = (examples[0][f"prism_{name}"][5] for name in ("flux", "error", "mask"))
    spectrum = ObservedSpectrum(
        load_instrument(PRISM).wavelength,
        flux * 1e-20,
        error * 1e-20,
        mask,
        SpectrumMeta(disperser="PRISM"),
    )
    return resolver(spectrum)


def test_confidence_has_the_chance_that_there_is_no_redshift(resolver, examples, result):
    assert 0.0 < result.redshift.none < 1.0
    assert result.redshift.confidence <= 1.0 - result.redshift.none + 1e-6
    np.testing.assert_allclose(sum(result.class_probability.values()), 1.0, rtol=1e-5)
    assert result.object_class in OBJECT_CLASSES
    row = row_of(result, "one")
    assert row.no_redshift == result.redshift.none and row.object_class == result.object_class


def test_the_evaluation_judges_the_confidence_that_a_result_states(resolver, examples, result):
    held_out = held_out_of({**examples[0], **examples[1]}, np.arange(16), TINY.grid).rows(np.arange(5, 7))
    judged = reconstructions(held_out, ("sr2",), resolver, {})["sr2"]
    assert judged.confidence[0] == pytest.approx(result.redshift.confidence, rel=1e-3)
    assert OBJECT_CLASSES[np.argmax(judged.class_probability[0])] == result.object_class


@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_files_keep_the_classes(result, tmp_path, ending):
    first, again = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    result.write(first)
    read = Result.read(first)
    assert read.redshift.none == pytest.approx(result.redshift.none)
    assert read.class_probability == pytest.approx(result.class_probability)
    read.write(again)
    assert first.read_bytes() == again.read_bytes()
